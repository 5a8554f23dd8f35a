"""The benchmarks, by name. Each has processes of its own, and measures what it compares in turns."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

from bench import proof
from bench.bare import Celerys, EchoServer
from bench.load import Client, Result, Talk, close_all, connect_all, converse, greeted, quantile, settle
from bench.meter import Cost, Meter, cpu_seconds, memory
from bench.model import Model, Pace
from bench.results import Outcome, Row, Table, at_least, at_most, median
from bench.stage import STREAMED, Chat, Options, chat, folder, run
from tests.deployment import redis_server

#: What a person at a benchmark of idle or returning sockets waits for.
_MS = 1000.0


@dataclass(frozen=True)
class Benchmark:
    """A name, what it is about, and how it is run."""

    name: str
    title: str
    measure: Callable[[Options, Model], Outcome]


BENCHMARKS: dict[str, Benchmark] = {}


def _benchmark(name: str, title: str) -> Callable[[Callable[[Options, Model], Outcome]], Any]:
    def add(measure: Callable[[Options, Model], Outcome]) -> Callable[[Options, Model], Outcome]:
        BENCHMARKS[name] = Benchmark(name, title, measure)
        return measure

    return add


def _ms(seconds: float) -> str:
    return f"{seconds * _MS:.1f} ms" if seconds < 0.1 else f"{seconds * _MS:.0f} ms"


def _broken(*results: Result) -> str:
    told = [f"{r.trouble()}: {r.problems[:1]}" for r in results if not r.kept]
    if not any(r.latencies for r in results):
        told.append("no reply within the time measured")
    return "; ".join(told)


def _ratio(value: float, base: float) -> float:
    """0 where there is nothing to divide by: a stretch too short for a reply, which its row tells of."""
    return value / base if base else 0.0


def _costs(cost: Cost, replies: int, *parts: str) -> str:
    return " / ".join(f"{cost.per(replies, part):.2f}" for part in parts)


@_benchmark("generator", "The load generator and the model server, alone, at more than their duty")
def _generator(options: Options, model: Model) -> Outcome:
    outcome = Outcome()
    table = Table(
        "Not the bottleneck: generator and model server by themselves",
        ["what", "rate", "CPU of one core", "CPU each", "p50", "p99"],
        [],
        "The generator talks to an echo that answers each message with ack, delta and reply; the model server is asked "
        "directly. The chat's own figures say how much of a core both take while they serve it.",
    )

    async def echo(url: str) -> None:
        clients = [Client(n, "x") for n in range(50)]
        await connect_all(clients, url)
        cpu = time.process_time()
        result = await converse(clients, options.seconds(3), warm_up=0)
        cpu = time.process_time() - cpu
        table.rows.append(
            [
                "generator, 50 clients",
                f"{result.rate:.0f} replies/s",
                f"{cpu / result.seconds:.0%}",
                f"{cpu / max(result.answered, 1) * 1e6:.0f} µs a reply",
                _ms(quantile(result.latencies, 0.5)),
                _ms(quantile(result.latencies, 0.99)),
            ]
        )
        outcome.series["generator_rate"] = result.rate
        await close_all(clients)

    with proof.EchoChat() as server:
        run(echo(server.url))
    for what, clients, pace in (
        ("model server, 200 streams at 20 tokens/s", 200, Pace(0.05, 0.05, 100 if options.scale == 1 else 10)),
        ("model server, 400 replies at once, 2 s", 400, Pace(options.seconds(2.0))),
        ("model server, at 0 ms", 10, Pace()),
    ):
        meter = Meter({"model": [model.pid]})
        events, times = run(proof.ask_model(model, pace, clients, options.seconds(3)))
        cost = meter.lap()
        table.rows.append(
            [
                what,
                f"{events / cost.seconds:.0f} events/s",
                f"{cost.share('model'):.0%}",
                f"{cost.cpu['model'] / events * 1e6:.0f} µs an event",
                _ms(quantile(times, 0.5)),
                f"{_ms(quantile(times, 0.99))} (ideal {_ms(pace.duration)})",
            ]
        )
    outcome.tables.append(table)
    return outcome


@_benchmark("cost", "CPU of a reply, and the time that the project adds, against bare Celery")
def _cost(options: Options, model: Model) -> Outcome:
    ours: list[tuple[Result, Cost]] = []
    alone: list[Result] = []
    floods: dict[str, list[dict[str, Any]]] = {"threads": [], "prefork": []}
    trips: dict[str, list[float]] = {"threads": [], "prefork": []}
    bare_calls: list[float] = []

    with ExitStack() as stack:
        stage = stack.enter_context(chat(model))
        url, logs = stack.enter_context(redis_server()), stack.enter_context(folder())
        bare = {
            "threads": stack.enter_context(Celerys(url, logs, "threads", "-P", "threads", "-c", "100")),
            "prefork": stack.enter_context(Celerys(url, logs, "prefork")),
        }

        async def main() -> None:
            clients = stage.clients(10)
            await connect_all(clients, stage.url)
            await stage.talk(clients, options.seconds(1), 0)
            for _ in range(options.runs):
                # Bare Celery is quiet while the chat talks, and the other way round.
                model.set(Pace())
                ours.append(await stage.talk(clients, options.seconds(4), 0.2))
                for name, celery in bare.items():
                    floods[name].append(await asyncio.to_thread(celery.flood, options.count(2000, 50)))
                bare_calls.append(await proof.bare_call(model, options.count(500, 20)))
                result, _ = await stage.talk(clients[:1], options.seconds(1.5), 0.1)
                alone.append(result)
                for name, celery in bare.items():
                    answer = await asyncio.to_thread(celery.trips, options.count(300, 20))
                    trips[name].append(quantile(answer["times"], 0.5))
            stage.check_history(clients, ours[-1][0])
            await close_all(clients)

        run(main())

    each = [cost.per(len(result.latencies), "web", "worker") for result, cost in ours]
    per_task = {
        name: [(f["publisher"] + f["worker"]) * _MS / f["tasks"] for f in found] for name, found in floods.items()
    }
    ratios = [mine / theirs for mine, theirs in zip(each, per_task["prefork"], strict=True)]
    against_threads = [mine / theirs for mine, theirs in zip(each, per_task["threads"], strict=True)]
    added = [quantile(r.latencies, 0.5) - call for r, call in zip(alone, bare_calls, strict=True)]
    slower = [mine / theirs for mine, theirs in zip(added, trips["prefork"], strict=True)]
    slower_threads = [mine / theirs for mine, theirs in zip(added, trips["threads"], strict=True)]
    outcome = Outcome()
    outcome.rows.append(
        Row(
            "CPU of web + worker per reply, model at 0 ms, 10 users, against bare Celery per no-op task",
            "at most 2.0 ×",
            f"{max(median(ratios), median(against_threads)):.2f} × ({median(each):.2f} ms; Celery as it comes "
            f"{median(per_task['prefork']):.2f} ms: {median(ratios):.2f} ×, with threads "
            f"{median(per_task['threads']):.2f} ms: {median(against_threads):.2f} ×)",
            at_most(max(median(ratios), median(against_threads)), 2.0),
            options.runs,
            "judged by the cheaper of the two pools",
            broken=_broken(*(r for r, _ in ours)),
        )
    )
    outcome.rows.append(
        Row(
            "time added to the model's, one user, p50, against bare Celery's round trip",
            "at most 3 ×",
            f"{max(median(slower), median(slower_threads)):.2f} × ({_ms(median(added))}; Celery as it comes "
            f"{_ms(median(trips['prefork']))}, with threads {_ms(median(trips['threads']))})",
            at_most(max(median(slower), median(slower_threads)), 3.0),
            options.runs,
            "judged by the faster of the two pools",
            broken=_broken(*alone),
        )
    )
    table = Table(
        "What a reply costs, in ms of CPU (model at 0 ms)",
        ["what", "rate", "publisher or web", "worker", "Redis", "generator", "model server"],
        [],
    )
    for name, title in (("prefork", "bare Celery, as it comes"), ("threads", "bare Celery, 100 threads")):
        table.rows.append(
            [
                f"{title}, a no-op task that publishes",
                f"{median([f['tasks'] / f['seconds'] for f in floods[name]]):.0f}/s",
                f"{median([f['publisher'] * _MS / f['tasks'] for f in floods[name]]):.2f}",
                f"{median([f['worker'] * _MS / f['tasks'] for f in floods[name]]):.2f}",
                "–",
                "–",
                "–",
            ]
        )
    parts = ("web", "worker", "redis", "load", "model")
    table.rows.append(
        [
            "the chat, 10 users, a reply",
            f"{median([r.rate for r, _ in ours]):.0f}/s",
            *(f"{median([c.per(len(r.latencies), part) for r, c in ours]):.2f}" for part in parts),
        ]
    )
    outcome.tables.append(table)
    outcome.series["cost"] = {
        "the chat": {p: median([c.per(len(r.latencies), p) for r, c in ours]) for p in ("web", "worker", "redis")},
        **{
            f"bare Celery, {name}": {
                "web": median([f["publisher"] * _MS / f["tasks"] for f in found]),
                "worker": median([f["worker"] * _MS / f["tasks"] for f in found]),
                "redis": 0.0,
            }
            for name, found in floods.items()
        },
    }
    return outcome


class _Echoing(WSListener):
    """Sends a text again as soon as it comes back."""

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


@_benchmark("echo", "Bare flask-sock: an echo, and its memory for idle sockets")
def _echo(options: Options, _: Model) -> Outcome:
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
                each.append((cpu_seconds([server.process.pid]) - cpu) * _MS / echoes)
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


@_benchmark("users-100", "100 users, model at 1 s")
def _users_100(options: Options, model: Model) -> Outcome:
    results, costs = _users(options, model, 100, Pace(first=1.0), 8)
    rate, p99 = median([r.rate for r in results]), median([quantile(r.latencies, 0.99) for r in results])
    return Outcome(
        rows=[
            Row(
                "100 users, model at 1 s",
                "at least 97 of 100 replies/s, p99 at most 1.15 s, none lost",
                f"{rate:.1f} replies/s, p50 {median([quantile(r.latencies, 0.5) for r in results]):.2f} s, "
                f"p99 {p99:.2f} s; CPU a reply (web / worker / Redis) "
                f"{_costs(costs[0], len(results[0].latencies), 'web', 'worker', 'redis')} ms",
                max(at_least(rate, 97), at_most(p99, 1.15)),
                len(results),
                broken=_broken(*results),
            )
        ]
    )


@_benchmark("users-400", "400 users, model at 2 s, one worker process")
def _users_400(options: Options, model: Model) -> Outcome:
    results, _ = _users(options, model, 400, Pace(first=2.0), 8, warm_up=5)
    rate = median([r.rate for r in results])
    return Outcome(
        rows=[
            Row(
                "400 users, model at 2 s, one worker process",
                "at least 190 of 200 replies/s, none lost",
                f"{rate:.0f} replies/s, p50 {median([quantile(r.latencies, 0.5) for r in results]):.2f} s, "
                f"p99 {median([quantile(r.latencies, 0.99) for r in results]):.2f} s",
                at_least(rate, 190),
                len(results),
                broken=_broken(*results),
            )
        ]
    )


def _users(
    options: Options, model: Model, users: int, pace: Pace, seconds: float, warm_up: float = 2.5, **settings: Any
) -> tuple[list[Result], list[Cost]]:
    """The same users talking several times; between two times all are answered."""
    results, costs = [], []
    with chat(model, **settings) as stage:

        async def main() -> None:
            clients = stage.clients(options.count(users))
            await connect_all(clients, stage.url)
            model.set(pace)
            for _ in range(options.runs):
                result, cost = await stage.talk(
                    clients, options.seconds(seconds), options.seconds(warm_up), spread=options.seconds(pace.first)
                )
                results.append(result)
                costs.append(cost)
            stage.check_history(clients, results[-1])
            await close_all(clients)

        run(main())
    return results, costs


@_benchmark("streamed", "50 and 200 users, model at 0.5 s in 25 tokens, streamed")
def _streamed(options: Options, model: Model) -> Outcome:
    found: dict[int, list[tuple[Result, Cost]]] = {50: [], 200: []}
    with chat(model) as stage:

        async def main() -> None:
            clients = stage.clients(200)
            await connect_all(clients, stage.url)
            model.set(STREAMED)
            for _ in range(options.runs):
                for users, kept in found.items():
                    some = clients[: options.count(users)]
                    kept.append(await stage.talk(some, options.seconds(6), options.seconds(2)))
            stage.check_history(clients, found[200][-1][0])
            await close_all(clients)

        run(main())
    fifty, many = [r for r, _ in found[50]], [r for r, _ in found[200]]
    first = median([quantile(r.first, 0.5) for r in fifty])
    rate = median([r.rate for r in many])
    shares = {part: median([c.share(part) for _, c in found[200]]) for part in ("web", "worker", "redis", "load")}
    return Outcome(
        rows=[
            Row(
                "50 users, model at 0.5 s in 25 tokens, streamed: first delta, p50, after the message was sent",
                "at most 40 ms",
                f"{_ms(first)}, 20 ms of it the model's; p99 {_ms(median([quantile(r.first, 0.99) for r in fifty]))}; "
                f"{median([r.rate for r in fifty]):.0f} replies/s",
                at_most(first, 0.04),
                options.runs,
                broken=_broken(*fifty),
            ),
            Row(
                "200 users, the same model, streamed",
                "at least 150 replies/s, none lost",
                f"{rate:.0f} replies/s, p50 {_ms(median([quantile(r.latencies, 0.5) for r in many]))}, "
                f"p99 {_ms(median([quantile(r.latencies, 0.99) for r in many]))}",
                at_least(rate, 150),
                options.runs,
                "of one core: " + ", ".join(f"{part} {share:.0%}" for part, share in shares.items()),
                broken=_broken(*many),
            ),
        ]
    )


@_benchmark("streams", "Replies at once at 20 tokens/s each: how late the deltas are, and at how many that breaks")
def _streams(options: Options, model: Model) -> Outcome:
    rounds: list[tuple[Result, float]] = []
    steps: list[tuple[int, Result, dict[str, Any], Cost]] = []
    limit = 0.25
    with chat(model, max_new_tokens=5000, worker_concurrency=1000) as stage:

        async def once(clients: Sequence[Client], seconds: float) -> tuple[Result, dict[str, Any], Cost]:
            """Every client asks once, and gets `seconds` of tokens."""
            model.set(Pace(0.05, 0.05, int(seconds * 20), stamped=True))
            meter, talk = stage.meter(), Talk()
            talk.open()
            for client in clients:
                client.on_done = lambda _: None
                client.say(talk)
            await asyncio.sleep(seconds)
            await settle(talk)
            talk.close()
            for client in clients:
                client.on_done = None
            return talk.result, model.sent(), meter.lap()

        async def main() -> None:
            clients = stage.clients(options.count(900, 8))
            await connect_all(clients, stage.url)
            for _ in range(options.runs):
                result, sent, _ = await once(clients[: options.count(200)], options.seconds(30))
                rounds.append((result, sent["late_p99"]))
            for streams in (200, 300, 400, 500, 600, 750, 900):
                result, sent, cost = await once(clients[: options.count(streams)], options.seconds(8))
                steps.append((streams, result, sent, cost))
                if quantile(result.token_delays, 0.99) > limit or not result.kept:
                    break
            await close_all(clients)

        run(main())
    p99 = median([quantile(r.token_delays, 0.99) for r, _ in rounds])
    within = [n for n, r, *_ in steps if quantile(r.token_delays, 0.99) <= limit and r.kept]
    breaks = [n for n, *_ in steps if n not in within]
    table = Table(
        "Streams at once at 20 tokens/s: from the model's token to the client's delta",
        [
            "streams",
            "p50",
            "p99",
            "max",
            "deltas' text whole",
            "model's own lateness, p99",
            "web / worker / Redis / load, of a core",
        ],
        [
            [
                str(n),
                _ms(quantile(r.token_delays, 0.5)),
                _ms(quantile(r.token_delays, 0.99)),
                _ms(max(r.token_delays, default=0)),
                "yes" if r.kept else f"NO: {r.trouble()}",
                _ms(sent["late_p99"]),
                " / ".join(f"{cost.share(part):.0%}" for part in ("web", "worker", "redis", "load")),
            ]
            for n, r, sent, cost in steps
        ],
        "8 s for each number; the search ends at the first that is above 250 ms. WORKER_CONCURRENCY=1000, "
        "MAX_NEW_TOKENS=5000, else default settings.",
    )
    return Outcome(
        rows=[
            Row(
                "200 replies at once at 20 tokens/s each, for 30 s: from the model's token to the client's delta, p99",
                "at most 250 ms, none lost; and where that breaks",
                f"{_ms(p99)}; it holds at {max(within, default=0)} streams, "
                + (f"and breaks at {breaks[0]}" if breaks else "the most that was tried"),
                at_most(p99, limit),
                options.runs,
                broken=_broken(*(r for r, _ in rounds)),
            )
        ],
        tables=[table],
        series={
            "streams": [
                [
                    n,
                    quantile(r.token_delays, 0.5),
                    quantile(r.token_delays, 0.99),
                    cost.share("worker"),
                    cost.share("web"),
                ]
                for n, r, _, cost in steps
            ]
        },
    )


@_benchmark("idle", "10 000 idle sockets on one web process")
def _idle(options: Options, model: Model) -> Outcome:
    many = options.count(10_000, 40)
    few_times: list[float] = []
    many_times: list[float] = []
    results: list[Result] = []
    sizes: list[int] = []
    with chat(model) as stage:

        async def times(clients: Sequence[Client], into: list[float]) -> None:
            for _ in range(options.runs):
                result, _ = await stage.talk(clients, options.seconds(2), 0.2)
                into.append(quantile(result.latencies, 0.5))
                results.append(result)

        async def main() -> float:
            model.set(Pace())
            clients = stage.clients(11)
            await connect_all(clients, stage.url)
            await stage.talk(clients[:1], options.seconds(1), 0)
            await times(clients[:1], few_times)
            sizes.append(stage.memory()["web"])
            crowd = await asyncio.to_thread(stage.clients, many)
            began = time.monotonic()
            await connect_all(crowd, stage.url)
            took = time.monotonic() - began
            # The sockets are as idle as they get.
            await asyncio.sleep(options.seconds(2))
            await stage.calm()
            sizes.append(stage.memory()["web"])
            await times(clients[:1], many_times)
            alive = sum(not client.closed.is_set() for client in crowd)
            if alive != many:
                results[-1].problems.append(f"{many - alive} idle sockets were closed")
            await close_all(crowd)
            await stage.calm()
            await times(clients[:1], few_times)
            await close_all(clients)
            return took

        took = run(main())
    kilobytes = (sizes[1] - sizes[0]) / many / 1000
    beside = _ratio(median(many_times), median(few_times))
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
                f"{beside:.2f} × ({_ms(median(many_times))} against {_ms(median(few_times))})",
                at_most(beside, 2.0),
                options.runs,
                "before, during and after; model at 0 ms",
                broken=_broken(*results),
            ),
        ]
    )


@_benchmark("reconnect", "2 000 clients reconnecting at once with after=")
def _reconnect(options: Options, model: Model) -> Outcome:
    returning = options.count(2000, 20)
    served: list[float] = []
    worst: list[float] = []
    before: list[float] = []
    problems: list[Any] = []
    with chat(model) as stage:

        async def main() -> None:
            crowd = await asyncio.to_thread(stage.clients, returning)
            others = stage.clients(20)
            for client in crowd:
                await asyncio.to_thread(stage.give_history, client, 6)
            await connect_all(crowd + others, stage.url)
            model.set(STREAMED)
            for _ in range(options.runs):
                await stage.calm()
                calm, _ = await stage.talk(others, options.seconds(3), options.seconds(1))

                async def storm(talk: Talk) -> None:
                    await close_all(crowd)
                    talk.result.latencies.clear()
                    began = time.monotonic()
                    # All at once: no bound on handshakes under way. Four of six messages are missing.
                    await asyncio.gather(*(c.connect(stage.url, after="old1") for c in crowd))
                    await greeted(crowd)
                    served.append(max(c.greeted_at for c in crowd) - began)
                    await asyncio.sleep(max(options.seconds(2), 0.7))

                for client in crowd:
                    client.frames = 0
                stormy, _ = await stage.talk(others, 0, options.seconds(1), during=storm)
                # A greeting and four messages: those after the second human message of three.
                problems.extend(
                    c for c in crowd if not c.session or c.session["recovered"] is not True or c.frames != 4
                )
                before.append(quantile(calm.latencies, 0.95))
                worst.append(max(stormy.latencies, default=99.0))
                problems.extend(r.problems[0] for r in (calm, stormy) if not r.kept)
            await close_all(crowd + others)

        run(main())
    slower = median([_ratio(w, b) for w, b in zip(worst, before, strict=True)])
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
                f"{slower:.2f} × ({_ms(median(worst))} against {_ms(median(before))})",
                at_most(slower, 2.0),
                options.runs,
            ),
        ]
    )


@_benchmark("history", "A history of 10 000 messages against 10")
def _history(options: Options, model: Model) -> Outcome:
    def prepare(stage: Chat) -> tuple[list[Client], list[Client]]:
        small, large = stage.clients(10), stage.clients(10)
        for client in small:
            stage.give_history(client, 10)
        for client in large:
            stage.give_history(client, 10_000)
        return small, large

    return _against(
        options, model, "CPU of web + worker + Redis per reply, history of 10 000 messages against 10", prepare
    )


@_benchmark("sessions", "5 000 live sessions against 10")
def _sessions(options: Options, model: Model) -> Outcome:
    live = options.count(5000, 40)

    def prepare(stage: Chat) -> tuple[list[Client], list[Client]]:
        return stage.clients(10), stage.clients(live)

    return _against(options, model, f"CPU of web + worker + Redis per reply, {live} live sessions against 10", prepare)


def _against(
    options: Options,
    model: Model,
    what: str,
    prepare: Callable[[Chat], tuple[list[Client], list[Client]]],
) -> Outcome:
    """Ten messages under way at a time, in turns among the first clients, then among the second."""
    costs: tuple[list[float], list[float]] = ([], [])
    rates: tuple[list[float], list[float]] = ([], [])
    results = []
    parts = ("web", "worker", "redis")
    with chat(model) as stage:

        async def measure(clients: Sequence[Client], costs: list[float], rates: list[float]) -> None:
            meter, talk = stage.meter(), Talk()
            waiting = list(clients[10:])

            def next_one(done: Client) -> None:
                if talk.sending:
                    waiting.append(done)
                    waiting.pop(0).say(talk)

            for client in clients:
                client.on_done = next_one
            for client in clients[:10]:
                client.say(talk)
            await asyncio.sleep(0.3)
            meter.lap()
            talk.open()
            await asyncio.sleep(options.seconds(4))
            talk.close()
            cost = meter.lap()
            await settle(talk)
            costs.append(cost.per(talk.so_far, *parts))
            rates.append(talk.result.rate)
            results.append(talk.result)

        async def main() -> None:
            model.set(Pace())
            first, second = await asyncio.to_thread(prepare, stage)
            # Ten sessions live beside nothing else: the many connect after the ten were measured, and leave again.
            await connect_all(first, stage.url)
            await measure(first, [], [])
            for _ in range(options.runs):
                await measure(first, costs[0], rates[0])
                await connect_all(second, stage.url)
                await stage.calm()
                await measure(second, costs[1], rates[1])
                await close_all(second)
                await stage.calm()
            await close_all(first)

        run(main())
    ratio = _ratio(median(costs[1]), median(costs[0]))
    return Outcome(
        rows=[
            Row(
                what,
                "at most 1.2 ×",
                f"{ratio:.2f} × ({median(costs[1]):.2f} ms against {median(costs[0]):.2f} ms; "
                f"{median(rates[1]):.0f} against {median(rates[0]):.0f} replies/s)",
                at_most(ratio, 1.2),
                options.runs,
                broken=_broken(*results),
            )
        ]
    )


@_benchmark("workers", "Two workers against one, model-bound")
def _workers(options: Options, model: Model) -> Outcome:
    one, two, results = [], [], []
    with chat(model, workers=2, worker_concurrency=10) as stage:
        second = stage.deployment.workers[1]

        async def main() -> None:
            clients = stage.clients(60)
            await connect_all(clients, stage.url)
            model.set(Pace(first=0.5))
            for _ in range(options.runs):
                result, _ = await stage.talk(clients, options.seconds(5), options.seconds(2))
                two.append(result.rate)
                results.append(result)
                await asyncio.to_thread(second.stop)
                result, _ = await stage.talk(clients, options.seconds(5), options.seconds(2))
                one.append(result.rate)
                results.append(result)
                second.start()
                await asyncio.to_thread(stage.deployment.wait_until_worker, 1)
            stage.check_history(clients, result)
            await close_all(clients)

        run(main())
    ratio = median([_ratio(b, a) for a, b in zip(one, two, strict=True)])
    return Outcome(
        rows=[
            Row(
                "two workers against one, model-bound (10 replies at a time each, model at 0.5 s)",
                "at least 1.9 ×",
                f"{ratio:.2f} × ({median(two):.1f} against {median(one):.1f} replies/s)",
                at_least(ratio, 1.9),
                options.runs,
                broken=_broken(*results),
            )
        ]
    )


_POOLS = {
    "threads, 100": ("-P", "threads", "-c", "100"),
    "threads, 500": ("-P", "threads", "-c", "500"),
    "prefork, 8": ("-P", "prefork", "-c", "8"),
    "gevent, 500": ("-P", "gevent", "-c", "500"),
}


@_benchmark("pools", "The worker's pool: threads, prefork, gevent")
def _pools(options: Options, model: Model) -> Outcome:
    table = Table(
        "The worker's pool, side by side",
        [
            "pool",
            "10 users, model at 0 ms",
            "CPU of the worker a reply",
            "250 users, model at 0.5 s in 25 tokens",
            "p99",
            "worker's memory",
            "promise",
            "errors in its log",
        ],
        [],
        "One round each.",
    )
    for name, arguments in _POOLS.items():
        with chat(model, worker_args=arguments) as stage:

            async def main(stage: Chat) -> tuple[Result, Cost, Result]:
                clients = stage.clients(250)
                await connect_all(clients, stage.url)
                model.set(Pace())
                quick, cost = await stage.talk(clients[: options.count(10)], options.seconds(3), options.seconds(1))
                model.set(STREAMED)
                slow, _ = await stage.talk(clients[: options.count(250)], options.seconds(4), options.seconds(2))
                await close_all(clients)
                return quick, cost, slow

            quick, cost, slow = run(main(stage))
            log = stage.deployment.workers[0].log
            table.rows.append(
                [
                    name,
                    f"{quick.rate:.0f} replies/s",
                    f"{cost.per(len(quick.latencies), 'worker'):.2f} ms",
                    f"{slow.rate:.0f} replies/s",
                    _ms(quantile(slow.latencies, 0.99)),
                    f"{stage.memory()['worker'] / 1e6:.0f} MB",
                    "kept" if quick.kept and slow.kept else f"NOT kept: {_broken(quick, slow)[:120]}",
                    str(log.count(" ERROR ") + log.count(" CRITICAL ")),
                ]
            )
    return Outcome(tables=[table])


def select(names: Sequence[str]) -> list[Benchmark]:
    """The benchmarks of these names, all when there are none. Raises `KeyError` with a name that is not known."""
    return [BENCHMARKS[name] for name in names] if names else list(BENCHMARKS.values())
