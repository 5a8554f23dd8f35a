"""All ways to a session while processes are killed: users of the Python client, by websocket, events and polling."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass, field

from chatbot_client import AsyncChat, ChatError, Message
from chatbot_client.types import Way

from devtools.chaos.findings import Finding
from devtools.chaos.restarts import restart_in_turn
from devtools.fake_model import ModelServer
from devtools.harness.chat_client import history
from devtools.harness.deployment import Deployment, eventually

WAYS: tuple[Way, ...] = ("websocket", "events", "polling")
#: Of kills in a row.
_VICTIMS = ("worker", "web", "worker", "redis", "web")
#: Seconds.
_PATIENCE = 60.0


@dataclass
class Said:
    """One message of a user, and what became of it."""

    id: str
    #: The text that the deltas make, by their rule, and the complete reply; None without one.
    streamed: str = ""
    reply: Message | None = None
    error: str = ""


@dataclass
class User:
    """A user of the Python client, who asks and reads the reply, again and again."""

    way: Way
    url: str
    token: str = ""
    said: list[Said] = field(default_factory=list)

    async def talk(self, stop: threading.Event) -> None:
        async with await AsyncChat.start(self.url, "Ada", ways=(self.way,)) as chat:
            self.token = chat.token
            while not stop.is_set():
                reply = chat.send(f"message {len(self.said)}")
                said = Said(reply.id)
                self.said.append(said)
                try:
                    async for delta in reply:
                        said.streamed = said.streamed[: delta.offset] + delta.text
                    said.reply = await reply
                except ChatError as error:
                    said.error = str(error)

    def problems(self) -> list[str]:
        """What differs between what the user saw and what is stored."""
        stored = history(self.url, self.token)
        humans = [message["id"] for message in stored if message["source"] == "human"]
        found = [] if humans == [said.id for said in self.said] else ["messages lost, doubled or out of order"]
        for said in self.said:
            replies = [m for m in stored if m["reply_to"] == said.id]
            if said.error or len(replies) != 1:
                found.append(f"{said.id}: {len(replies)} replies, {said.error or 'no error'}")
            elif said.reply is None or not said.streamed == said.reply.text == replies[0]["msg"]:
                found.append(f"{said.id}: the user saw {said.streamed[-20:]!r}, stored is {replies[0]['msg'][-20:]!r}")
        return found


def run(chat: Deployment, kills: int, users: int, pause: float) -> list[Finding]:
    """Kills a process every `pause` seconds while `users` talk by each way, then compares."""
    crowd = [User(way, chat.url(n % len(chat.webs))) for n in range(users) for way in WAYS]
    stop = threading.Event()

    async def talk() -> None:
        await asyncio.gather(*(user.talk(stop) for user in crowd))

    talking = threading.Thread(target=lambda: asyncio.run(talk()), daemon=True)
    talking.start()
    _wait_for_replies(crowd, 1)
    restart_in_turn(chat, _VICTIMS, kills, pause)
    _wait_for_replies(crowd, max(len(user.said) for user in crowd) + 1)
    stop.set()
    talking.join(_PATIENCE)
    return [_finding(way, [user for user in crowd if user.way == way], kills) for way in WAYS]


def _wait_for_replies(users: list[User], count: int) -> None:
    """Waits until every user has sent so many messages and one is answered since."""
    eventually(lambda: all(len(user.said) > count for user in users), _PATIENCE, "replies arrive by every way")


def _finding(way: Way, users: list[User], kills: int) -> Finding:
    problems = [problem for user in users for problem in user.problems()]
    messages = sum(len(user.said) for user in users)
    measured = f"{len(problems)} problems" + (f", the first: {problems[0]}" if problems else "")
    what = f"{messages} messages by {way} through {kills} kills: lost, doubled, out of order, or shown otherwise"
    return Finding(what, "none", measured, not problems)


def ways(kills: int = 20, users: int = 4, pause: float = 2.0) -> list[Finding]:
    """The try of `make chaos`, with processes of its own."""
    with (
        ModelServer(first=50, interval=30, tokens=30, record=False) as model,
        Deployment(model.url, webs=2, workers=2) as chat,
    ):
        return run(chat, kills, users, pause)
