"""A stop is for one request, in whichever order users and workers act. Against a real Redis."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations

import pytest
import redis

from chatbot.protocol.compact_json import to_json
from chatbot.protocol.events import STOP_CHANNEL, Event, stopped_reply
from chatbot.sessions.ids import session_id
from chatbot.sessions.leases import Assignment, Leases, Progress
from chatbot.sessions.requests import Requests, Terms
from chatbot.sessions.responses import Responses
from chatbot.sessions.sessions import Sessions
from chatbot.store.keys import events_channel, session_keys
from tests.support.subscription import Subscription


@dataclass
class Talk:
    """A session with a request `first`, which a worker has claimed, and what becomes of its requests."""

    client: redis.Redis
    requests: Requests
    leases: Leases
    session: str
    work: Assignment | None = None
    #: The finish reason of each reply, in their order.
    ends: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.later("first")
        self.claim()

    # Users

    def interrupt(self, name: str = "second") -> None:
        self.requests.accept(self.session, name, name, Terms(on_busy="interrupt"))

    def edit(self) -> None:
        self.requests.edit(self.session, "first", "second", "second", Terms(on_busy="interrupt"))

    def regenerate(self) -> None:
        self.requests.regenerate(self.session, "first", "second", Terms(on_busy="interrupt"))

    def later(self, name: str = "later") -> None:
        self.requests.accept(self.session, name, name)

    def stop(self) -> None:
        self.requests.stop(self.session)

    # Workers

    def claim(self) -> None:
        self.work = self.work or self.leases.claim(self.session)

    def settle(self, *, go_on: bool = True) -> None:
        """The worker ends its reply as the stored state demands."""
        assert self.work is not None
        stopped = self.work.stopped or self.leases.progress([Progress(self.work)]) == ["stop"]
        self.ends[self.work.message_id] = reason = "stopped" if stopped else "stop"
        self.work = self.leases.commit(self.work, "text", reason, go_on=go_on)

    def release(self) -> None:
        """The worker ends its reply and leaves the next one to another worker."""
        self.settle(go_on=False)

    def die(self) -> None:
        """The worker dies; its lease ends."""
        self.work = None
        self.client.delete(session_keys(self.session).lease)

    def outcome(self) -> dict[str, str]:
        """What has become of all requests once workers have answered them."""
        self.claim()
        while self.work:
            self.settle()
            self.claim()
        return self.ends


@pytest.fixture
def talk(redis_client: redis.Redis, sessions: Sessions, leases: Leases, session: str) -> Talk:
    return Talk(redis_client, sessions.requests, leases, session)


def interleaved(one: Sequence[str], other: Sequence[str]) -> Iterator[list[str]]:
    """All orders of two sequences, each in its own order."""
    for places in combinations(range(len(one) + len(other)), len(one)):
        mine, theirs = iter(one), iter(other)
        yield [next(mine if place in places else theirs) for place in range(len(one) + len(other))]


@pytest.mark.parametrize(
    "worker",
    [
        pytest.param(["settle", "claim"], id="one worker goes on"),
        pytest.param(["release", "claim"], id="another worker goes on"),
        pytest.param(["die", "claim", "settle", "claim"], id="the worker of the first dies"),
        pytest.param(["settle", "claim", "die", "claim"], id="the worker of the second dies"),
    ],
)
@pytest.mark.parametrize("kind", ["interrupt", "edit", "regenerate"])
def test_a_stop_is_for_the_reply_that_interrupts_another_in_every_order(
    redis_client: redis.Redis, sessions: Sessions, leases: Leases, kind: str, worker: list[str]
) -> None:
    """A message sent after the stop is answered."""
    for order in interleaved([kind, "stop", "later"], worker):
        talk = Talk(redis_client, sessions.requests, leases, session_id(sessions.create("Ada")["token"]))
        for step in order:
            getattr(talk, step)()
        settled = min(order.index(step) for step in ("settle", "release") if step in order)
        first = "stopped" if order.index(kind) < settled else "stop"
        assert talk.outcome() == {"first": first, "second": "stopped", "later": "stop"}, order


@pytest.mark.parametrize("worker", [[], ["die"], ["die", "claim"]], ids=str)
def test_the_same_stop_again_stops_no_later_reply(talk: Talk, worker: list[str]) -> None:
    """Of a user who presses a button twice, or does not know whether the first stop arrived."""
    talk.later()
    for order in interleaved(["stop", "stop"], worker):
        for step in order:
            getattr(talk, step)()
    assert talk.outcome() == {"first": "stopped", "later": "stop"}


def test_a_stop_is_for_what_was_sent_since_the_last_one(talk: Talk) -> None:
    talk.stop()
    talk.later("second")
    talk.stop()
    talk.stop()
    talk.later()
    assert talk.outcome() == {"first": "stopped", "second": "stopped", "later": "stop"}


def test_each_interruption_ends_the_one_before(talk: Talk) -> None:
    for name in ("second", "third", "fourth"):
        talk.interrupt(name)
    assert talk.outcome() == {"first": "stopped", "second": "stopped", "third": "stopped", "fourth": "stop"}


def test_a_retried_message_is_answered_though_its_reply_was_stopped(talk: Talk) -> None:
    talk.interrupt()
    talk.stop()
    talk.settle()
    assert talk.work is not None
    talk.work = talk.leases.fail(talk.work, "It broke.", go_on=True)
    # What a worker leaves that knows no marks.
    talk.client.hset(session_keys(talk.session).state, "stop:second", "second")
    talk.requests.retry(talk.session, "second")
    assert talk.outcome() == {"first": "stopped", "second": "stop"}


def test_text_that_is_reported_after_the_stop_is_published(talk: Talk) -> None:
    """The worker counts it as reported, so no later delta has it; and the next worker needs it should this one die."""
    assert talk.work is not None
    talk.stop()
    with Subscription(talk.client, events_channel(talk.session)) as events:
        report = Progress(talk.work, "so far", 0, {"type": "delta", "msg": "so far"})
        assert talk.leases.progress([report]) == ["stop"]
        assert Event.decode(events.next()).frame == to_json(report.frame)
    talk.die()
    talk.claim()
    assert talk.work is not None
    assert (talk.work.stopped, talk.work.partial) == (True, "so far")


def test_marks_of_stops_do_not_stay(talk: Talk, redis_client: redis.Redis) -> None:
    responses = Responses(redis_client, ttl=60)
    talk.interrupt()
    talk.stop()
    talk.interrupt("third")
    talk.stop()
    responses.cancel(talk.session, "third")
    assert talk.outcome() == {"first": "stopped", "second": "stopped"}
    assert "stop" not in " ".join(map(str, talk.client.hkeys(session_keys(talk.session).state)))


def test_a_cancelled_response_stops_no_later_one(talk: Talk, redis_client: redis.Redis) -> None:
    talk.later()
    for _ in range(2):
        Responses(redis_client, ttl=60).cancel(talk.session, "first")
    assert talk.outcome() == {"first": "stopped", "later": "stop"}


def test_workers_learn_at_once_which_reply_is_stopped(talk: Talk) -> None:
    """The message may arrive when its reply has ended, and the next one has begun."""
    with Subscription(talk.client, STOP_CHANNEL) as stops:
        talk.stop()
        assert stopped_reply(stops.next()) == (talk.session, "first")


def test_a_stop_of_a_version_without_marks_counts(talk: Talk) -> None:
    talk.client.hset(session_keys(talk.session).state, "stop", "first")
    talk.later("second")
    talk.stop()
    assert talk.outcome() == {"first": "stopped", "second": "stopped"}
