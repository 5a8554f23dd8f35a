"""The fan-out of one web process against a real Redis: no event is lost or repeated, whatever happens to pub/sub."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any, cast

import pytest
import redis
from wsproto.frame_protocol import FrameProtocol

from chatbot.app import create_app
from chatbot.config import RedisSettings, Settings
from chatbot.protocol import close_codes
from chatbot.protocol.events import Event
from chatbot.sessions.ids import reply_id, session_id
from chatbot.sessions.leases import Leases, Progress
from chatbot.sessions.requests import Accepted, Requests
from chatbot.sessions.sessions import Sessions
from chatbot.store.client import connect
from chatbot.store.keys import events_channel, session_keys
from chatbot.store.listener import LISTENER_CONNECTIONS, Listener
from chatbot.store.partitions import partitions_of
from chatbot.store.scripts import Scripts, Value
from chatbot.web.fanout.hub import Hub, replay
from chatbot.web.fanout.subscriber import Subscriber
from chatbot.web.transports.frame_handler import FrameHandler
from devtools.harness.deployment import eventually
from devtools.harness.histories import store_turns


class Socket:
    """Stands for a websocket: stores the frames that it gets as documents."""

    def __init__(self, hub: Hub, session: str) -> None:
        self.frames: list[dict[str, Any]] = []
        self.ended: list[int] = []
        self.hub = hub
        self.subscriber = Subscriber(session, self._send, lambda closing: self.ended.append(closing.code))

    def _send(self, frame: bytes) -> None:
        parser = FrameProtocol(client=True, extensions=[])
        parser.receive_bytes(frame)
        self.frames.append(json.loads("".join(str(part.payload) for part in parser.received_frames())))

    def attach(self, sessions: Sessions, after: str | None = None) -> None:
        """Like `chat_socket.py`."""
        self.hub.attach(self.subscriber)
        snapshot = sessions.snapshot(self.subscriber.session, after=after)
        for frame in replay(self.subscriber.session, snapshot):
            self.frames.append(frame)
        if not self.subscriber.release(snapshot) or self.subscriber.missed:
            self.hub.resync([self.subscriber])

    def replies(self) -> list[str]:
        return [f["msg"] for f in self.frames if f["type"] == "message" and f["source"] == "bot"]


@pytest.fixture
def hub(redis_url: str, sessions: Sessions) -> Iterator[Hub]:
    client = connect(redis_url, LISTENER_CONNECTIONS, retries=0)
    hub = Hub(client, sessions)
    yield hub
    hub.close()
    client.connection_pool.disconnect()


@pytest.fixture
def session(sessions: Sessions) -> str:
    return session_id(sessions.create("Ada")["token"])


def answer(sessions: Sessions, leases: Leases, session: str, number: int) -> None:
    sessions.requests.accept(session, f"m{number}", f"q{number}")
    work = leases.claim(session)
    assert work is not None
    leases.progress([Progress(work, "a", 0, {"type": "delta", "reply_to": f"m{number}", "offset": 0, "msg": "a"})])
    leases.commit(work, f"a{number}", "stop", go_on=True)


def send(socket: Socket, sessions: Sessions, message_id: str) -> None:
    """The socket's own message, like `chat_socket.py`."""
    socket.subscriber.hold()
    socket.subscriber.sending(message_id)
    accepted = sessions.requests.accept(socket.subscriber.session, message_id, "mine")
    assert accepted.event
    socket.subscriber.release()


def _has(socket: Socket, replies: list[str]) -> bool:
    return socket.replies() == replies


def cut_pubsub(client: redis.Redis) -> None:
    client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")


def test_live_events_reach_every_socket_of_the_session_and_no_other(
    hub: Hub, sessions: Sessions, leases: Leases, session: str
) -> None:
    other = session_id(sessions.create("Bob")["token"])
    sockets = [Socket(hub, session), Socket(hub, session), Socket(hub, other)]
    for socket in sockets:
        socket.attach(sessions)
    answer(sessions, leases, session, 1)
    for socket in sockets[:2]:
        eventually(partial(_has, socket, ["a1"]))
    answer(sessions, leases, other, 1)
    eventually(lambda: sockets[2].replies() == ["a1"])
    assert len(sockets[0].frames) == len(sockets[1].frames) == len(sockets[2].frames) == 3


def test_what_a_broken_subscription_missed_is_read_from_the_store(
    hub: Hub, sessions: Sessions, leases: Leases, session: str, redis_client: redis.Redis
) -> None:
    socket = Socket(hub, session)
    socket.attach(sessions)
    for number in range(1, 6):
        cut_pubsub(redis_client)
        # Published without a subscription or with a new one: either way it arrives, once.
        answer(sessions, leases, session, number)
        eventually(partial(_has, socket, [f"a{i}" for i in range(1, number + 1)]))
    assert socket.ended == []
    assert [f["id"] for f in socket.frames if f.get("source") == "human"] == [f"m{i}" for i in range(1, 6)]


def test_a_selected_path_is_sent_again_only_if_its_event_was_missed(
    hub: Hub, sessions: Sessions, leases: Leases, session: str, redis_client: redis.Redis
) -> None:
    def selected() -> list[dict[str, Any]]:
        return [frame for frame in socket.frames if frame["type"] == "selected"]

    socket = Socket(hub, session)
    socket.attach(sessions)
    answer(sessions, leases, session, 1)
    answer(sessions, leases, session, 2)
    sessions.select(session, "m1")
    eventually(selected)
    hub.resync([socket.subscriber])
    sessions.rate(session, reply_id(session, "m1"), "up", None)
    eventually(lambda: socket.frames[-1]["type"] == "feedback")
    # The path was selected before.
    assert len(selected()) == 1
    sessions.requests.edit(session, "m1", "m4", "edited")
    partition = partitions_of(redis_client).of(session)
    arguments: dict[str, Value] = {"message": "m1", "events": "missed", "ttl_ms": 60_000}
    assert Scripts().run("select", partition, partition.keys(session), **arguments) == ["selected"]
    sessions.rate(session, reply_id(session, "m1"), "up", None)
    eventually(lambda: [frame["id"] for frame in selected()[1:]] == [reply_id(session, "m2")])
    # A regeneration that is sent again would show another path.
    sessions.requests.regenerate(session, "m1", "q1")
    sessions.select(session, "m4")
    eventually(lambda: selected()[-1]["id"] == "m4")
    hub.resync([socket.subscriber])
    eventually(lambda: [frame["id"] for frame in selected()[3:]] == ["m4"])


def test_a_message_goes_to_the_other_sockets_of_its_session_at_once(hub: Hub, sessions: Sessions, session: str) -> None:
    sender, other = Socket(hub, session), Socket(hub, session)
    for socket in (sender, other):
        socket.attach(sessions)
    for number in (1, 2):
        send(sender, sessions, f"m{number}")
    eventually(lambda: [(f["source"], f["id"]) for f in other.frames] == [("human", "m1"), ("human", "m2")])
    assert sender.frames == []
    assert not sender.subscriber.owns("m1")
    assert sender.subscriber.position == 2


class _AnsweredAtOnce:
    """A worker replies before the web process has read that the message is stored."""

    def __init__(self, requests: Requests, leases: Leases, other: Socket) -> None:
        self._requests, self._leases, self._other = requests, leases, other

    def accept(self, session: str, *args: Any, **options: Any) -> Accepted:
        accepted = self._requests.accept(session, *args, **options)
        work = self._leases.claim(session)
        assert work is not None
        self._leases.commit(work, "a", "stop", go_on=True)
        eventually(lambda: self._other.replies() == ["a"])
        return accepted


def test_the_ack_of_a_message_goes_before_its_reply(
    hub: Hub, sessions: Sessions, leases: Leases, session: str, redis_client: redis.Redis, redis_url: str
) -> None:
    sender, other = Socket(hub, session), Socket(hub, session)
    for socket in (sender, other):
        socket.attach(sessions)
    services = create_app(Settings(redis=RedisSettings(url=redis_url, broker_url=redis_url))).extensions["chatbot"]
    quick = Sessions(redis_client, ttl=60, max_pending=8)
    quick.requests = cast(Requests, _AnsweredAtOnce(quick.requests, leases, other))
    services = replace(services, hub=hub, sessions=quick)
    handler = FrameHandler(services, session, "127.0.0.1", sender.frames.append, subscriber=sender.subscriber)
    assert handler.handle('{"type":"message","msg":"q","id":"m1"}') is None
    eventually(lambda: [frame["type"] for frame in sender.frames] == ["ack", "message"])


@pytest.mark.parametrize("lost", [False, True])
def test_the_ack_of_a_message_goes_behind_the_replies_before_it(
    hub: Hub,
    sessions: Sessions,
    leases: Leases,
    session: str,
    redis_url: str,
    monkeypatch: pytest.MonkeyPatch,
    lost: bool,
) -> None:
    sender = Socket(hub, session)
    sender.attach(sessions)
    sessions.requests.accept(session, "m1", "q1")
    work = leases.claim(session)
    assert work is not None
    eventually(lambda: sender.subscriber.event == 1)
    late: list[tuple[Event, bytes]] = []
    deliver = sender.subscriber.deliver

    def keep(event: Event, frame: bytes) -> bool:
        late.append((event, frame))
        return True

    monkeypatch.setattr(sender.subscriber, "deliver", keep)
    leases.commit(work, "a1", "stop", go_on=True)
    eventually(lambda: late)
    if lost:
        monkeypatch.undo()
    else:
        threading.Timer(0.1, lambda: deliver(*late[0])).start()
    services = create_app(Settings(redis=RedisSettings(url=redis_url, broker_url=redis_url))).extensions["chatbot"]
    services = replace(services, hub=hub, sessions=sessions)
    handler = FrameHandler(services, session, "127.0.0.1", sender.frames.append, subscriber=sender.subscriber)
    assert handler.handle('{"type":"message","msg":"q2","id":"m2"}') is None
    assert [frame["type"] for frame in sender.frames[-2:]] == ["message", "ack"]
    assert sender.replies() == ["a1"]


def test_after_a_gap_a_socket_gets_others_messages_and_not_its_own(
    hub: Hub, sessions: Sessions, leases: Leases, session: str
) -> None:
    socket = Socket(hub, session)
    socket.attach(sessions)
    socket.subscriber.hold()
    sessions.requests.accept(session, "theirs", "from another tab")
    send(socket, sessions, "mine")
    eventually(lambda: len(socket.subscriber._held) == 2)
    del socket.subscriber._held[0]
    assert socket.subscriber.release() is False
    hub.resync([socket.subscriber])
    eventually(lambda: [f["id"] for f in socket.frames] == ["theirs"])
    send(socket, sessions, "mine too")
    sessions.requests.accept(session, "theirs too", "again")
    eventually(lambda: [f["id"] for f in socket.frames] == ["theirs", "theirs too"])


def test_a_missing_event_is_noticed_by_its_number(
    hub: Hub, sessions: Sessions, leases: Leases, session: str, redis_client: redis.Redis
) -> None:
    socket = Socket(hub, session)
    socket.attach(sessions)
    hub.subscribers()[0].hold()
    answer(sessions, leases, session, 1)
    eventually(lambda: len(socket.subscriber._held) == 3)
    # The reply's own event gets lost on the way.
    socket.subscriber._held.pop()
    socket.subscriber.release()
    assert socket.replies() == []
    answer(sessions, leases, session, 2)
    eventually(lambda: socket.replies() == ["a1", "a2"])


def test_nothing_goes_out_past_a_gap_and_what_is_missing_comes_first(
    hub: Hub, sessions: Sessions, leases: Leases, session: str
) -> None:
    socket = Socket(hub, session)
    socket.attach(sessions)
    socket.subscriber.hold()
    for number in (1, 2, 3):
        answer(sessions, leases, session, number)
    eventually(lambda: len(socket.subscriber._held) == 9)
    # The first message is lost, amid events that follow one another.
    del socket.subscriber._held[0]
    assert socket.subscriber.release() is False
    assert socket.frames == []
    assert socket.subscriber.position == 0
    hub.resync([socket.subscriber])
    eventually(partial(_has, socket, ["a1", "a2", "a3"]))
    answer(sessions, leases, session, 4)
    eventually(partial(_has, socket, ["a1", "a2", "a3", "a4"]))


def test_a_socket_that_is_ahead_of_a_restored_redis_is_closed_so_that_its_client_sends_again(
    hub: Hub, sessions: Sessions, leases: Leases, session: str, redis_client: redis.Redis
) -> None:
    socket = Socket(hub, session)
    socket.attach(sessions)
    answer(sessions, leases, session, 1)
    keys = [key for key in session_keys(session).own if redis_client.exists(key)]
    for key in keys:
        redis_client.copy(key, f"copy:{key}")
    sessions.requests.accept(session, "lost", "after the copy")
    eventually(lambda: socket.frames[-1].get("id") == "lost")
    for key in session_keys(session).own:
        redis_client.delete(key)
    for key in keys:
        redis_client.copy(f"copy:{key}", key)
    hub.resync([socket.subscriber])
    eventually(lambda: socket.ended == [close_codes.OUT_OF_DATE.code])


def test_garbage_on_a_channel_does_no_harm(
    hub: Hub, sessions: Sessions, leases: Leases, session: str, redis_client: redis.Redis
) -> None:
    socket = Socket(hub, session)
    socket.attach(sessions)
    for garbage in ("", "no header", "x:y\n{}", "\n", "1\n{}", ":\n"):
        redis_client.publish(events_channel(session), garbage)
    answer(sessions, leases, session, 1)
    eventually(lambda: socket.replies() == ["a1"])


def test_events_that_the_replay_holds_already_are_dropped(
    hub: Hub, sessions: Sessions, leases: Leases, session: str
) -> None:
    socket = Socket(hub, session)
    hub.attach(socket.subscriber)
    answer(sessions, leases, session, 1)
    eventually(lambda: len(socket.subscriber._held) == 3)
    snapshot = sessions.snapshot(session, after="m1")
    answer(sessions, leases, session, 2)
    eventually(lambda: len(socket.subscriber._held) == 6)
    assert socket.subscriber.release(snapshot)
    assert [frame["type"] for frame in socket.frames] == ["message", "delta", "message"]
    assert socket.replies() == ["a2"]


def test_the_last_socket_of_a_session_unsubscribes(
    hub: Hub, sessions: Sessions, session: str, redis_client: redis.Redis
) -> None:
    def listeners() -> int:
        return int(redis_client.pubsub_numsub(events_channel(session))[0][1])

    one, two = Socket(hub, session), Socket(hub, session)
    one.attach(sessions)
    two.attach(sessions)
    assert (listeners(), len(hub)) == (1, 2)
    hub.detach(one.subscriber)
    hub.detach(one.subscriber)
    assert (listeners(), len(hub)) == (1, 1)
    hub.detach(two.subscriber)
    eventually(lambda: listeners() == 0)
    one.attach(sessions)
    assert (listeners(), len(hub)) == (1, 1)


def test_a_session_that_ended_during_a_break_closes_its_sockets(
    hub: Hub, sessions: Sessions, session: str, redis_client: redis.Redis
) -> None:
    socket = Socket(hub, session)
    socket.attach(sessions)
    redis_client.delete(*redis_client.keys("chat:{*"))
    cut_pubsub(redis_client)
    eventually(lambda: socket.ended == [1008])


def test_a_listener_receives_its_heartbeat_and_reports_a_break(redis_client: redis.Redis, redis_url: str) -> None:
    breaks: list[bool] = []
    client = connect(redis_url, LISTENER_CONNECTIONS, retries=0)
    listener = Listener(client, lambda *_: None, lambda: breaks.append(True))
    try:
        assert listener.channel == ""
        assert listener.wait_until_receiving(20)
        assert listener.channel
        assert breaks == []
        cut_pubsub(redis_client)
        eventually(lambda: breaks == [True])
        assert listener.subscribe("anything", timeout=20)
    finally:
        listener.close()
        client.connection_pool.disconnect()


def test_a_socket_that_missed_more_than_a_page_is_closed_to_reconnect(
    hub: Hub, sessions: Sessions, session: str, redis_client: redis.Redis
) -> None:
    socket = Socket(hub, session)
    socket.attach(sessions)
    store_turns(redis_client, session, [("question", "reply")] * 101, 60)
    cut_pubsub(redis_client)
    eventually(lambda: socket.ended == [1001])
    assert socket.frames == []


def test_a_socket_never_gets_its_own_message_also_when_storing_it_failed(
    hub: Hub, sessions: Sessions, leases: Leases, session: str
) -> None:
    """As when Redis dies after it has published a message, before the replicas have it: the message may be lost."""
    socket = Socket(hub, session)
    socket.attach(sessions)
    socket.subscriber.hold()
    socket.subscriber.sending("mine")
    sessions.requests.accept(session, "mine", "not replicated")
    sessions.requests.accept(session, "theirs", "from another tab")
    eventually(lambda: len(socket.subscriber._held) == 2)
    # Then `accept` raises StoreUnavailable.
    assert socket.subscriber.release()
    eventually(lambda: [f["id"] for f in socket.frames] == ["theirs"])


def test_a_process_that_goes_away_closes_connections_without_a_session_too(hub: Hub) -> None:
    closed: list[int] = []
    hub.others.add(lambda closing: closed.append(closing.code))
    assert len(hub) == 1
    hub.go_away(0)
    assert closed == [close_codes.GOING_AWAY.code]


def test_a_socket_that_an_unexpected_error_leaves_behind_is_closed_and_the_next_is_served(
    hub: Hub, sessions: Sessions, leases: Leases, session: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = Socket(hub, session), Socket(hub, session)
    first.attach(sessions)
    with monkeypatch.context() as patch:
        patch.setattr(sessions, "snapshot", lambda *_, **__: 1 / 0)
        hub.resync([first.subscriber])
        eventually(lambda: first.ended == [close_codes.OUT_OF_DATE.code])
    second.attach(sessions)
    hub.resync([second.subscriber])
    answer(sessions, leases, session, 1)
    eventually(lambda: second.replies() == ["a1"])
