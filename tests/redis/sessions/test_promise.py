"""A checker of the steps: whatever users, workers and time do, in any order, the promise holds.

Hypothesis runs the real scripts on a real Redis in thousands of orders: two workers that claim, report, commit, fail,
postpone, die and wake up late; users who send, repeat, retry and stop; sessions that end; time that passes. After every
step the stored keys must agree with a plain model of the promise (docs/protocol.md), and at the end a fair scheduler
must be able to settle every acknowledged message.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest
import redis
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from chatbot.protocol.client_errors import ClientError, SessionNotFound
from chatbot.protocol.client_frames import OnBusy
from chatbot.sessions.ids import reply_id, session_id
from chatbot.sessions.leases import Assignment, LeaseLost, Leases, Progress
from chatbot.sessions.requests import Terms
from chatbot.sessions.sessions import Sessions
from chatbot.store import script_texts, scripts
from chatbot.store.keys import LEDGER, WAITING, session_keys
from chatbot.store.partition_table import open_partitions
from chatbot.store.partitions import Partitions, partitions_of
from tests.support.ledger import end_session, overdue
from tests.support.windows import window_begin

#: Unanswered messages that a session of the checker may have.
MAX_PENDING = 4
#: Messages in a prompt after its history was cut, the one to answer included.
HISTORY = 4
#: ms that time moves when it passes: longer than a lease and any scheduled retry.
LONG = 120_000

#: Messages before a session may end: an early end leaves nothing to try.
SEVERAL = 6

WORKERS = st.integers(0, 1)
ON_BUSY: st.SearchStrategy[OnBusy] = st.sampled_from(["queue", "queue", "interrupt", "reject"])
SESSIONS = st.integers(0, 1)


@dataclass
class Conversation:
    """What must be true of one session."""

    id: str
    #: Requests in the order of their first acknowledgement: human messages and regenerations.
    acknowledged: list[str] = field(default_factory=list)
    #: The human message of each request.
    human: dict[str, str] = field(default_factory=dict)
    #: For each human message the request that it follows.
    parent: dict[str, str | None] = field(default_factory=dict)
    #: For each human message what it names as its parent.
    stored_parent: dict[str, str | None] = field(default_factory=dict)
    #: The request at the end of the path that is shown.
    leaf: str | None = None
    #: Unanswered requests in the order in which they must be answered.
    pending: list[str] = field(default_factory=list)
    #: Pending requests whose reply was stopped, each with the newest request of that moment.
    stopped: dict[str, str] = field(default_factory=dict)
    failed: set[str] = field(default_factory=set)
    replies: dict[str, str] = field(default_factory=dict)
    #: Ids in the order in which they were stored.
    log: list[str] = field(default_factory=list)
    alive: bool = True

    def some(self, which: int) -> str:
        return self.acknowledged[which % len(self.acknowledged)]

    def path(self, request: str | None) -> list[str]:
        """The requests from this one back to the beginning."""
        steps = []
        while request is not None:
            steps.append(request)
            request = self.parent[self.human[request]]
        return steps

    def last_id(self, request: str | None) -> str | None:
        """The last message of a request's turn."""
        if request is None:
            return None
        return reply_id(self.id, request) if request in self.replies else self.human[request]

    def stop(self, *, again: bool = False) -> None:
        """Stops the first reply that is not stopped; with `again` the last stop may be repeated."""
        newest = self.pending[-1]
        for request in self.pending:
            if request not in self.stopped or (again and self.stopped[request] == newest):
                break
        self.stopped[request] = newest

    def settle(self) -> str:
        """The next request has its end."""
        self.stopped.pop(self.pending[0], None)
        return self.pending.pop(0)

    def add(self, request: str, human: str, parent: str | None, stored_parent: str | None = "") -> None:
        if request == human:
            if stored_parent == "":
                stored_parent = reply_id(self.id, parent) if parent in self.replies else parent
            self.stored_parent[human] = stored_parent
            self.parent[human] = parent
            self.log.append(human)
        self.human[request] = human
        self.acknowledged.append(request)
        self.pending.append(request)
        self.leaf = request


class Chat(RuleBasedStateMachine):
    """The steps of web and of two workers, in any order."""

    table: Partitions

    def __init__(self) -> None:
        super().__init__()
        self.table.home.client.execute_command("FLUSHALL", "SYNC")
        self.sessions = Sessions(self.table, ttl=3600, max_pending=MAX_PENDING)
        # Worker 0 names a channel without a subscriber: the next sweep counts it as dead. Worker 1 names
        # none: only the end of its lease shows that it is dead.
        self.leases = [
            Leases(self.table, ttl=3600, history_messages=HISTORY, channel=lambda _: "chat:dead"),
            Leases(self.table, ttl=3600, history_messages=HISTORY),
        ]
        self.chats = [Conversation(session_id(self.sessions.create("Ada")["token"])) for _ in range(2)]
        #: What each worker believes to hold; a worker that was frozen holds an old assignment.
        self.held: list[tuple[int, Conversation, Assignment]] = []
        self.count = 0

    # Users

    @rule(chat=SESSIONS, on_busy=ON_BUSY)
    def send(self, chat: int, on_busy: OnBusy = "queue") -> None:
        found, message = self.chats[chat], self._new_id()
        if self._request(
            found, on_busy, lambda: self.sessions.requests.accept(found.id, message, "text", Terms(on_busy=on_busy))
        ):
            found.add(message, message, found.leaf)

    @precondition(lambda self: any(chat.alive and chat.acknowledged for chat in self.chats))
    @rule(chat=SESSIONS, which=st.integers(0, 7), on_busy=ON_BUSY)
    def edit(self, chat: int, which: int, on_busy: OnBusy) -> None:
        """A sibling of a human message."""
        found, message = self.chats[chat], self._new_id()
        of = found.human[found.some(which)] if found.acknowledged else "none"
        if self._request(
            found,
            on_busy,
            lambda: self.sessions.requests.edit(found.id, of, message, "edited", Terms(on_busy=on_busy)),
            of,
        ):
            found.add(message, message, found.parent[of], found.stored_parent[of])

    @precondition(lambda self: any(chat.alive and chat.acknowledged for chat in self.chats))
    @rule(chat=SESSIONS, which=st.integers(0, 7), by_reply=st.booleans(), on_busy=ON_BUSY)
    def regenerate(self, chat: int, which: int, by_reply: bool, on_busy: OnBusy) -> None:
        """Another reply to a human message, which is named by its id or by that of one of its replies."""
        found, request = self.chats[chat], self._new_id()
        about = found.some(which) if found.acknowledged else "none"
        of = reply_id(found.id, about) if by_reply and about in found.replies else found.human.get(about, "none")
        if self._request(
            found, on_busy, lambda: self.sessions.requests.regenerate(found.id, of, request, Terms(on_busy=on_busy)), of
        ):
            found.add(request, found.human[about], found.parent[found.human[about]])

    @precondition(lambda self: any(chat.alive and chat.acknowledged for chat in self.chats))
    @rule(chat=SESSIONS, which=st.integers(0, 7), by_reply=st.booleans())
    def select(self, chat: int, which: int, by_reply: bool) -> None:
        found = self.chats[chat]
        if not (found.alive and found.acknowledged):
            return
        request = found.some(which)
        by_reply = by_reply and request in found.replies
        self.sessions.select(found.id, reply_id(found.id, request) if by_reply else found.human[request])
        below = [
            other
            for other in found.acknowledged
            if any(
                step == request if by_reply else found.human[step] == found.human[request] for step in found.path(other)
            )
        ]
        found.leaf = below[-1]

    @precondition(lambda self: any(chat.alive and chat.acknowledged for chat in self.chats))
    @rule(chat=SESSIONS, which=st.integers(0, 7))
    def send_again(self, chat: int, which: int) -> None:
        """The same id again is not a second request."""
        found = self.chats[chat]
        if not (found.alive and found.acknowledged):
            return
        request = found.some(which)
        human = found.human[request]
        if human == request:
            accepted = self.sessions.requests.accept(found.id, request, "another text", Terms(on_busy="interrupt"))
        else:
            accepted = self.sessions.requests.regenerate(found.id, human, request, Terms(on_busy="interrupt"))
        assert (accepted.reply or {}).get("msg") == found.replies.get(request)
        assert (accepted.failure is not None) == (request in found.failed)

    @precondition(lambda self: any(chat.alive and chat.acknowledged for chat in self.chats))
    @rule(chat=SESSIONS, which=st.integers(0, 7))
    def retry(self, chat: int, which: int) -> None:
        found = self.chats[chat]
        if not (found.alive and found.acknowledged):
            return
        message = found.acknowledged[which % len(found.acknowledged)]
        try:
            self.sessions.requests.retry(found.id, message)
        except ClientError as error:
            if error.code == "not_retryable":
                assert message in found.replies
            else:
                assert (error.code, message in found.failed) == ("too_many_pending", True)
        else:
            if message in found.failed:
                found.failed.remove(message)
                found.pending.append(message)
            assert message in found.pending

    @rule(chat=SESSIONS)
    def stop(self, chat: int) -> None:
        found = self.chats[chat]
        try:
            self.sessions.requests.stop(found.id)
        except SessionNotFound:
            assert not found.alive
        except ClientError as error:
            assert error.code == "nothing_to_stop"
            assert not found.pending
        else:
            found.stop(again=True)

    @precondition(lambda self: self.count >= SEVERAL and all(chat.alive for chat in self.chats))
    @rule(chat=SESSIONS)
    def end_session(self, chat: int) -> None:
        """The session's time to live is over: its keys expire together."""
        found = self.chats[chat]
        end_session(self._client(found), found.id)
        found.alive = False

    # Workers

    @precondition(lambda self: any(chat.pending for chat in self.chats))
    @rule(worker=WORKERS, chat=SESSIONS)
    def claim(self, worker: int, chat: int) -> None:
        found = self.chats[chat]
        if not found.pending:
            found = self.chats[1 - chat]
        was_held = self._client(found).exists(session_keys(found.id).lease)
        work = self.leases[worker].claim(found.id)
        if work is not None:
            assert not was_held, "two workers hold the lease"
            self._assigned(worker, found, work)

    @precondition(lambda self: self.held)
    @rule(which=st.integers(0, 3), text=st.sampled_from(["", "a", "bc"]))
    def report(self, which: int, text: str) -> None:
        held = self.held[which % len(self.held)]
        worker, found, work = held
        answer = self.leases[worker].progress([Progress(work, text, 0, {"type": "delta"} if text else None)])[0]
        assert answer in ("on", "stop", "lost", "ended")
        if answer in ("lost", "ended"):
            assert not self._current(found, work)
            assert found.alive == (answer == "lost")
            self.held.remove(held)
        else:
            assert (answer == "stop") == (work.message_id in found.stopped), "another reply is stopped"

    @precondition(lambda self: self.held)
    @rule(which=st.integers(0, 3), go_on=st.booleans(), empty=st.booleans())
    def commit(self, which: int, go_on: bool, empty: bool = False) -> None:
        worker, found, work = self.held.pop(which % len(self.held))
        text = "" if empty else f"reply of {worker} under {work.fence}"
        was_current = self._current(found, work)
        try:
            following = self.leases[worker].commit(work, text, "stop", go_on=go_on)
        except LeaseLost:
            assert not was_current
            return
        assert was_current
        assert found.settle() == work.message_id
        found.replies[work.message_id] = text
        found.log.append(work.reply_id)
        self._following(worker, found, following, go_on)

    @precondition(lambda self: self.held)
    @rule(which=st.integers(0, 3), go_on=st.booleans())
    def fail(self, which: int, go_on: bool) -> None:
        worker, found, work = self.held.pop(which % len(self.held))
        was_current = self._current(found, work)
        try:
            following = self.leases[worker].fail(work, "The model failed.", go_on=go_on)
        except LeaseLost:
            assert not was_current
            return
        assert was_current
        assert found.settle() == work.message_id
        found.failed.add(work.message_id)
        self._following(worker, found, following, go_on)

    @precondition(lambda self: self.held)
    @rule(which=st.integers(0, 3), loading=st.booleans(), hand_back=st.booleans())
    def postpone(self, which: int, loading: bool, hand_back: bool) -> None:
        worker, found, work = self.held.pop(which % len(self.held))
        was_current = self._current(found, work)
        try:
            if hand_back:
                self.leases[worker].hand_back(work)
            else:
                self.leases[worker].postpone(work, 30.0, loading=loading)
        except LeaseLost:
            assert not was_current
        else:
            assert was_current

    @precondition(lambda self: self.held)
    @rule(which=st.integers(0, 3))
    def freeze(self, which: int) -> None:
        """A worker stands still until its lease has expired, and another one claims; it will wake up late."""
        worker, found, _ = self.held[which % len(self.held)]
        self.time_passes()
        self.claim(1 - worker, self.chats.index(found))

    @precondition(lambda self: self.held)
    @rule(worker=WORKERS)
    def die(self, worker: int) -> None:
        """SIGKILL: the worker forgets all that it held."""
        self.held = [held for held in self.held if held[0] != worker]

    @precondition(lambda self: self.count)
    @rule()
    def sweep(self) -> None:
        for session in self._overdue():
            assert any(session == found.id for found in self.chats)

    @precondition(lambda self: self.count)
    @rule()
    def time_passes(self) -> None:
        """Leases expire, retries fall due."""
        for found in self.chats:
            keys = session_keys(found.id)
            with self._client(found).pipeline(transaction=False) as reads:
                reads.delete(keys.lease)
                reads.hget(keys.state, "hold")
                reads.zscore(LEDGER, found.id)
                reads.zscore(WAITING, found.id)
                _, hold, due, ready = reads.execute()
            with self._client(found).pipeline(transaction=False) as writes:
                if hold is not None:
                    writes.hset(keys.state, "hold", int(hold) - LONG)
                for key, score in ((LEDGER, due), (WAITING, ready)):
                    if score is not None:
                        writes.zincrby(key, -LONG, found.id)
                writes.execute()

    # The promise

    @invariant()
    def the_stored_session_agrees(self) -> None:
        for found in self.chats:
            with self._client(found).pipeline(transaction=False) as reads:
                keys = session_keys(found.id)
                reads.execute_command("JSON.GET", keys.document)
                reads.lrange(keys.pending, 0, -1)
                reads.hkeys(keys.failed)
                reads.zscore(LEDGER, found.id)
                document, pending, failed, due = reads.execute()
            if not found.alive:
                assert document is None
                continue
            stored = json.loads(document)["messages"]
            assert [message["id"] for message in stored] == found.log
            replies = [(m.get("request", m["reply_to"]), m) for m in stored if m["source"] == "bot"]
            replied = [request for request, _ in replies]
            assert len(replied) == len(set(replied)), "two replies to one request"
            assert {request: m["msg"] for request, m in replies} == found.replies
            assert all(m["reply_to"] == m["parent"] == found.human[request] for request, m in replies), "a wrong parent"
            parents = {m["id"]: m["parent"] for m in stored if m["source"] == "human"}
            assert parents == found.stored_parent, "a wrong parent"
            assert self.sessions.snapshot(found.id, touch=False).leaf == found.last_id(found.leaf), (
                "another path is shown"
            )
            assert pending == found.pending, "pending"
            assert set(failed) == found.failed, "failed"
            assert due is not None or not found.pending, "no sweep will ever find this session"
            accounted = sorted([*found.pending, *found.failed, *found.replies])
            assert accounted == sorted(found.acknowledged), "an acknowledged message is lost"

    def teardown(self) -> None:
        """A fair scheduler settles whatever was acknowledged."""
        self.held.clear()
        for _ in range(4 * MAX_PENDING):
            if not any(found.pending for found in self.chats if found.alive):
                break
            self.time_passes()
            for session in self._overdue():
                found = next(chat for chat in self.chats if chat.id == session)
                work = self.leases[1].claim(session)
                while work is not None:
                    self._assigned(1, found, work)
                    self.commit(which=0, go_on=True)
                    work = self.held.pop()[2] if self.held else None
        assert not any(found.pending for found in self.chats if found.alive)
        self.the_stored_session_agrees()

    def _client(self, found: Conversation) -> redis.Redis:
        return self.table.of(found.id).client

    def _overdue(self) -> list[str]:
        return [session for partition in self.table.all for session in overdue(partition.client)]

    def _new_id(self) -> str:
        self.count += 1
        return f"m{self.count}"

    def _request(self, found: Conversation, on_busy: OnBusy, step: Callable[[], object], of: str = "") -> bool:
        """Whether the step was accepted; a refusal stores nothing, which the invariants check."""
        running = found.pending[0] if found.pending else None
        try:
            step()
        except SessionNotFound:
            assert not found.alive
            return False
        except ClientError as error:
            if error.code == "busy":
                assert (on_busy, bool(running)) == ("reject", True)
            elif error.code == "message_not_found":
                assert of == "none"
            else:
                assert error.code == "too_many_pending"
                assert len(found.pending) >= MAX_PENDING
            return False
        assert found.alive
        assert not (on_busy == "reject" and running)
        if on_busy == "interrupt" and running:
            assert self._client(found).hget(session_keys(found.id).state, "stop") == running, (
                "what runs was not stopped"
            )
            found.stop()
        return True

    def _assigned(self, worker: int, found: Conversation, work: Assignment) -> None:
        assert found.alive
        assert found.pending[:1] == [work.message_id], "out of order"
        assert work.stopped == (work.message_id in found.stopped), "another reply is stopped"
        assert work.reply_id == reply_id(found.id, work.message_id)
        prompt = [message["id"] for message in work.messages]
        assert work.reply_to == found.human[work.message_id]
        path = list(reversed(found.path(work.message_id)[1:]))
        turns = [
            part
            for request in path[window_begin([bool(found.replies.get(request)) for request in path], HISTORY) :]
            if found.replies.get(request)
            for part in (found.human[request], reply_id(found.id, request))
        ]
        assert prompt == [*turns, work.reply_to], "the prompt is not the answered turns of its path"
        self.held.append((worker, found, work))

    def _following(self, worker: int, found: Conversation, following: Assignment | None, go_on: bool) -> None:
        if following is None:
            assert not (go_on and found.pending)
        else:
            assert go_on
            self._assigned(worker, found, following)

    def _current(self, found: Conversation, work: Assignment) -> bool:
        """Whether this claim is the newest: its fence is the one stored."""
        return found.alive and self._client(found).hget(session_keys(found.id).state, "fence") == work.fence


#: Of the searches for the faults below; the first finds nearly all of them.
SEEDS = (4, 1, 5, 7, 0, 2, 3, 6, 8, 9)
QUICK = settings(
    max_examples=100,
    stateful_step_count=50,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture
def machine(redis_client: redis.Redis) -> type[Chat]:
    return type("Chat", (Chat,), {"table": partitions_of(redis_client)})


def test_the_promise_holds_in_any_order_of_steps(machine: type[Chat]) -> None:
    run_state_machine_as_test(machine, settings=QUICK)


@pytest.mark.usefixtures("redis_client")
def test_the_promise_holds_over_several_partitions(redis_url: str) -> None:
    # Databases of one Redis share nothing but its channels.
    table = open_partitions([f"{redis_url.removesuffix('/0')}/{number}" for number in range(3)], 5)
    try:
        run_state_machine_as_test(type("Chat", (Chat,), {"table": table}), settings=settings(QUICK, max_examples=25))
    finally:
        table.disconnect()


@contextmanager
def fault(monkeypatch: pytest.MonkeyPatch, script: str, line: str, instead: str) -> Iterator[None]:
    """The script with a fault put back in."""
    original = script_texts.source

    def faulty(name: str) -> str:
        text = original(name)
        if name == script:
            assert text.count(line) == 1, f"{line!r} is not in {script}.lua any more: name the fault again"
            text = text.replace(line, instead)
        return text

    monkeypatch.setattr(scripts, "source", faulty)
    yield


@pytest.mark.parametrize(
    ("script", "line", "instead"),
    [
        pytest.param(
            "commit",
            "return owns_lease() and redis.call",
            "return exists() and redis.call",
            id="a worker that woke up late writes its reply",
        ),
        pytest.param(
            "claim",
            "if attended() then",
            "if false then",
            id="two workers hold one session",
        ),
        pytest.param(
            "accept",
            "redis.call('ZADD', ledger, 'NX', time + check_after_ms + 2 * math.floor(wait), session)",
            "",
            id="a message is stored without its entry in the ledger",
        ),
        pytest.param(
            "regenerate",
            "return await_reply(wait, number, id)",
            "return {'accepted', 0, 0, id}",
            id="a regeneration is acknowledged and never answered",
        ),
        pytest.param(
            "claim",
            "local at = branched and branch(turn) or turn - 1",
            "local at = turn - 1",
            id="a prompt is the log instead of its path",
        ),
        pytest.param(
            "accept",
            "  parent = branch(turn)\n",
            "  parent = leaf()\n",
            id="an edited message follows the leaf",
        ),
        pytest.param(
            "accept",
            "    stop_reply()\n",
            "",
            id="an interruption stops nothing",
        ),
        pytest.param(
            "select",
            "under = human and first == turn or from and below[from]",
            "under = from and below[from]",
            id="a message is shown without its newest reply",
        ),
    ],
)
def test_the_checker_finds_a_fault_put_back_in(
    machine: type[Chat], monkeypatch: pytest.MonkeyPatch, script: str, line: str, instead: str
) -> None:
    with fault(monkeypatch, script, line, instead), pytest.raises(AssertionError):
        search(machine)


def search(machine: type[Chat]) -> None:
    """Raises `AssertionError` when it finds a fault. Several searches: a long one begins with many short examples."""
    only_find = settings(QUICK, phases=[Phase.generate], max_examples=60, derandomize=False)
    for number in SEEDS:
        run_state_machine_as_test(seed(number)(machine), settings=only_find)
