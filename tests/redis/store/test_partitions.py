"""Several real Redis share the sessions: each step, the admission over all, what a lost Redis does to the others."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from chatbot.api_keys.charges import Charges
from chatbot.errors import StoreUnavailable
from chatbot.protocol import frames
from chatbot.protocol.client_errors import ClientError, RateLimited
from chatbot.sessions.buckets import Bucket
from chatbot.sessions.ids import session_id
from chatbot.sessions.leases import Leases, Progress
from chatbot.sessions.ledger import Ledger
from chatbot.sessions.queue_delay import expected_wait, read_lines
from chatbot.sessions.requests import Terms
from chatbot.sessions.sessions import Sessions
from chatbot.store.client import SOCKET_TIMEOUT
from chatbot.store.partition_table import open_partitions
from chatbot.store.partitions import Partition, Partitions
from chatbot.web.fanout.hub import Hub
from chatbot.web.readiness import readiness
from devtools.harness.deployment import Process, eventually
from devtools.harness.ports import free_port
from devtools.local.redis_server import redis_command

#: Seconds that a message may wait.
MAX_WAIT = 10.0


class Three:
    """Three Redis with their data on disk."""

    def __init__(self, folder: Path) -> None:
        ports = [free_port() for _ in range(3)]
        self.processes = []
        for port in ports:
            data = folder / str(port)
            data.mkdir()
            command = redis_command(port, data, ("--appendfsync", "always"))
            self.processes.append(Process("redis", command, {}, folder / f"{port}.log"))
        self.table = open_partitions([f"redis://127.0.0.1:{port}/0" for port in ports], 10)

    def start(self, number: int) -> None:
        self.processes[number].start()
        eventually(lambda: self.answers(number), what="Redis answers")

    def answers(self, number: int) -> bool:
        try:
            return bool(self.table.groups[number].client.ping())
        except Exception:  # noqa: BLE001 - whatever it is, Redis does not answer yet
            return False


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Three]:
    found = Three(tmp_path_factory.mktemp("three"))
    with ExitStack() as stack:
        for number, process in enumerate(found.processes):
            stack.callback(process.kill)
            found.start(number)
        stack.callback(found.table.disconnect)
        yield found


@pytest.fixture
def table(three: Three) -> Partitions:
    """The partitions of three empty Redis."""
    for group in three.table.groups:
        group.client.execute_command("FLUSHALL", "SYNC")
    return three.table


@pytest.fixture
def wary(table: Partitions) -> Sessions:
    return Sessions(table, ttl=60, max_pending=2, max_queue_age=MAX_WAIT)


def one_in_each(sessions: Sessions, table: Partitions) -> list[str]:
    """A new session in each partition, in their order."""
    found: dict[Partition, str] = {}
    while len(found) < len(table.all):
        session = session_id(sessions.create("Ada")["token"])
        found.setdefault(table.of(session), session)
    return [found[partition] for partition in table.all]


def address_in(table: Partitions, partition: Partition) -> str:
    return next(name for name in map("10.0.0.{}".format, range(99)) if table.of_address(name) is partition)


def answer(leases: Leases, session: str) -> None:
    work = leases.claim(session)
    assert work is not None
    assert leases.progress([Progress(work, "Hel", 0, frames.delta(work.reply_id, "m1", 0, "Hel"))]) == ["on"]
    leases.commit(work, "Hello", "stop", go_on=True)


def test_each_session_has_its_keys_in_one_redis(table: Partitions, wary: Sessions) -> None:
    leases = Leases(table, ttl=60, history_messages=4)
    found = one_in_each(wary, table)
    for session in found:
        assert wary.requests.accept(session, "m1", "hello", Terms(address="10.0.0.1")).wake
    assert Ledger(table).size() == 3
    assert [line.ready for line in read_lines(table.all)] == [1, 1, 1]
    works = [work for session in found if (work := leases.claim(session))]
    # Replies of all three, reported together.
    assert leases.progress([Progress(work, "Hel") for work in works]) == ["on"] * 3
    for work, partition in zip(works, table.all, strict=True):
        assert partition.client.get(partition.keys(work.session).partial) == "Hel"
        leases.commit(work, "Hello", "stop", go_on=True)
        names = {name.split("}")[0] for name in partition.client.scan_iter("chat:{*")}
        assert f"chat:{{{work.session}" in names
        assert all(table.of(name.removeprefix("chat:{")) is partition for name in names)
    # One that another Redis has by now is found, too.
    misplaced = found[0]
    table.all[1].client.json().set(table.all[1].keys(misplaced).document, "$", {})
    places = list(wary.find_all())
    assert {(found[0], table.all[0]), (misplaced, table.all[1])} < set(places)
    assert all(wary.end(session, (), at) for session, at in places)
    assert list(wary.find_all()) == []
    assert Ledger(table).size() == 0


def sweep_all(table: Partitions, ledger: Ledger) -> list[str]:
    """Sweeps each group now, twice, as each learns then what the others have."""
    owed: list[str] = []
    for _ in range(2):
        for group in table.groups:
            for partition in table.in_group(group):
                partition.client.delete(partition.swept)
            overdue = ledger.overdue(group)
            assert overdue is not None
            owed += overdue.owed + overdue.unclaimed
    return owed


def set_pace(partition: Partition, sessions_a_second: float) -> None:
    seconds, _ = partition.client.time()
    pace: dict[Any, Any] = {"claims": sessions_a_second * 100, "ms": 100_000, "at": seconds * 1000}
    partition.client.hset(partition.shared.pace, mapping=pace)


def test_the_surplus_of_an_address_is_refused_over_all_partitions(table: Partitions, wary: Sessions) -> None:
    ledger = Ledger(table)
    # One session a second over all three: a line of ten takes ten seconds.
    address = address_in(table, table.all[1])
    accepted = []
    for number, session in enumerate(session for _ in range(7) for session in one_in_each(wary, table)):
        for partition in table.all:
            # It does not fall meanwhile.
            set_pace(partition, 1 / 3)
        sweep_all(table, ledger)
        try:
            wary.requests.accept(session, f"m{number}", "hello", Terms(address=address))
            accepted.append(session)
        except RateLimited:
            continue
    # On one Redis an address gets eight ninths of the line, 9. Here those of the line's first half that are elsewhere
    # are not counted, so it gets the whole line.
    assert len(accepted) == 10
    assert len({table.of(session) for session in accepted}) > 1
    assert expected_wait(read_lines(table.all)) == pytest.approx(10, rel=0.1)
    # A newcomer whose address and session are anywhere finds room.
    assert wary.requests.accept(
        one_in_each(wary, table)[0], "m1", "hello", Terms(address=address_in(table, table.all[2]))
    ).wake


def line_is_long(sessions: Sessions) -> None:
    """As after a refusal: the partition with the line of a message's address is asked for each."""
    sessions._admission._long_until = time.monotonic() + 60


def test_an_address_elsewhere_is_asked_only_while_the_line_is_long(table: Partitions, wary: Sessions) -> None:
    there, far, _ = table.all
    address = address_in(table, far)
    session = one_in_each(wary, table)[0]
    far.client.config_resetstat()
    wary.requests.accept(session, "m1", "hello", Terms(address=address))
    assert "cmdstat_evalsha" not in far.client.info("commandstats")
    # The line may have ten sessions: with six in it the address's partition decides.
    set_pace(there, 1)
    there.client.zadd(there.shared.waiting, {f"s{number}": 1 for number in range(5)})
    wary.requests.accept(one_in_each(wary, table)[0], "m1", "hello", Terms(address=address))
    assert far.client.zcard(far.line(address)) == 1


def test_what_was_claimed_elsewhere_leaves_the_line_by_the_queue_delay(table: Partitions, wary: Sessions) -> None:
    there, far, _ = table.all
    address = address_in(table, far)
    leases = Leases(table, ttl=60, history_messages=4)
    first, second = (one_in_each(wary, table)[0] for _ in range(2))
    line_is_long(wary)
    wary.requests.accept(first, "m1", "hello", Terms(address=address))
    assert far.client.zrange(far.line(address), 0, -1) == [first]
    answer(leases, first)
    # A line that takes a while somewhere, and an entry older than its delay.
    set_pace(there, 1)
    wary.requests.accept(second, "m1", "hello", Terms(address=address))
    far.client.zincrby(far.line(address), -60_000, first)
    # However long the rest takes, this one is no older than the delay that the sweep reads.
    far.client.zincrby(far.line(address), 60_000, second)
    third = one_in_each(wary, table)[0]
    sweep_all(table, Ledger(table))
    wary.requests.accept(third, "m1", "hello", Terms(address=address))
    assert set(far.client.zrange(far.line(address), 0, -1)) == {second, third}


def test_what_the_session_refuses_is_given_back_to_the_address(table: Partitions, wary: Sessions) -> None:
    far = table.all[1]
    address, session = address_in(table, far), one_in_each(wary, table)[0]
    bucket = (Bucket("chat:rate:messages:x", 3_600_000, 3, partition=far),)
    for message in ("m1", "m2"):
        wary.requests.accept(session, message, "hello", Terms(bucket, address))
    full = float(far.client.get("chat:rate:messages:x") or 0)
    for _ in range(5):
        with pytest.raises(ClientError, match="too_many_pending"):
            wary.requests.accept(session, "m3", "hello", Terms(bucket, address))
        assert wary.requests.accept(session, "m1", "hello", Terms(bucket, address)).repeated
    assert float(far.client.get("chat:rate:messages:x") or 0) == pytest.approx(full, abs=5000)
    assert far.client.zrange(far.line(address), 0, -1) == [session]
    other = one_in_each(wary, table)[2]
    wary.requests.accept(other, "m1", "hello", Terms(bucket, address))
    # Nothing is left, also for a session elsewhere; what is known is answered.
    with pytest.raises(RateLimited):
        wary.requests.accept(one_in_each(wary, table)[2], "m1", "hello", Terms(bucket, address))
    assert wary.requests.accept(other, "m1", "hello", Terms(bucket, address)).repeated
    with pytest.raises(RateLimited):
        wary.read(other, buckets=bucket)
    answer(Leases(table, ttl=60, history_messages=4), session)
    assert not wary.snapshot(session, position=0, buckets=bucket).recovered
    assert wary.snapshot(session, position=0).recovered


def test_the_line_has_no_session_that_a_worker_answers(table: Partitions, wary: Sessions) -> None:
    far = table.all[1]
    address, session = address_in(table, far), one_in_each(wary, table)[0]
    line_is_long(wary)
    wary.requests.accept(session, "m1", "hello", Terms(address=address))
    assert far.client.zcard(far.line(address)) == 1
    assert Leases(table, ttl=60, history_messages=4).claim(session) is not None
    far.client.delete(far.line(address))
    wary.requests.accept(session, "m2", "and?", Terms(address=address))
    assert far.client.zcard(far.line(address)) == 0


def test_charges_of_all_partitions_are_settled(table: Partitions, wary: Sessions) -> None:
    for partition in table.all:
        partition.client.hset(partition.shared.outbox, "key:s:m:n:2026-01-01:2026-01:5:1", "replied:1:1:0")
    assert Charges(table).settle() == 3
    assert not any(partition.client.hlen(partition.shared.outbox) for partition in table.all)


@pytest.fixture
def hub(table: Partitions, wary: Sessions) -> Iterator[Hub]:
    hub = Hub(table, wary)
    hub.start()
    yield hub
    hub.close()


def test_a_lost_redis_stops_no_session_of_the_others(three: Three, table: Partitions, wary: Sessions, hub: Hub) -> None:
    leases, ledger = Leases(table, ttl=60, history_messages=4), Ledger(table)
    lost, *others = one_in_each(wary, table)
    eventually(lambda: readiness(table, hub, 60)[0], what="all is well")
    # The address's line and rates are in the Redis that is lost.
    address = address_in(table, table.all[0])
    bucket = (Bucket("chat:rate:messages:x", 1000, 5, partition=table.all[0]),)
    wary.requests.accept(lost, "m1", "hello", Terms(bucket, address))
    three.processes[0].kill()
    for session in others:
        wary.requests.accept(session, "m1", "hello", Terms(bucket, address))
        answer(leases, session)
        assert wary.read(session, buckets=bucket).to_json("token")
    for group in table.groups[1:]:
        assert ledger.overdue(group) is not None
    works = [work for session in others if _accepted(wary, session) and (work := leases.claim(session))]
    held = Progress(_as_of(works[0], lost), "Hel")
    assert leases.progress([held, *(Progress(work, "Hel") for work in works)]) == ["unavailable", "on", "on"]
    with pytest.raises(StoreUnavailable):
        wary.requests.accept(lost, "m2", "are you there?", Terms(bucket, address))
    # New sessions are where Redis answers.
    assert all(table.of(session_id(wary.create("Eve")["token"])) is not table.all[0] for _ in range(5))
    eventually(lambda: _readiness(table, hub) == (True, "Redis 1 of 3 does not answer"), what="one is away")
    # A task ran meanwhile, whose session is not due for seconds.
    ledger.missed(lost)
    with pytest.raises(StoreUnavailable):
        ledger.overdue(table.groups[0])
    three.start(0)
    eventually(lambda: _due(table, ledger) == [lost], what="the sweep finds what the lost Redis has")
    answer(leases, lost)
    eventually(lambda: readiness(table, hub, 60)[1]["redis"] == "ok", what="all is well again")


def test_a_frozen_redis_delays_neither_readiness_nor_new_sessions(
    three: Three, table: Partitions, wary: Sessions, hub: Hub
) -> None:
    assert hub.wait_until_hearing(10)
    three.processes[2].signal(signal.SIGSTOP)
    try:

        def one_does_not_answer() -> bool:
            began = time.monotonic()
            found = _readiness(table, hub)
            # Its own client would wait for longer.
            assert time.monotonic() - began < SOCKET_TIMEOUT
            # On a busy machine a second one may be late.
            return found == (True, "Redis 3 of 3 does not answer")

        eventually(one_does_not_answer)
        wary._breakers._until[table.groups[2]] = time.monotonic() + 60, 60
        assert all(table.of(session_id(wary.create("Eve")["token"])) is not table.all[2] for _ in range(5))
    finally:
        three.processes[2].signal(signal.SIGCONT)


def _readiness(table: Partitions, hub: Hub) -> tuple[bool, str]:
    ready, parts = readiness(table, hub, 60)
    return ready, parts["redis"]


def _due(table: Partitions, ledger: Ledger) -> list[str]:
    first = table.all[0]
    first.client.delete(first.swept)
    overdue = ledger.overdue(first.group)
    return overdue.unclaimed if overdue else []


def _accepted(sessions: Sessions, session: str) -> bool:
    return sessions.requests.accept(session, "m2", "and now?").wake


def _as_of(work: Any, session: str) -> Any:
    return type(work)(**{**work.__dict__, "session": session})
