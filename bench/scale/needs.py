"""From measured costs to what large loads need, and which part is full first."""

from __future__ import annotations

import math

from bench.scale.costs import HISTORY, LENGTH, SOCKETS, STREAMS, USERS, Costs, Each
from chatbot.config.settings.limits import LimitsSettings
from chatbot.config.settings.worker import WorkerSettings

#: The share of a core that a process or a Redis may be busy: beyond that latency grows fast.
BUSY = 0.7
#: Large loads: idle sockets; streams, and their tokens a second; messages a second, and seconds of a reply.
SOCKETS_WANTED, STREAMS_WANTED, TOKENS, MESSAGES_WANTED, REPLY = 1_000_000, 100_000, 20, 10_000, 2.0
#: Bytes of TCP and IP in front of each frame.
_HEADERS = 66
#: Bytes of one Redis.
_MEMORY = 16e9
_BEYOND = ", more than one Redis has"

#: Defaults of the settings.
SLOTS, MOST_SOCKETS = WorkerSettings.concurrency, LimitsSettings.max_sockets


def costs(c: Costs) -> list[list[str]]:
    """What was measured."""

    def cpu(each: Each) -> str:
        parts = (f"{part} {each.cpu[part]:.0f}" for part in each.cpu)
        return f"{', '.join(parts)} µs of CPU"

    def traffic(each: Each) -> str:
        return (
            f"{each.redis_in:.0f} bytes into Redis, {each.redis_out:.0f} out of it, {each.to_client:.0f} to the client"
        )

    return [
        ["what", "cost"],
        [
            f"an idle socket ({SOCKETS} of them), pings included",
            f"web {c.socket_web / 1000:.1f} KB and {c.socket_cpu_web:.0f} µs of CPU a second; Redis "
            f"{c.socket_redis / 1000:.1f} KB and {c.socket_cpu_redis:.1f} µs; {c.socket_files:.2f} file descriptors",
        ],
        ["a session without messages", f"{c.session / 1000:.1f} KB of Redis"],
        [f"a session with {HISTORY} messages of {LENGTH} characters", f"{c.history / 1000:.1f} KB of Redis"],
        [f"a message and its reply in one chunk ({USERS} users, {c.message.rate:.0f}/s)", cpu(c.message)],
        ["", traffic(c.message)],
        [f"a streamed token ({STREAMS} streams, {c.token.rate:.0f} tokens/s)", cpu(c.token)],
        ["", traffic(c.token)],
        [
            "a process without load",
            f"web {c.base_web / 1e6:.0f} MB, worker {c.base_worker / 1e6:.0f} MB; {c.stream_worker / 1000:.0f} KB more "
            "for each reply in progress",
        ],
        ["a sweep that reads 1000 leases", f"{c.sweep:.1f} ms, in which Redis does nothing else"],
    ]


def loads(c: Costs) -> list[list[str]]:
    """What the large loads need."""
    idle_cpu = SOCKETS_WANTED * c.socket_cpu_web / 1e6 / BUSY
    webs = math.ceil(max(SOCKETS_WANTED / MOST_SOCKETS, idle_cpu))
    each = SOCKETS_WANTED / webs
    memory = SOCKETS_WANTED * (c.history + c.socket_redis)
    idle = [
        f"{SOCKETS_WANTED:,} idle sockets".replace(",", " "),
        f"{webs} ({each:.0f} sockets each, {(c.base_web + each * c.socket_web) / 1e9:.2f} GB, "
        f"{each * c.socket_cpu_web / 1e4:.0f} % of a core)",
        "–",
        f"{_nodes(SOCKETS_WANTED * c.socket_cpu_redis / 1e6, memory)} ({memory / 1e9:.0f} GB with a history of "
        f"{HISTORY} messages each, {SOCKETS_WANTED * c.socket_cpu_redis / 1e6:.1f} cores)",
        "–",
        f"{each * c.socket_files + 100:.0f} in a web process",
        f"{SOCKETS_WANTED / 25 * 2 * (_HEADERS + 4) * 8 / 1e6:.0f} Mbit/s of pings",
    ]
    return [
        ["load", "web processes", "workers", "Redis nodes", "broker", "file descriptors", "network"],
        idle,
        _busy(c, f"{STREAMS_WANTED} streams at {TOKENS} tokens/s", c.token, STREAMS_WANTED * TOKENS, STREAMS_WANTED),
        _busy(
            c,
            f"{MESSAGES_WANTED} messages/s, replies of {REPLY:g} s in one chunk",
            c.message,
            MESSAGES_WANTED,
            int(MESSAGES_WANTED * REPLY),
        ),
    ]


def _busy(c: Costs, name: str, each: Each, rate: float, replies: int) -> list[str]:
    cores = {part: rate * cpu / 1e6 for part, cpu in each.cpu.items()}
    workers = max(math.ceil(cores["worker"] / BUSY), math.ceil(replies / SLOTS))
    webs = max(math.ceil(cores["web"] / BUSY), math.ceil(replies / MOST_SOCKETS))
    memory = c.base_worker + replies / workers * c.stream_worker
    into, out = (rate * value * 8 / 1e9 for value in (each.redis_in, each.redis_out))
    to_clients = rate * (each.to_client + _HEADERS) * 8 / 1e9
    return [
        name,
        f"{webs} ({cores['web']:.0f} cores of work)",
        f"{workers} ({replies / workers:.0f} replies each, {memory / 1e6:.0f} MB, {cores['worker']:.0f} cores of work)",
        f"{_nodes(cores['redis'], 0)} ({cores['redis']:.1f} cores of work)",
        "–" if each is c.token else f"{cores['broker']:.2f} cores of work" + _BEYOND * (cores["broker"] > BUSY),
        f"{replies / webs + 100:.0f} in a web process, {replies / workers + 100:.0f} in a worker",
        f"{into:.1f} Gbit/s into Redis, {out:.1f} out; {to_clients:.1f} to clients",
    ]


def _nodes(cores: float, memory: float) -> int:
    return max(math.ceil(cores / BUSY), math.ceil(memory / _MEMORY), 1)


def limits(c: Costs) -> list[list[str]]:
    """Where one of each is full."""

    def most(cpu: float) -> float:
        return BUSY * 1e6 / cpu if cpu else math.inf

    m, t = c.message.cpu, c.token.cpu
    return [
        ["one …", "messages/s", f"streams at {TOKENS} tokens/s", "sockets or sessions"],
        [
            "web process",
            f"{most(m['web']):.0f}",
            f"{most(t['web']) / TOKENS:.0f}",
            f"{min(most(c.socket_cpu_web), MOST_SOCKETS):.0f} sockets (MAX_SOCKETS)",
        ],
        ["worker", f"{most(m['worker']):.0f}", f"{most(t['worker']) / TOKENS:.0f}", "–"],
        [
            "Redis of sessions",
            f"{most(m['redis']):.0f}",
            f"{most(t['redis']) / TOKENS:.0f}",
            f"{_MEMORY / c.history / 1000:.0f} 000 sessions with a history, in 16 GB",
        ],
        ["broker", f"{most(m['broker']):.0f}", "–", "–"],
    ]
