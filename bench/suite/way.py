"""Where the time of one reply goes: its way, as Redis sees it pass."""

from __future__ import annotations

import asyncio
import hashlib
import re
import socket
import threading
import time
from typing import Self

from bench.load import Client, Talk, close_all, connect_all, quantile, settle
from bench.model import Model, Pace
from bench.proof import bare_call
from bench.results import Outcome, Table, median
from bench.stage import Options, chat, run
from bench.suite.common import benchmark, ms
from chatbot.store.scripts import source

#: A line of MONITOR: seconds since 1970, where the command came from, and its first two words.
_LINE = re.compile(rb'^\+?(\d+\.\d+) \[\d+ [^]]*\] "(\w+)"(?: "([^"]*)")?')
#: The steps of a reply that Redis sees, and what lies between each and the one before.
_STEPS = {
    "accept": "the frame is read and checked; to Redis",
    "LPUSH": "the message is stored, the `ack` sent, the task made",
    "claim": "Celery: from the queue to the thread that runs the task",
    "commit": "the claim is answered, the model asked, its reply read",
}
_LAST = "the reply is stored and published, heard, and sent to the client"


class _Monitor:
    """The commands that a Redis carries out, each with the time at which it began, by Redis' clock."""

    def __init__(self, port: int) -> None:
        self.seen: list[tuple[float, str]] = []
        self._port = port
        # As Redis names scripts.
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


@benchmark("way", "The way of one reply: where the time goes that the project adds")
def _way(options: Options, model: Model) -> Outcome:
    sent: list[float] = []
    answered: list[float] = []
    talk = Talk()

    def again(client: Client) -> None:
        answered.append(time.time())
        if talk.sending:
            sent.append(time.time())
            client.say(talk)

    with chat(model) as stage:

        async def main() -> tuple[float, list[tuple[float, str]]]:
            model.set(Pace())
            clients = stage.clients(1)
            await connect_all(clients, stage.url)
            plain, _ = await stage.talk(clients, options.seconds(2), options.seconds(1))
            clients[0].on_done = again
            with _Monitor(stage.deployment.redis_port) as monitor:
                clients[0].say(talk)
                await asyncio.sleep(options.seconds(3))
                await settle(talk)
            await close_all(clients)
            return quantile(plain.latencies, 0.5), monitor.seen

        undisturbed, seen = run(main())
        direct = run(bare_call(model, options.count(500, 20)))
    return _told(seen, sent, answered, undisturbed, direct)


def _told(
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
            # A heartbeat's command may look like one of these, and the sweep's task is an LPUSH.
            continue
        for name in _STEPS:
            spent[name].append(at[name] - before)
            before = at[name]
        spent[""].append(ended - before)
    rows = [[words, ms(median(spent[name]))] for name, words in (*_STEPS.items(), ("", _LAST))]
    rows.append(["**in all**", ms(sum(median(times) for times in spent.values()))])
    table = Table(
        "The way of one reply, one user, model at 0 ms",
        ["from step to step", "p50"],
        rows,
        f"{len(spent[''])} replies, as Redis' MONITOR saw them pass, which takes time itself: without it a reply takes "
        f"{ms(undisturbed)}. The model, asked directly, takes {ms(direct)} of the fourth.",
    )
    return Outcome(tables=[table])
