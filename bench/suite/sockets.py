"""Sockets: bare flask-sock, thousands of idle sockets, and thousands that reconnect at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

from bench.baselines import EchoServer
from bench.load_generator import Client, Result, Talk, close_all, connect_all, greeted, quantile
from bench.meter import cpu_seconds, memory
from bench.paced_model import Pace, PacedModel
from bench.results import Outcome, Row, Table, at_most, median
from bench.suite.common import MS, benchmark, broken, ms, ratio
from bench.system import STREAMED, Options, chat, folder, run


class _Echoing(WSListener):
    """Sends a text again as soon as the server has echoed it."""

    def __init__(self) -> None:
        self.count = 0
        self.sending = False
        self._transport: WSTransport | None = None

    def on_ws_connected(self, transport: WSTransport) -> None:
        self._transport = transport

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type is WSMsgType.TEXT:
            self.count += 1
            if self.sending:
                transport.send(WSMsgType.TEXT, b"client 1 asks 1")

    def begin(self) -> None:
        self.sending = True
        assert self._transport is not None
        self._transport.send(WSMsgType.TEXT, b"client 1 asks 1")


@benchmark("echo", "Bare flask-sock: an echo, and its memory for idle sockets")
def _echo(options: Options, _: PacedModel) -> Outcome:
    idle, rates, each = options.count(2000, 20), [], []
    with folder() as logs, EchoServer(logs) as server:

        async def main() -> float:
            async def connect(number: int) -> tuple[WSTransport, Any]:
                host = f"127.0.0.{1 + number // 5000}"
                return await ws_connect(_Echoing, server.url, local_addr=(host, 0))

            talking = [await connect(n) for n in range(10)]
            before = memory([server.process.pid])
            waiting = [await connect(n) for n in range(idle)]
            kilobytes = (memory([server.process.pid]) - before) / idle / 1000
            for _ in range(options.runs):
                listeners: list[_Echoing] = [listener for _, listener in talking]
                cpu, counted, began = (
                    cpu_seconds([server.process.pid]),
                    sum(x.count for x in listeners),
                    time.monotonic(),
                )
                for listener in listeners:
                    listener.begin()
                await asyncio.sleep(options.seconds(2))
                echoes = sum(x.count for x in listeners) - counted
                rates.append(echoes / (time.monotonic() - began))
                each.append((cpu_seconds([server.process.pid]) - cpu) * MS / echoes)
                for listener in listeners:
                    listener.sending = False
                await asyncio.sleep(0.1)
            for transport, _ in talking + waiting:
                transport.disconnect(graceful=False)
            return kilobytes

        kilobytes = run(main())
    table = Table(
        "Bare flask-sock (gunicorn, gevent)",
        ["echoes, 10 sockets", "CPU an echo", f"memory a socket, {idle} idle"],
        [[f"{median(rates):.0f}/s", f"{median(each):.3f} ms", f"{kilobytes:.0f} KB"]],
    )
    return Outcome(tables=[table])


@benchmark("idle", "10 000 idle sockets on one web process")
def _idle(options: Options, model: PacedModel) -> Outcome:
    many = options.count(10_000, 40)
    few_times: list[float] = []
    many_times: list[float] = []
    results: list[Result] = []
    sizes: list[int] = []
    with chat(model) as system:

        async def times(clients: Sequence[Client], into: list[float]) -> None:
            for _ in range(options.runs):
                result, _ = await system.talk(clients, options.seconds(2), 0.2)
                into.append(quantile(result.latencies, 0.5))
                results.append(result)

        async def main() -> float:
            model.set(Pace())
            clients = system.clients(11)
            await connect_all(clients, system.url)
            await system.talk(clients[:1], options.seconds(1), 0)
            await times(clients[:1], few_times)
            sizes.append(system.memory()["web"])
            crowd = await asyncio.to_thread(system.clients, many)
            began = time.monotonic()
            await connect_all(crowd, system.url)
            took = time.monotonic() - began
            # The sockets become idle.
            await asyncio.sleep(options.seconds(2))
            await system.calm()
            sizes.append(system.memory()["web"])
            await times(clients[:1], many_times)
            alive = sum(not client.closed.is_set() for client in crowd)
            if alive != many:
                results[-1].problems.append(f"{many - alive} idle sockets were closed")
            await close_all(crowd)
            await system.calm()
            await times(clients[:1], few_times)
            await close_all(clients)
            return took

        took = run(main())
    kilobytes = (sizes[1] - sizes[0]) / many / 1000
    beside = ratio(median(many_times), median(few_times))
    return Outcome(
        rows=[
            Row(
                f"{many} idle sockets on one web process: memory each",
                "at most 50 KB",
                f"{kilobytes:.1f} KB (web grew from {sizes[0] / 1e6:.0f} to {sizes[1] / 1e6:.0f} MB); "
                f"connected in {took:.1f} s",
                at_most(kilobytes, 50),
                1,
                "one run: it takes as long as connecting them; PSS, so that shared pages count once",
            ),
            Row(
                f"reply p50 of one user beside {many} idle sockets, against beside 10",
                "at most 2 ×",
                f"{beside:.2f} × ({ms(median(many_times))} against {ms(median(few_times))})",
                at_most(beside, 2.0),
                options.runs,
                "before, during and after; model at 0 ms",
                broken=broken(*results),
            ),
        ]
    )


@benchmark("reconnect", "2 000 clients reconnecting at once with after=")
def _reconnect(options: Options, model: PacedModel) -> Outcome:
    returning = options.count(2000, 20)
    served: list[float] = []
    worst: list[float] = []
    before: list[float] = []
    problems: list[Any] = []
    with chat(model) as system:

        async def main() -> None:
            crowd = await asyncio.to_thread(system.clients, returning)
            others = system.clients(20)
            for client in crowd:
                await asyncio.to_thread(system.give_history, client, 6)
            await connect_all(crowd + others, system.url)
            model.set(STREAMED)
            for _ in range(options.runs):
                await system.calm()
                calm, _ = await system.talk(others, options.seconds(3), options.seconds(1))

                async def storm(talk: Talk) -> None:
                    await close_all(crowd)
                    talk.result.latencies.clear()
                    began = time.monotonic()
                    # All at once, without a bound on handshakes. Each client misses four of six messages.
                    await asyncio.gather(*(c.connect(system.url, after="old1") for c in crowd))
                    await greeted(crowd)
                    served.append(max(c.greeted_at for c in crowd) - began)
                    await asyncio.sleep(max(options.seconds(2), 0.7))

                for client in crowd:
                    client.frames = 0
                stormy, _ = await system.talk(others, 0, options.seconds(1), during=storm)
                # The `session` frame and four messages: those after the second human message of three.
                problems.extend(
                    c for c in crowd if not c.session or c.session["recovered"] is not True or c.frames != 4
                )
                before.append(quantile(calm.latencies, 0.95))
                worst.append(max(stormy.latencies, default=99.0))
                problems.extend(r.problems[0] for r in (calm, stormy) if not r.kept)
            await close_all(crowd + others)

        run(main())
    slower = median([ratio(w, b) for w, b in zip(worst, before, strict=True)])
    return Outcome(
        rows=[
            Row(
                f"{returning} clients reconnecting at once with after=: all served",
                "within 5 s",
                f"{median(served):.2f} s (slowest of {options.runs}: {max(served):.2f} s)",
                at_most(median(served), 5),
                options.runs,
                broken=f"{len(problems)} clients did not get what they missed: {problems[:1]}" if problems else "",
            ),
            Row(
                "the slowest reply of 20 others meanwhile (model at 0.5 s in 25 tokens), against their p95 before",
                "at most 2 ×",
                f"{slower:.2f} × ({ms(median(worst))} against {ms(median(before))})",
                at_most(slower, 2.0),
                options.runs,
            ),
        ]
    )
