"""Many SIGKILLs over workers, web processes and Redis in one run, and the time until the struck replies are back."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable
from dataclasses import dataclass

from devtools.chaos.crowd import Crowd
from devtools.chaos.scene import Scene
from devtools.chaos.user import TrackedMessage
from devtools.fake_model import ModelServer
from devtools.harness.deployment import Deployment, Process

#: Of ten kills in a row.
_VICTIMS = ("worker", "web", "worker", "worker", "redis", "web", "worker", "worker", "web", "worker")
#: Processes; together the workers have `SLOTS` slots for all messages.
WORKERS, WEBS, SLOTS = 4, 3, 12
#: Seconds between two progress lines.
_PROGRESS = 60.0


@dataclass
class Killer:
    """Kills the process of a kind that has run for longest, and starts it again, as a service manager does."""

    scene: Scene[Deployment]

    def __post_init__(self) -> None:
        self._next = {"worker": itertools.cycle(self.scene.chat.workers), "web": itertools.cycle(self.scene.chat.webs)}

    def kill(self, kind: str) -> None:
        owed = self.scene.owed()
        if kind == "redis":
            self._kill(self.scene.chat.redis, (one.message for one in owed))
            self.scene.chat.wait_for_redis()
            return
        process = next(self._next[kind])
        if kind == "web":
            url = f"http://127.0.0.1:{process.env['PORT']}"
            self._kill(process, (one.message for one in owed if one.url == url))
            return
        self.scene.kill_worker(process)

    def _kill(self, process: Process, struck: Iterable[TrackedMessage]) -> None:
        self.scene.crowd.mark_fault(struck)
        process.kill()
        process.start()


def run_kills(chat: Deployment, model: ModelServer, count: int, users: int, pause: float, reply_length: float) -> Crowd:
    """Kills `count` processes, one every `pause` seconds, while `users` users talk."""

    def urls() -> list[str]:
        return [chat.url(n) for n in range(len(chat.webs))]

    with Crowd(users, urls, reply_length=reply_length) as crowd:
        killer = Killer(Scene(chat, model, crowd))
        shown = due = time.monotonic()
        for number, kind in zip(range(count), itertools.cycle(_VICTIMS), strict=False):
            due = max(due + pause, time.monotonic())
            time.sleep(max(due - time.monotonic(), 0.0))
            killer.kill(kind)
            if time.monotonic() - shown > _PROGRESS:
                shown = time.monotonic()
                print(f"  {number + 1} kills, {crowd.answered()} replies", flush=True)
    return crowd
