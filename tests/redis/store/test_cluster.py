"""The client, the subscriptions and the queue's connections in a Redis Cluster, while slots move."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.exceptions import TryAgainError

from chatbot.config import Settings
from chatbot.queue.celery_app import create_celery, publish_reply
from chatbot.queue.redis_broker import CLUSTER_PREFIX
from chatbot.sessions.assignments import Progress
from chatbot.sessions.ids import session_id
from chatbot.sessions.leases import Leases
from chatbot.sessions.ledger import Ledger
from chatbot.sessions.requests import Terms
from chatbot.sessions.sessions import Sessions
from chatbot.store.access import SESSION_COMMANDS, find_problem, queue_commands
from chatbot.store.client import connect
from chatbot.store.cluster.client import ClusterClient
from chatbot.store.cluster.pool import slot_of
from chatbot.store.cluster.subscriptions import ClusterSubscriptions
from chatbot.store.listeners import open_listeners
from chatbot.store.partition_table import open_partitions
from devtools.harness.certificates import make_certificates
from devtools.harness.deployment import USER, USER_ARGUMENTS, eventually
from devtools.harness.redis_cluster import RedisCluster

_SCRIPT = "redis.call('INCR', KEYS[1]) return redis.call('GET', KEYS[1])"


@pytest.fixture
def client(cluster: RedisCluster) -> Iterator[ClusterClient]:
    found = connect(cluster.user_url, 10)
    assert isinstance(found, ClusterClient)
    yield found
    found.connection_pool.disconnect()


def _elsewhere(cluster: RedisCluster, slot: int) -> int:
    return next(port for port in cluster.masters() if port != cluster.owner(slot))


def test_each_command_goes_to_the_node_that_has_its_key(client: ClusterClient) -> None:
    with client.pipeline(transaction=False) as pipeline:
        for number in range(50):
            pipeline.set(f"chat:{{{number}}}:n", number)
        for number in range(50):
            pipeline.get(f"chat:{{{number}}}:n")
        assert pipeline.execute()[50:] == [str(number) for number in range(50)]
    with client.pipeline(transaction=True) as pipeline:
        pipeline.hset("chat:{t}:h", "a", "1")
        pipeline.hgetall("chat:{t}:h")
        assert pipeline.execute()[-1] == {"a": "1"}
    client.json().set("chat:{j}:d", ".", {"x": 1})
    assert client.json().get("chat:{j}:d") == {"x": 1}


def test_one_node_that_fails_costs_the_others_of_a_pipeline_nothing(cluster: RedisCluster) -> None:
    keys = [f"chat:{{{number}}}:f" for number in range(20)]
    frozen = cluster.owner(slot_of(keys[0]))
    client = connect(f"{cluster.url}?socket_timeout=1", 2, retries=0)
    assert all(client.set(key, 1) for key in keys)
    cluster.freeze(frozen)
    try:
        with client.pipeline(transaction=False) as pipeline:
            for key in keys:
                pipeline.get(key)
            answers = pipeline.execute(raise_on_error=False)
    finally:
        cluster.wake(frozen)
        client.connection_pool.disconnect()
    for key, answer in zip(keys, answers, strict=True):
        assert isinstance(answer, redis.TimeoutError) == (cluster.owner(slot_of(key)) == frozen), (key, answer)


def test_a_script_runs_once_when_its_slot_moves(cluster: RedisCluster, client: ClusterClient) -> None:
    keys = ["chat:{moving}:n", "chat:{moving}:absent"]
    slot = slot_of(keys[0])
    script = client.register_script(_SCRIPT)
    assert script(keys) == "1"
    target, source = _elsewhere(cluster, slot), cluster.owner(slot)
    cluster.ask(target, "CLUSTER", "SETSLOT", slot, "IMPORTING", cluster.id(source))
    cluster.ask(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", cluster.id(target))
    impatient = connect(cluster.url, 1, retries=0)
    with pytest.raises(TryAgainError):
        impatient.register_script(_SCRIPT)(keys)
    answers: list[str] = []
    thread = threading.Thread(target=lambda: answers.append(script(keys)))
    thread.start()
    cluster.move_slot(slot, target)
    thread.join()
    assert answers == ["2"]
    assert cluster.owner(slot) == target
    # This client has not asked since the move.
    assert impatient.register_script(_SCRIPT)(keys) == "3"
    impatient.connection_pool.disconnect()


def test_subscriptions_follow_their_slot(cluster: RedisCluster, client: ClusterClient) -> None:
    received: list[str] = []
    affected: list[str] = []
    channel, other = "chat:{s1}:events", "chat:{s2}:events"
    slot = slot_of(channel)

    def broken(is_affected: object) -> None:
        affected.extend(name for name in (channel, other) if is_affected(name))  # type: ignore[operator]

    subscriptions = ClusterSubscriptions(client.connection_pool, lambda _, data: received.append(data), broken)
    try:
        assert subscriptions.subscribe(channel, 20)
        assert subscriptions.subscribe(other, 20)
        subscriptions.subscribe_everywhere("chat:stop", 20)
        numbers = ("PUBSUB", "NUMSUB", subscriptions.own_channel)
        eventually(
            lambda: all(cluster.ask(port, *numbers)[1] == 1 for port in cluster.nodes),
            what="each node sees that the process lives",
        )
        cluster.move_slot(slot, _elsewhere(cluster, slot))
        eventually(lambda: channel in affected, what="the subscriptions continue at the new owner")
        assert other not in affected
        eventually(lambda: client.execute_command("SPUBLISH", channel, "after the move") == 1, what="it is delivered")
        eventually(lambda: received == ["after the move"])
        subscriptions.unsubscribe(channel)
        eventually(lambda: client.execute_command("SPUBLISH", channel, "late") == 0, what="the subscription ends")
    finally:
        subscriptions.close()


def test_the_queue_follows_its_slot(cluster: RedisCluster, client: ClusterClient) -> None:
    celery = create_celery(Settings.from_env({"REDIS_URL": cluster.user_url, "MODEL_URL": "http://127.0.0.1:1"}))
    slot = slot_of(CLUSTER_PREFIX)

    def publish() -> bool:
        with celery.producer_pool.acquire(block=True) as producer:
            publish_reply(celery, "5e55", producer)
        return True

    tasks = f"{CLUSTER_PREFIX}celery\x06\x163"
    client.delete(tasks)
    assert publish()
    cluster.move_slot(slot, _elsewhere(cluster, slot))
    with pytest.raises(redis.ConnectionError):
        # The enqueuer logs this; the sweep sends the task.
        publish()
    assert publish()
    assert client.llen(tasks) == 2
    celery.pool.force_close_all()


def test_the_rights_of_the_docs_do_in_a_cluster(cluster: RedisCluster, client: ClusterClient) -> None:
    assert find_problem(client, f"{SESSION_COMMANDS}|{queue_commands(0, CLUSTER_PREFIX)}", "REDIS_URL") is None
    port = cluster.first_masters[1]
    cluster.ask(port, "ACL", "SETUSER", "chat", "-spublish")
    try:
        problem = find_problem(client, SESSION_COMMANDS, "REDIS_URL")
        assert problem is not None
        assert problem.startswith(f"127.0.0.1:{port}: the user of REDIS_URL lacks rights: the command SPUBLISH")
    finally:
        cluster.ask(port, "ACL", "SETUSER", "chat", "+spublish")
    plain = connect(f"redis://127.0.0.1:{port}/0", 1)
    assert "redis+cluster://" in str(find_problem(plain, SESSION_COMMANDS, "REDIS_URL"))
    plain.connection_pool.disconnect()


def test_a_sweep_runs_in_partitions_with_unanswered_messages_alone(cluster: RedisCluster) -> None:
    table = open_partitions([cluster.url], 5)
    for partition in table.all:
        partition.client.delete(*partition.shared)
    sessions, ledger = Sessions(table, ttl=60, max_pending=2), Ledger(table)
    session = session_id(sessions.create("Ada")["token"])
    sessions.requests.accept(session, "m1", "hello", Terms(address="10.0.0.1"))
    at = table.of(session)
    at.client.zadd(at.shared.ledger, {session: 1})

    def sweep() -> tuple[list[str], int]:
        """The sessions found, and how many partitions were swept: each writes what it has read of the others."""
        for partition in table.all:
            partition.client.delete(partition.swept, partition.shared.pace)
        found = [overdue for group in table.groups if (overdue := ledger.overdue(group))]
        swept = sum(int(partition.client.hexists(partition.shared.pace, "others")) for partition in table.all)
        return [session for overdue in found for session in overdue.unclaimed], swept

    assert session in sweep()[0]
    # A session that is ready counts in the expected wait of all others.
    assert sweep()[1] == len(table.all)
    assert sessions.end(session)
    sweep()
    assert sweep()[1] == 1
    table.disconnect()


def test_a_session_is_served_in_a_cluster_while_its_slot_moves(cluster: RedisCluster) -> None:
    partitions = open_partitions([cluster.user_url], 5)
    sessions = Sessions(partitions, ttl=60, max_pending=8)
    leases = Leases(partitions, ttl=60, history_messages=4)
    ids = [session_id(sessions.create("Ada")["token"]) for _ in range(20)]
    for session in ids:
        sessions.requests.accept(session, "m1", "Hello", Terms(address="192.0.2.1"))
    slots = {slot_of(partitions.of(session).shared.ledger) for session in ids}
    mover = threading.Thread(target=lambda: [cluster.move_slot(slot, _elsewhere(cluster, slot)) for slot in slots])
    mover.start()
    works = [leases.claim(session) for session in ids]
    reports = [Progress(work, "Hi", 0, {"type": "delta"}, renew=True) for work in works if work]
    eventually(lambda: set(leases.progress(reports)) <= {"on", "behind"}, what="the reports arrive")
    for work in works:
        assert work is not None
        assert leases.commit(work, "Hi there", "stop", go_on=True) is None
    mover.join()
    for session in ids:
        partition = partitions.of(session)
        stored: Any = partition.client.json().get(partition.keys(session).document, ".messages")
        assert [message["msg"] for message in stored] == ["Hello", "Hi there"]
    assert Ledger(partitions).size() == 0
    assert not [name for port in cluster.masters() for name in cluster.ask(port, "KEYS", "*absent")]
    partitions.disconnect()


def test_all_connections_to_a_cluster_with_tls_are_encrypted(tmp_path: Path) -> None:
    make_certificates(tmp_path)
    received: list[str] = []
    with RedisCluster(tmp_path, masters=2, replicas=0, arguments=USER_ARGUMENTS, certificates=tmp_path) as cluster:
        with pytest.raises(redis.ConnectionError, match="certificate verify failed"):
            connect(cluster.user_url.partition("?")[0], 1, retries=0).get("chat:x")
        settings = Settings.from_env({"REDIS_URL": cluster.user_url, "MODEL_URL": "http://127.0.0.1:1"})
        table = open_partitions(settings.redis.urls, 5)
        sessions, leases = Sessions(table, ttl=60, max_pending=8), Leases(table, ttl=60, history_messages=4)
        listeners = open_listeners(table, lambda _, event: received.append(event))
        ids = [session_id(sessions.create("Ada")["token"]) for _ in range(8)]
        for session in ids:
            # Moves of slots are followed to the port with TLS that the answer names.
            slot = slot_of(table.of(session).shared.ledger)
            cluster.move_slot(slot, _elsewhere(cluster, slot))
            assert listeners.subscribe(table.of(session), table.of(session).events(session), 20)
            sessions.requests.accept(session, "m1", "Hello", Terms(address="192.0.2.1"))
            work = leases.claim(session)
            assert work is not None
            leases.commit(work, "Hi there", "stop", go_on=True)
        eventually(lambda: sum("Hi there" in event for event in received) == len(ids), what="all events arrive")
        celery = create_celery(settings)
        with celery.producer_pool.acquire(block=True) as producer:
            publish_reply(celery, ids[0], producer)
        for port, proxy in cluster.encrypted.items():
            users = [line.get("user") for line in cluster.node(port).client_list()]
            # Besides this test's own, which is the default user, all came through the proxy.
            assert proxy.encrypted >= users.count(USER) > 1
        celery.pool.force_close_all()
        listeners.close()
        table.disconnect()
