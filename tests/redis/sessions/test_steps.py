"""The atomic steps on a session, against a real Redis."""

import itertools
import json
import threading
from collections.abc import Callable
from typing import Any

import pytest
import redis

from chatbot.errors import StoreUnavailable
from chatbot.protocol.client_errors import ClientError, SessionNotFound
from chatbot.protocol.events import Event
from chatbot.sessions.ids import reply_id, session_id
from chatbot.sessions.leases import Assignment, LeaseLost, Leases, Progress
from chatbot.sessions.ledger import Ledger
from chatbot.sessions.sessions import Sessions
from chatbot.store.keys import LEDGER, SWEPT, WAITING, events_channel, session_keys
from devtools.harness.deployment import eventually
from devtools.harness.histories import store_turns, stored_messages
from tests.support.ledger import end_session, overdue, sweep
from tests.support.subscription import Subscription


def claimed(leases: Leases, session: str) -> Assignment:
    work = leases.claim(session)
    assert work is not None
    return work


def prompt(work: Assignment) -> list[str]:
    return [message["msg"] for message in work.messages]


def say(
    sessions: Sessions,
    leases: Leases,
    session: str,
    text: str | None,
    reply: str,
    *,
    prompt: list[str] | None = None,
) -> None:
    """One turn; `text` None when the message is pending already. `prompt` is what its prompt must hold."""
    if text is not None:
        sessions.requests.accept(session, text, text)
    work = claimed(leases, session)
    assert prompt is None or [message["msg"] for message in work.messages] == prompt
    leases.commit(work, reply, "stop" if reply else "stopped", go_on=False)


def expire_lease(client: redis.Redis, session: str) -> None:
    client.delete(session_keys(session).lease)


def test_the_messages_of_a_prompt_are_read_together(
    sessions: Sessions, leases: Leases, session: str, redis_client: redis.Redis
) -> None:
    """Its own, and those before it in one or two pieces."""

    def reads() -> int:
        return int(redis_client.info("commandstats").get("cmdstat_json.get", {"calls": 0})["calls"])

    for turn in range(12):
        say(sessions, leases, session, f"m{turn}", f"r{turn}")
    sessions.requests.accept(session, "last", "last")
    before = reads()
    assert len(claimed(leases, session).messages) > 4
    assert reads() - before <= 3


def test_a_message_is_in_history_and_ledger_in_one_step(
    sessions: Sessions, session: str, redis_client: redis.Redis
) -> None:
    accepted = sessions.requests.accept(session, "m1", "hello")
    assert accepted.wake
    assert stored_messages(sessions, session)[0]["msg"] == "hello"
    assert redis_client.zscore(LEDGER, session) is not None


def test_the_step_that_stores_a_message_enqueues_its_task_unless_a_worker_holds_the_lease(
    redis_client: redis.Redis, leases: Leases, session: str
) -> None:
    sessions = Sessions(redis_client, ttl=60, max_pending=8, task=lambda name: ("celery", f"task of {name}"))
    assert not sessions.requests.accept(session, "m1", "hello").wake
    assert redis_client.lrange("celery", 0, -1) == [f"task of {session}"]
    work = claimed(leases, session)
    assert not sessions.requests.accept(session, "m2", "more").wake
    assert redis_client.llen("celery") == 1
    leases.hand_back(work)
    redis_client.set("celery", "no list")
    assert sessions.requests.accept(session, "m3", "stored all the same").wake
    assert [message["id"] for message in stored_messages(sessions, session)] == ["m1", "m2", "m3"]


def test_one_worker_at_a_time_holds_the_lease(sessions: Sessions, leases: Leases, session: str) -> None:
    sessions.requests.accept(session, "m1", "hello")
    work = claimed(leases, session)
    assert leases.claim(session) is None
    assert not sessions.requests.accept(session, "m2", "again").wake
    assert leases.commit(work, "hi", "stop", go_on=True) is not None


def test_messages_are_answered_in_order_each_with_the_turns_before_it(
    sessions: Sessions, leases: Leases, session: str
) -> None:
    for n in range(1, 7):
        sessions.requests.accept(session, f"m{n}", f"q{n}")
    work: Assignment | None = claimed(leases, session)
    prompts = []
    while work is not None:
        prompts.append(prompt(work))
        work = leases.commit(work, f"a{work.message_id[1:]}", "stop", go_on=True)
    whole = [f"{kind}{n}" for n in range(1, 7) for kind in "qa"]
    assert prompts[:5] == [whole[: 2 * n + 1] for n in range(5)]
    assert prompts[5] == whole[6:11], "four turns have become two"
    assert leases.claim(session) is None


def test_a_prompt_is_limited_however_long_the_history(sessions: Sessions, leases: Leases, session: str) -> None:
    for n in range(50):
        sessions.requests.accept(session, None, f"q{n}")
        assert leases.commit(claimed(leases, session), f"a{n}", "stop", go_on=True) is None
    sessions.requests.accept(session, None, "last")
    assert prompt(claimed(leases, session)) == ["q48", "a48", "q49", "a49", "last"]


def test_a_session_without_unanswered_messages_leaves_the_ledger(
    sessions: Sessions, leases: Leases, session: str, redis_client: redis.Redis
) -> None:
    sessions.requests.accept(session, "m1", "hello")
    leases.commit(claimed(leases, session), "hi", "stop", go_on=True)
    assert redis_client.zcard(LEDGER) == 0
    assert sessions.requests.accept(session, "m2", "more").wake


def test_a_worker_that_lost_the_lease_can_write_nothing(
    sessions: Sessions, leases: Leases, session: str, redis_client: redis.Redis
) -> None:
    sessions.requests.accept(session, "m1", "hello")
    frozen = claimed(leases, session)
    expire_lease(redis_client, session)
    successor = claimed(leases, session)
    assert leases.progress([Progress(frozen, "late", 0, {"type": "delta"})]) == ["lost"]
    steps: tuple[Callable[[], object], ...] = (
        lambda: leases.commit(frozen, "late", "stop", go_on=True),
        lambda: leases.fail(frozen, "late", go_on=True),
        lambda: leases.postpone(frozen, 1, loading=False),
        lambda: leases.hand_back(frozen),
    )
    for step in steps:
        with pytest.raises(LeaseLost):
            step()
    leases.commit(successor, "in time", "stop", go_on=True)
    with pytest.raises(LeaseLost):
        leases.commit(frozen, "late", "stop", go_on=True)
    assert [m["msg"] for m in stored_messages(sessions, session)] == ["hello", "in time"]


def test_an_expired_lease_that_no_worker_took_can_be_renewed(
    sessions: Sessions, leases: Leases, session: str, redis_client: redis.Redis
) -> None:
    sessions.requests.accept(session, "m1", "hello")
    work = claimed(leases, session)
    expire_lease(redis_client, session)
    assert leases.progress([Progress(work, "he", 0, {"type": "delta"})]) == ["on"]
    assert leases.claim(session) is None
    leases.commit(work, "hello", "stop", go_on=True)


def test_progress_after_the_reply_is_rejected(sessions: Sessions, leases: Leases, session: str) -> None:
    sessions.requests.accept(session, "m1", "hello")
    work = claimed(leases, session)
    leases.commit(work, "hi", "stop", go_on=True)
    assert leases.progress([Progress(work, "hi", 0, {"type": "delta"})]) == ["lost"]


def test_a_reply_is_stored_once_if_its_commit_is_repeated(sessions: Sessions, leases: Leases, session: str) -> None:
    sessions.requests.accept(session, "m1", "hello")
    sessions.requests.accept(session, "m2", "again")
    work = claimed(leases, session)
    assert leases.commit(work, "hi", "stop", go_on=True) is not None
    with pytest.raises(LeaseLost):
        leases.commit(work, "hi", "stop", go_on=True)
    assert [m["id"] for m in stored_messages(sessions, session)] == ["m1", "m2", reply_id(session, "m1")]


def test_partial_text_grows_and_repeated_progress_does_not_double_it(
    sessions: Sessions, leases: Leases, session: str
) -> None:
    sessions.requests.accept(session, "m1", "hello")
    work = claimed(leases, session)
    frame: dict[str, Any] = {"type": "delta"}
    assert leases.progress([Progress(work, "é1", 0, frame)]) == ["on"]
    assert leases.progress([Progress(work, "22", 3, frame)]) == ["on"]
    assert leases.progress([Progress(work, "22", 3, frame)]) == ["behind"]
    assert sessions.snapshot(session).partial == "é122"
    assert leases.progress([Progress(work, "é122", 0, frame)]) == ["on"]
    assert sessions.snapshot(session).partial == "é122"


def test_progress_continues_after_redis_lost_its_scripts(
    sessions: Sessions, leases: Leases, session: str, redis_client: redis.Redis
) -> None:
    sessions.requests.accept(session, "m1", "hello")
    work = claimed(leases, session)
    redis_client.script_flush()
    assert leases.progress([Progress(work, "a", 0, {"type": "delta"}), Progress(work)]) == ["on", "on"]


def test_a_report_renews_the_lease_only_where_it_says_so(
    sessions: Sessions, leases: Leases, session: str, redis_client: redis.Redis
) -> None:
    sessions.requests.accept(session, "m1", "hello")
    work = claimed(leases, session)
    expire_lease(redis_client, session)
    assert leases.progress([Progress(work, "a", 0, {"type": "delta"}, renew=False)]) == ["on"]
    assert not redis_client.exists(session_keys(session).lease)
    assert leases.progress([Progress(work)]) == ["on"]
    assert redis_client.exists(session_keys(session).lease)


def test_a_damaged_session_among_those_reported_harms_only_itself(
    sessions: Sessions, leases: Leases, redis_client: redis.Redis
) -> None:
    works = []
    # More than one step of the script takes.
    for _ in range(120):
        found = session_id(sessions.create("Ada")["token"])
        sessions.requests.accept(found, "m1", "hello")
        works.append(claimed(leases, found))
    reports = [Progress(work, "a", 0, {"type": "delta"}) for work in works]
    reports[50] = Progress(works[50], "b", 1, {"type": "delta"})
    redis_client.hset(session_keys(works[50].session).partial, "no", "text")
    assert leases.progress(reports) == [*["on"] * 50, "lost", *["on"] * 69]
    assert sessions.snapshot(works[119].session).partial == "a"


def test_a_report_that_a_full_redis_refuses_is_not_taken_for_a_damaged_session(
    sessions: Sessions, leases: Leases, session: str, redis_client: redis.Redis
) -> None:
    sessions.requests.accept(session, "m1", "hello")
    work = claimed(leases, session)
    redis_client.config_set("maxmemory", 1)
    try:
        with pytest.raises(StoreUnavailable, match="OutOfMemory"):
            leases.progress([Progress(work, "a", 0, {"type": "delta"})])
    finally:
        redis_client.config_set("maxmemory", 0)
    assert leases.progress([Progress(work, "a", 0, {"type": "delta"})]) == ["on"]


def test_stop_is_answered_to_the_next_progress_of_its_message_only(
    sessions: Sessions, leases: Leases, session: str
) -> None:
    sessions.requests.accept(session, "m1", "hello")
    sessions.requests.accept(session, "m2", "more")
    work = claimed(leases, session)
    assert sessions.requests.stop(session) is False
    assert leases.progress([Progress(work)]) == ["stop"]
    following = leases.commit(work, "he", "stopped", go_on=True)
    assert following is not None
    assert not following.stopped
    assert leases.progress([Progress(following)]) == ["on"]


def test_a_message_can_be_stopped_before_a_worker_claims_it(sessions: Sessions, leases: Leases, session: str) -> None:
    sessions.requests.accept(session, "m1", "hello")
    assert sessions.requests.stop(session) is True
    assert claimed(leases, session).stopped


def test_stop_without_a_reply_is_refused(sessions: Sessions, session: str) -> None:
    with pytest.raises(ClientError, match="nothing_to_stop"):
        sessions.requests.stop(session)


def test_a_failure_is_recorded_and_can_be_retried_once(sessions: Sessions, leases: Leases, session: str) -> None:
    sessions.requests.accept(session, "m1", "hello")
    assert leases.fail(claimed(leases, session), "It broke.", go_on=True) is None
    snapshot = sessions.snapshot(session)
    assert snapshot.failed == {"m1": "It broke."}
    assert snapshot.pending == []
    assert sessions.requests.accept(session, "m1", "hello").failure == "It broke."
    assert sessions.requests.retry(session, "m1").wake
    assert not sessions.requests.retry(session, "m1").reply
    leases.commit(claimed(leases, session), "hi", "stop", go_on=True)
    assert sessions.snapshot(session).failed == {}
    with pytest.raises(ClientError, match="not_retryable"):
        sessions.requests.retry(session, "m1")


def test_a_retried_messages_prompt_holds_no_later_message(sessions: Sessions, leases: Leases, session: str) -> None:
    sessions.requests.accept(session, "m1", "q1")
    leases.fail(claimed(leases, session), "It broke.", go_on=True)
    sessions.requests.accept(session, "m2", "q2")
    work = claimed(leases, session)
    assert prompt(work) == ["q2"]
    leases.commit(work, "a2", "stop", go_on=True)
    sessions.requests.retry(session, "m1")
    assert prompt(claimed(leases, session)) == ["q1"]


def test_a_failed_message_is_in_prompts_once_it_was_answered(sessions: Sessions, leases: Leases, session: str) -> None:
    say(sessions, leases, session, "q1", "a1")
    sessions.requests.accept(session, "bad", "bad")
    leases.fail(claimed(leases, session), "It broke.", go_on=True)
    say(sessions, leases, session, "q2", "a2", prompt=["q1", "a1", "q2"])
    sessions.requests.retry(session, "bad")
    say(sessions, leases, session, None, "good", prompt=["q1", "a1", "bad"])
    say(sessions, leases, session, "q3", "a3", prompt=["q1", "a1", "bad", "good", "q2", "a2", "q3"])


def test_prompts_grow_and_are_then_cut_to_half_at_once(redis_client: redis.Redis, sessions: Sessions) -> None:
    for history in (1, 2, 3, 6, 7):
        session = session_id(sessions.create("Ada")["token"])
        sizes, texts = [], []
        for n in range(20):
            sessions.requests.accept(session, None, f"q{n}")
            # Each prompt comes from another worker.
            leases = Leases(redis_client, ttl=60, history_messages=history)
            work = claimed(leases, session)
            texts.append(prompt(work))
            sizes.append(len(work.messages) // 2)
            leases.commit(work, f"a{n}", "stop", go_on=True)
        half = history // 2
        once = [*range(half, 2 * half + 1)] or [0]
        assert sizes == [*range(half), *once * 20][:20], "turns before the message"
        cuts = sum(now[0] != before[0] for before, now in itertools.pairwise(texts))
        assert cuts == (len(range(2 * half + 1, 20, half + 1)) if half else 19)


@pytest.mark.parametrize("skipped", [1, 7, 40])
def test_a_prompt_is_filled_with_turns_that_have_text(
    sessions: Sessions, leases: Leases, session: str, skipped: int
) -> None:
    say(sessions, leases, session, "q1", "a1")
    say(sessions, leases, session, "q2", "a2")
    for number in range(skipped):
        sessions.requests.accept(session, f"bad{number}", f"bad{number}")
        leases.fail(claimed(leases, session), "It broke.", go_on=True)
        say(sessions, leases, session, f"stopped{number}", "")
    say(sessions, leases, session, "q3", "a3", prompt=["q1", "a1", "q2", "a2", "q3"])


def test_a_prompt_skips_a_bounded_number_of_turns(
    sessions: Sessions, leases: Leases, session: str, redis_client: redis.Redis
) -> None:
    store_turns(redis_client, session, [("q1", "a1"), *[("stopped", "")] * 3000], ttl=60)
    say(sessions, leases, session, "q2", "a2", prompt=["q2"])


def test_a_postponed_message_is_not_claimed_before_its_due_time(
    sessions: Sessions, leases: Leases, session: str, redis_client: redis.Redis
) -> None:
    sessions.requests.accept(session, "m1", "hello")
    leases.postpone(claimed(leases, session), 100, loading=False)
    assert leases.claim(session) is None
    assert not sessions.requests.accept(session, "m2", "more").wake
    assert overdue(redis_client) == []
    redis_client.hset(session_keys(session).state, "hold", 1)
    work = claimed(leases, session)
    assert (work.message_id, work.attempts, work.loading_for) == ("m1", 1, 0)


def test_loading_is_counted_in_time_and_not_in_attempts(
    sessions: Sessions, leases: Leases, session: str, redis_client: redis.Redis
) -> None:
    sessions.requests.accept(session, "m1", "hello")
    leases.postpone(claimed(leases, session), 0.001, loading=True)
    redis_client.hset(session_keys(session).state, mapping={"hold": 1, "loading": 1})
    work = claimed(leases, session)
    assert work.attempts == 0
    assert work.loading_for > 1e9


def test_a_message_that_is_handed_back_is_overdue_at_once(
    sessions: Sessions, leases: Leases, session: str, redis_client: redis.Redis
) -> None:
    sessions.requests.accept(session, "m1", "hello")
    leases.hand_back(claimed(leases, session))
    assert overdue(redis_client) == [session]
    assert claimed(leases, session).attempts == 0


def test_the_sweep_returns_an_overdue_session_once(sessions: Sessions, session: str, redis_client: redis.Redis) -> None:
    sessions.requests.accept(session, "m1", "hello")
    assert overdue(redis_client) == []
    redis_client.zadd(LEDGER, {session: 1})
    assert overdue(redis_client) == [session]
    assert overdue(redis_client) == []
    first = redis_client.zscore(LEDGER, session)
    redis_client.zadd(LEDGER, {session: 1})
    assert overdue(redis_client) == [session]
    second = redis_client.zscore(LEDGER, session)
    assert first is not None
    assert second is not None
    assert second > first + 1500


def test_one_of_many_workers_sweeps_each_second(redis_client: redis.Redis) -> None:
    ledgers = [Ledger(redis_client) for _ in range(5)]
    assert [ledger.overdue() is None for ledger in ledgers] == [False, True, True, True, True]


def test_a_worker_that_sweeps_more_often_waits_for_no_other(redis_client: redis.Redis) -> None:
    seldom, often, other = (Ledger(redis_client) for _ in range(3))
    assert seldom.overdue() is not None
    assert often.overdue(interval=60) is None
    assert often.overdue(interval=0.2) is not None
    assert redis_client.pttl(SWEPT) <= 200
    assert other.overdue() is None


def test_what_a_worker_has_claimed_is_owed_and_what_none_has_is_not(
    sessions: Sessions, leases: Leases, redis_client: redis.Redis
) -> None:
    first, second, third = (session_id(sessions.create("Ada")["token"]) for _ in range(3))
    for session in (first, second, third):
        sessions.requests.accept(session, "m1", "hello")
    leases.hand_back(claimed(leases, first))
    leases.postpone(claimed(leases, second), 100, loading=False)
    redis_client.hset(session_keys(second).state, "hold", 1)
    for session in (second, third):
        redis_client.zadd(LEDGER, {session: 1})
    found = sweep(redis_client)
    assert sorted(found.owed) == sorted([first, second])
    assert found.unclaimed == [third]
    # Once it is answered, a session starts anew.
    leases.commit(claimed(leases, first), "hi", "stop", go_on=True)
    sessions.requests.accept(first, "m2", "again")
    redis_client.zadd(LEDGER, {first: 1})
    assert sweep(redis_client).unclaimed == [first]


def test_a_session_that_later_ones_have_overtaken_is_owed(
    sessions: Sessions, leases: Leases, redis_client: redis.Redis
) -> None:
    ids = [session_id(sessions.create("Ada")["token"]) for _ in range(3)]
    for session in ids:
        sessions.requests.accept(session, "m1", "hello")
    # The first has been ready for long; its task was lost.
    redis_client.zincrby(WAITING, -10_000, ids[0])
    claimed(leases, ids[1])
    for session in (ids[0], ids[2]):
        redis_client.zadd(LEDGER, {session: 1})
    found = sweep(redis_client)
    assert found.owed == [ids[0]]
    assert found.unclaimed == [ids[2]]


def test_a_stopped_retry_is_overdue_at_once(
    sessions: Sessions, leases: Leases, session: str, redis_client: redis.Redis
) -> None:
    sessions.requests.accept(session, "m1", "hello")
    leases.postpone(claimed(leases, session), 100, loading=False)
    sessions.requests.stop(session)
    assert sweep(redis_client).owed == [session]


def test_what_is_owed_is_enqueued_again_only_at_growing_intervals(
    sessions: Sessions, leases: Leases, session: str, redis_client: redis.Redis
) -> None:
    def checked() -> str:
        redis_client.zadd(LEDGER, {session: 1})
        return next(name for name, found in sweep(redis_client)._asdict().items() if session in found)

    sessions.requests.accept(session, "m1", "hello")
    assert checked() == "unclaimed"
    leases.hand_back(claimed(leases, session))
    assert [checked() for _ in range(7)] == ["owed", "queued", "owed", "queued", "queued", "queued", "owed"]
    leases.hand_back(claimed(leases, session))
    assert checked() == "owed"


def test_concurrent_sweeps_return_each_session_once(sessions: Sessions, redis_client: redis.Redis) -> None:
    ids = [session_id(sessions.create("Ada")["token"]) for _ in range(30)]
    for each in ids:
        sessions.requests.accept(each, "m1", "hello")
        redis_client.zadd(LEDGER, {each: 1})
    found: list[str] = []

    def sweep_often() -> None:
        for _ in range(5):
            redis_client.delete(SWEPT)
            if overdue := Ledger(redis_client).overdue():
                found.extend([*overdue.owed, *overdue.unclaimed, *overdue.queued])

    threads = [threading.Thread(target=sweep_often) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == sorted(ids)


def test_the_sweep_skips_a_session_while_a_worker_holds_the_lease(
    sessions: Sessions, leases: Leases, session: str, redis_client: redis.Redis
) -> None:
    sessions.requests.accept(session, "m1", "hello")
    claimed(leases, session)
    redis_client.zadd(LEDGER, {session: 1})
    assert overdue(redis_client) == []
    expire_lease(redis_client, session)
    redis_client.zadd(LEDGER, {session: 1})
    assert overdue(redis_client) == [session]


def test_the_sweep_releases_the_lease_of_a_dead_worker(
    sessions: Sessions, session: str, redis_client: redis.Redis
) -> None:
    leases = Leases(redis_client, ttl=60, history_messages=4, channel=lambda _: "worker-channel")
    sessions.requests.accept(session, "m1", "hello")
    with Subscription(redis_client, "worker-channel"):
        work = claimed(leases, session)
        assert overdue(redis_client) == []
        assert leases.claim(session) is None
    eventually(lambda: redis_client.pubsub_numsub("worker-channel")[0][1] == 0)
    # After a restart of Redis a living worker has no subscription either, until it is connected again.
    redis_client.delete(SWEPT)
    found = Ledger(redis_client, lambda _: False).overdue()
    assert found is not None
    assert found.owed == []
    assert overdue(redis_client) == [session]
    assert overdue(redis_client) == []
    with pytest.raises(LeaseLost):
        leases.commit(work, "too late", "stop", go_on=True)
    assert claimed(leases, session).message_id == "m1"


def test_the_sweep_removes_expired_sessions(sessions: Sessions, session: str, redis_client: redis.Redis) -> None:
    sessions.requests.accept(session, "m1", "hello")
    end_session(redis_client, session)
    redis_client.zadd(LEDGER, {session: 1})
    assert overdue(redis_client) == []
    assert redis_client.zcard(LEDGER) == 0
    with pytest.raises(SessionNotFound):
        sessions.requests.accept(session, "m2", "anybody?")


def test_all_keys_of_a_session_expire_together(
    sessions: Sessions, leases: Leases, session: str, redis_client: redis.Redis
) -> None:
    sessions.requests.accept(session, "m1", "hello")
    sessions.requests.accept(session, "m2", "hello")
    work = claimed(leases, session)
    leases.progress([Progress(work, "text", 0, {"type": "delta"})])
    following = leases.fail(work, "It broke.", go_on=True)
    assert following is not None
    leases.progress([Progress(following, "text", 0, {"type": "delta"})])
    keys = list(redis_client.scan_iter("chat:{*"))
    assert len(keys) == 8
    for key in keys:
        assert 0 < redis_client.pttl(key) <= 60_000, key


def test_events_have_a_number_and_the_position_that_they_complete(
    sessions: Sessions, leases: Leases, session: str, redis_client: redis.Redis
) -> None:
    with Subscription(redis_client, events_channel(session)) as listening:
        sessions.requests.accept(session, "m1", "hello")
        work = claimed(leases, session)
        leases.progress([Progress(work, "h", 0, {"type": "delta", "msg": "h"})])
        leases.commit(work, "hi", "stop", go_on=True)
        events = [Event.decode(listening.next()) for _ in range(3)]
    assert [(e.number, e.position, json.loads(e.frame)["type"]) for e in events] == [
        (1, 1, "message"),
        (2, None, "delta"),
        (3, 2, "message"),
    ]
    assert sessions.snapshot(session).event == 3


def test_a_snapshot_resumes_after_any_message(sessions: Sessions, leases: Leases, session: str) -> None:
    for n in (1, 2):
        sessions.requests.accept(session, f"m{n}", f"q{n}")
        leases.commit(claimed(leases, session), f"a{n}", "stop", go_on=True)
    after_first = sessions.snapshot(session, after="m1")
    assert after_first.recovered is True
    assert [m["msg"] for m in after_first.messages] == ["a1", "q2", "a2"]
    after_reply = sessions.snapshot(session, after=reply_id(session, "m2"))
    assert (after_reply.recovered, after_reply.messages) == (True, [])
    unknown = sessions.snapshot(session, after="unknown")
    assert (unknown.recovered, unknown.messages) == (False, [])
    assert sessions.snapshot(session).recovered is None


def test_control_characters_and_astral_text_survive_storage(sessions: Sessions, leases: Leases, session: str) -> None:
    text = 'a\0b\x7f\u2028 "quoted" \\ 👩🏽‍🚀 שלום'
    sessions.requests.accept(session, "m1", text)
    leases.commit(claimed(leases, session), text, "stop", go_on=True)
    assert [m["msg"] for m in stored_messages(sessions, session)] == [text, text]
