"""The Python client against the real chat: conversations, killed web processes, proxies that let little through."""

from __future__ import annotations

import asyncio
import re
import socketserver
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from socket import SHUT_WR, create_connection, socket

import pytest
from chatbot_client import AsyncChat, Chat, Refused, Reply, ReplyFailed, SessionExpired
from chatbot_client.types import Way

from chatbot.sessions.ids import session_id
from devtools.fake_model import ModelServer
from devtools.harness.chat_client import PATIENCE, history, texts
from devtools.harness.deployment import Deployment, eventually
from devtools.harness.ports import free_port
from devtools.paths import ROOT

WAYS: tuple[Way, ...] = ("websocket", "events", "polling")
COUNT = "!tokens=60 count"


def joined(reply: Reply) -> str:
    """The text that the deltas make, by their rule."""
    text = ""
    for delta in reply:
        text = text[: delta.offset] + delta.text
    return text


@pytest.mark.parametrize("way", WAYS)
def test_a_conversation(chat: Deployment, model: ModelServer, way: Way) -> None:
    model.control(interval=5)
    with Chat.start(chat.url(), "Ada", ways=(way,)) as client:
        reply = client.send("hello")
        text = joined(reply)
        assert text.startswith("You said: hello")
        assert reply.result(PATIENCE).text == reply.text == text
        assert reply.message is not None
        assert (reply.message.finish_reason, reply.message.reply_to) == ("stop", reply.id)
        assert client.ask("again", timeout=PATIENCE).text.startswith("You said: again")
        other = client.regenerate(reply.id).result(PATIENCE)
        assert other.reply_to == reply.id
        assert other.request is not None
        edited = client.edit(reply.id, "goodbye")
        assert edited.result(PATIENCE).text.startswith("You said: goodbye")
        client.select(reply.message.id)
        client.feedback(other.id, "up", "better")
        eventually(lambda: (client.history().messages[4].frame or {}).get("feedback"))
        sources = [message.source for message in client.history().messages]
        assert sources == ["human", "bot", "human", "bot", "bot", "human", "bot"]
        pages = [len(page.messages) for page in client.pages()]
        assert pages == [7]
        newest = client.history(limit=2)
        older = client.history(newest.before, limit=5)
        assert [message.source for message in (*older.messages, *newest.messages)] == sources
        assert older.before is None


@pytest.mark.parametrize("way", WAYS)
def test_a_reply_is_stopped_and_keeps_its_text(chat: Deployment, model: ModelServer, way: Way) -> None:
    model.control(first=0, interval=100)
    with Chat.start(chat.url(), "Ada", ways=(way,)) as client:
        reply = client.send(COUNT)
        next(iter(reply))
        client.stop()
        message = reply.result(PATIENCE)
        assert message.finish_reason == "stopped"
        assert message.text == reply.text != ""


def test_a_failed_reply_is_retried(chat: Deployment, model: ModelServer) -> None:
    model.fault("bad_request")
    with Chat.start(chat.url(), "Ada") as client:
        reply = client.send("hello")
        with pytest.raises(ReplyFailed, match="try again"):
            reply.result(PATIENCE)
        model.reset()
        assert client.retry(reply).result(PATIENCE).text.startswith("You said: hello")


def test_refusals_and_the_end_of_a_session_are_errors(chat: Deployment) -> None:
    with pytest.raises(Refused, match="invalid_name"):
        Chat.start(chat.url(), " ")
    with pytest.raises(ConnectionError):
        Chat.start("http://127.0.0.1:9", "Ada")
    with Chat.start(chat.url(), "Ada") as client:
        with pytest.raises(Refused, match="empty_message"):
            client.ask(" ", timeout=PATIENCE)
        with pytest.raises(Refused, match="unknown_message"):
            client.history("nothing")
        client.end()
        with pytest.raises(SessionExpired):
            client.ask("hello", timeout=PATIENCE)
    for way in WAYS:
        with Chat(chat.url(), "no-token", ways=(way,)) as stranger, pytest.raises(SessionExpired):
            stranger.ask("hello", timeout=PATIENCE)


def test_replies_survive_the_death_of_their_web_process(chat: Deployment, model: ModelServer) -> None:
    model.control(interval=30)
    with ExitStack() as stack:
        clients = [stack.enter_context(Chat.start(chat.url(1), "Ada", ways=(way,))) for way in WAYS]
        replies = [client.send(COUNT) for client in clients]
        begun = [iter(reply) for reply in replies]
        first = [str(next(deltas)) for deltas in begun]
        chat.webs[1].kill()
        # Sent while there is no server; the second is never acknowledged before the new process is there.
        later = [client.send("and then?") for client in clients]
        chat.webs[1].start()
        for client, reply, deltas, beginning, other in zip(clients, replies, begun, first, later, strict=True):
            text = beginning + "".join(map(str, deltas))
            message = reply.result(PATIENCE)
            assert message.text == text == joined(reply)
            assert other.result(PATIENCE).text.startswith("You said: and then?")
            stored = texts(history(chat.url(0), client.token), "bot")
            assert stored == [message.text, other.text]


def test_two_clients_of_a_session_see_each_others_messages(chat: Deployment) -> None:
    async def talk() -> list[str]:
        seen = []
        async with await AsyncChat.start(chat.url(0), "Ada") as one, AsyncChat(chat.url(1), one.token) as other:
            async for frame in other.events():
                if frame["type"] == "session":
                    reply = one.send("hello")
                    [delta async for delta in reply]
                elif frame["type"] == "message":
                    seen.append(frame["source"])
                if len(seen) == 2:
                    await reply
                    assert one.last_id == other.last_id == frame["id"]
                    return seen
        raise AssertionError("the events ended")

    # In a thread: Playwright may have left a running event loop in this one.
    with ThreadPoolExecutor(1) as thread:
        assert thread.submit(lambda: asyncio.run(asyncio.wait_for(talk(), PATIENCE))).result() == ["human", "bot"]


# -- Proxies


@contextmanager
def proxy(port: int, change: Callable[[bytes], bytes], hold_back: bytes = b"no such answer") -> Iterator[str]:
    """The URL of a proxy that changes requests, and passes no byte of answers with `hold_back` on before their end."""

    class Forward(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with create_connection(("127.0.0.1", port)) as server, suppress(OSError):
                threading.Thread(target=self.answer, args=(server,), daemon=True).start()
                while data := self.request.recv(65536):
                    server.sendall(change(data))
                server.shutdown(SHUT_WR)

        def answer(self, server: socket) -> None:
            held = b""
            with suppress(OSError):
                while data := server.recv(65536):
                    if hold_back in data or held:
                        held += data
                    else:
                        self.request.sendall(data)
                self.request.shutdown(SHUT_WR)

    with socketserver.ThreadingTCPServer(("127.0.0.1", free_port()), Forward) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def without_upgrade(data: bytes) -> bytes:
    return re.sub(rb"(?i)(upgrade: websocket|connection: upgrade)\r\n", b"", data)


@pytest.mark.parametrize(("hold_back", "way"), [(b"no such answer", "EventStream"), (b"text/event-stream", "Polling")])
def test_a_client_behind_a_proxy_finds_the_way_that_works(
    chat: Deployment, monkeypatch: pytest.MonkeyPatch, hold_back: bytes, way: str
) -> None:
    if way == "Polling":
        # The event stream never opens.
        monkeypatch.setattr("chatbot_client.connections.OPEN_TIMEOUT", 0.5)
    port = int(chat.webs[0].env["PORT"])
    with proxy(port, without_upgrade, hold_back) as url, Chat.start(url, "Ada") as client:
        assert client.ask("hello", timeout=PATIENCE).text.startswith("You said: hello")
        assert type(client._chat._connection).__name__ == way


def test_a_client_that_leaves_closes_in_order(chat: Deployment) -> None:
    with Chat.start(chat.url(), "Ada") as client:
        client.ask("hello", timeout=PATIENCE)
        session = session_id(client.token)

    def ending() -> list[str]:
        return [line for line in chat.webs[0].log.splitlines() if session in line and "closes with" in line]

    assert "closes with 1000" in eventually(ending, what="the socket's end is logged")[0]


def test_the_lines_of_the_readme_run(chat: Deployment) -> None:
    readme = (ROOT / "clients" / "python" / "README.md").read_text()
    found = re.search(r"```python\n(.*?)```", readme, re.DOTALL)
    assert found is not None
    assert found[1] in (ROOT / "README.md").read_text()
    lines = found[1].replace("http://127.0.0.1:5000", chat.url())
    ran = subprocess.run(
        [sys.executable, "-c", lines],
        env={"PYTHONPATH": str(ROOT / "clients" / "python" / "src")},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert "You said:" in ran.stdout
