"""What is promised beyond the workers' capacity: recovery does not wait behind new messages, the surplus is refused."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial

from devtools.chaos.arrivals import Arrivals
from devtools.chaos.crowd import Crowd
from devtools.chaos.findings import Finding
from devtools.chaos.key_usage import key_usage
from devtools.chaos.scene import Scene
from devtools.fake_model import ModelServer
from devtools.harness.deployment import Deployment, eventually

#: Seconds that the model takes for a reply, and until its first token, in tokens so many milliseconds apart.
REPLY, FIRST, INTERVAL = 2.0, 0.1, 380
TOKENS = int((REPLY - FIRST) * 1000 / INTERVAL) + 1
#: Bars, in seconds.
LATE_RETRY, BEGUN_AGAIN = 4.0, 6.0
#: One message of so many fails once, and gets a retry.
FAILING = 5


def recovery(users: int, workers: int, slots: int, kills: int, calm: float) -> list[Finding]:
    """Promised retries and the replies of killed workers, with `users` users and no bound of the queue delay.

    Before each kill and after the last the users talk for `calm` seconds.
    """
    with (
        ModelServer(first=FIRST * 1000, interval=INTERVAL, tokens=TOKENS, record=False) as model,
        Deployment(model.url, webs=2, workers=workers, worker_concurrency=slots, max_queue_age=0) as chat,
    ):
        urls = [chat.url(n) for n in range(len(chat.webs))]
        with Crowd(users, lambda: urls, reply_length=REPLY, order=_order) as crowd:
            scene = Scene(chat, model, crowd)
            eventually(lambda: crowd.answered() >= users // 2, 120, "replies arrive")
            for number in range(kills):
                time.sleep(calm)
                scene.kill_worker(chat.workers[number % workers])
            time.sleep(calm)
    outcome = crowd.outcome
    messages = [m for user in crowd.users for m in user.messages if m.answered_at]
    # A retry that was in progress when its worker was killed counts with the replies of killed workers.
    struck = {id(m): at for at, m in crowd.struck}
    late = [
        max(m.answered_at - (at + wait) - REPLY, 0.0)
        for m in messages
        for at, wait in m.promised
        if struck.get(id(m), 0.0) < at + wait
    ]
    begun = [min((t for t in m.begun if t > at), default=m.answered_at) - at - FIRST for at, m in crowd.struck]
    broken = f"{outcome.lost} lost, {outcome.doubled} doubled, {outcome.out_of_order} out of order"
    return [
        _at_most(f"{len(late)} promised retries: late beyond the reply itself", late, LATE_RETRY),
        _at_most(f"{len(begun)} replies of killed workers: begun again after", begun, BEGUN_AGAIN),
        Finding(f"{outcome.acknowledged} messages", "none", broken + _first(outcome.problems), outcome.kept),
    ]


def admission(seconds: float = 180.0) -> list[Finding]:
    """Twice as many messages arrive as the workers can answer, from several addresses, whatever becomes of them."""
    bound, slots, workers, window = 6.0, 8, 2, 10.0
    with (
        ModelServer(first=FIRST * 1000, interval=INTERVAL, tokens=TOKENS, record=False) as model,
        Deployment(model.url, webs=2, workers=workers, worker_concurrency=slots, max_queue_age=bound) as chat,
    ):
        rate = 2 * workers * slots / REPLY
        arrivals = Arrivals([chat.url(n) for n in range(2)], rate, seconds)
        arrivals.run()
    # The line fills at first.
    shares = arrivals.shares(window, after=2 * window)
    waits = [wait - REPLY for wait in arrivals.waits]
    shown = f"{min(shares) * 100:.0f} to {max(shares) * 100:.0f} %" if shares else "nothing"
    return [
        Finding(
            f"admitted of {rate:.0f} messages/s, in every {window:.0f} s",
            "35 to 65 %",
            shown,
            bool(shares) and min(shares) >= 0.35 and max(shares) <= 0.65,
        ),
        _at_most(f"{len(waits)} admitted: wait for a worker, bound {bound:.0f} s", waits, 1.3 * bound),
        _at_most(f"{len(arrivals.newcomers)} newcomers from other addresses: until admitted", arrivals.newcomers, 10.0),
        Finding("admitted, but not answered", "none", f"{arrivals.unanswered}", not arrivals.unanswered),
    ]


def _order(number: int) -> str:
    """Every so many messages of a user the model server fails once."""
    return "!fault=failed_dependency*1 " if number % FAILING == 1 else ""


def _at_most(what: str, values: Sequence[float], limit: float) -> Finding:
    if not values:
        return Finding(what, f"at most {limit:g} s", "nothing", False)
    ordered = sorted(values)
    p95 = ordered[min(int(len(ordered) * 0.95), len(ordered) - 1)]
    return Finding(what, f"at most {limit:g} s", f"at most {ordered[-1]:.2f} s, p95 {p95:.2f} s", ordered[-1] <= limit)


def _first(problems: Sequence[str]) -> str:
    return f"; {len(problems)} problems, the first: {problems[0]}" if problems else ""


def _ways() -> list[Finding]:
    # The Python client is a package of its own, which only this try needs.
    from devtools.chaos.ways import ways

    return ways()


#: By name; each runs with its own processes.
TRIES: dict[str, Callable[[], list[Finding]]] = {
    "overload": partial(recovery, users=60, workers=2, slots=4, kills=4, calm=8.0),
    "overload-wide": partial(recovery, users=1000, workers=1, slots=500, kills=2, calm=12.0),
    "admission": admission,
    "key-usage": key_usage,
    "ways": _ways,
}
