"""Where the time of one reply goes: the steps on its path, as Redis' MONITOR shows them."""

from __future__ import annotations

import asyncio
import hashlib
import re
import socket
import threading
import time
from typing import Self

from bench.calibration import bare_call
from bench.load_generator import Client, Talk, close_all, connect_all, drain, quantile
from bench.paced_model import Pace, PacedModel
from bench.results import Outcome, Table, median
from bench.suite.common import benchmark, ms
from bench.system import Options, chat, run
from chatbot.store.script_texts import source

#: A line of MONITOR: epoch seconds, the source of the command, and its first two words.
_LINE = re.compile(rb'^\+?(\d+\.\d+) \[\d+ [^]]*\] "(\w+)"(?: "([^"]*)")?')
#: The steps that Redis sees, with what happens between the step before and this one.
_STEPS = {
    "accept": "the frame is read, checked and sent to Redis",
    "claim": "the message is stored and its task enqueued; Celery: from the queue to the thread that runs the task",
    "commit": "the claim is answered, the model called, its reply read",
}
_LAST = "the reply is stored and published, received by web, and sent to the client"


class _Monitor:
    """The commands that a Redis executes, each with its start by Redis' clock."""

    def __init__(self, port: int) -> None:
        self.seen: list[tuple[float, str]] = []
        self._port = port
        # The names under which EVALSHA calls scripts.
        self._scripts = {_sha1(source(name)): name for name in ("accept", "claim", "commit")}

    def __enter__(self) -> Self:
        self._socket = socket.create_connection(("127.0.0.1", self._port))
        self._socket.sendall(b"MONITOR\r\n")
        self._thread = threading.Thread(target=self._read, name="monitor", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()

    def _read(self) -> None:
        with self._socket.makefile("rb") as lines:
            for line in lines:
                found = _LINE.match(line)
                if found is None:
                    continue
                command, argument = found[2].decode().upper(), (found[3] or b"").decode("utf-8", "replace")
                name = self._scripts.get(argument) if command == "EVALSHA" else command
                if name in _STEPS:
                    self.seen.append((float(found[1]), name))


def _sha1(text: str) -> str:
    return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


@benchmark("way", "The path of one reply: where the time goes that the chat adds")
def _way(options: Options, model: PacedModel) -> Outcome:
    sent: list[float] = []
    answered: list[float] = []
    talk = Talk()

    def again(client: Client) -> None:
        answered.append(time.time())
        if talk.sending:
            sent.append(time.time())
            client.say(talk)

    with chat(model) as system:

        async def main() -> tuple[float, list[tuple[float, str]]]:
            model.set(Pace())
            clients = system.clients(1)
            await connect_all(clients, system.url)
            plain, _ = await system.talk(clients, options.seconds(2), options.seconds(1))
            clients[0].on_done = again
            with _Monitor(system.deployment.redis_port) as monitor:
                clients[0].say(talk)
                await asyncio.sleep(options.seconds(3))
                await drain(talk)
            await close_all(clients)
            return quantile(plain.latencies, 0.5), monitor.seen

        undisturbed, seen = run(main())
        direct = run(bare_call(model, options.count(500, 20)))
    return _outcome(seen, sent, answered, undisturbed, direct)


def _outcome(
    seen: list[tuple[float, str]], sent: list[float], answered: list[float], undisturbed: float, direct: float
) -> Outcome:
    spent: dict[str, list[float]] = {name: [] for name in (*_STEPS, "")}
    steps = iter(seen)
    for began, ended in zip(sent, answered[1:], strict=False):
        at = {}
        for moment, name in steps:
            if moment >= began:
                at[name] = moment
            if name == "commit" and moment >= began:
                break
        before = began
        if list(at) != list(_STEPS):
            # Another command came between, such as the LPUSH of the sweep's task.
            continue
        for name in _STEPS:
            spent[name].append(at[name] - before)
            before = at[name]
        spent[""].append(ended - before)
    rows = [[words, ms(median(spent[name]))] for name, words in (*_STEPS.items(), ("", _LAST))]
    rows.append(["**in all**", ms(sum(median(times) for times in spent.values()))])
    table = Table(
        "The path of one reply, one user, model at 0 ms",
        ["step", "p50"],
        rows,
        f"{len(spent[''])} replies, by Redis' MONITOR, which takes time itself: without it a reply takes "
        f"{ms(undisturbed)}. The model, asked directly, takes {ms(direct)} of the third step.",
    )
    return Outcome(tables=[table])
