"""Which Redis has which sessions."""

from __future__ import annotations

from collections import Counter

import pytest

from chatbot.store.cluster.pool import slot_of
from chatbot.store.partition_table import open_partitions, server_name, share_out

THREE = ["a:6379/0", "b:6379/0", "c:6379/0"]


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7])
def test_each_redis_has_an_equal_share(count: int) -> None:
    shares = Counter(share_out([f"redis{number}:6379/0" for number in range(count)]))
    assert max(shares.values()) <= -(-128 // count)
    assert min(shares.values()) >= 128 // count - count


def test_a_redis_that_is_added_takes_little_more_than_its_share() -> None:
    before = share_out(THREE)
    after = share_out([*THREE, "d:6379/0"])
    moved = [bucket for bucket in range(128) if before[bucket] != after[bucket]]
    assert sum(after[bucket] == 3 for bucket in moved) == 32
    assert len(moved) <= 40


def test_order_and_spelling_move_nothing() -> None:
    owners = [THREE[owner] for owner in share_out(THREE)]
    turned = THREE[::-1]
    assert [turned[owner] for owner in share_out(turned)] == owners
    assert server_name("redis://ada:secret@a?socket_timeout=3") == server_name("rediss://a:6379/0") == THREE[0]
    one, other = (f"sentinel://{hosts}/chat" for hosts in ("x,y:26379,z", ":pw@z,x,y"))
    assert server_name(one) == server_name(other) == "x:26379,y:26379,z:26379/chat/0"


def test_sessions_and_addresses_spread_evenly() -> None:
    table = open_partitions([f"redis://{name}" for name in THREE], 1)
    shares = Counter(table.of(f"{number:032x}").number for number in range(30_000))
    assert all(9_000 < count < 11_000 for count in shares.values())
    assert len({table.of_address(f"10.0.0.{number}") for number in range(9)}) > 1
    assert all(partition.keys("5e55").ledger == "chat:ledger" for partition in table.all)


def test_the_partitions_of_a_cluster_spread_evenly_over_the_slots() -> None:
    table = open_partitions(["redis+cluster://a,b,c"], 1)
    names = [table.all[number].shared.ledger for number in range(128)]
    assert [slot_of(name) // 128 for name in names] == list(range(128))
    partition = table.of("5e55")
    slots = {slot_of(name) for name in (*partition.keys("5e55"), partition.events("5e55"), partition.swept)}
    assert slots == {slot_of(partition.line("10.0.0.1"))}


def test_the_log_names_the_servers_without_their_passwords(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    open_partitions(["redis://ada:secret@a:1/2", "redis://b"], 1).announce()
    open_partitions(["redis://c"], 1).announce()
    assert caplog.messages == ["2 Redis share the sessions: a:1/2, b:6379/0"]


def test_one_redis_has_one_partition() -> None:
    table = open_partitions(["redis://a"], 1)
    assert (len(table.all), table.several) == (1, False)
    assert table.of("any") is table.of_address("10.0.0.1") is table.all[0]
