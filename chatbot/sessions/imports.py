"""The stored form of a chat that comes as a whole: its log, its index and its tree, as scripts/_tree.lua reads them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from chatbot.protocol.chat_files import invalid_import

#: What the user reads of a message whose file has no reply to it.
UNANSWERED = "The file of this chat holds no reply to this message: you may ask for one now"


@dataclass
class Layout:
    """What the keys of a session hold besides `name` and `session_start`. Built by `lay_out`."""

    messages: list[dict[str, Any]] = field(default_factory=list)
    index: dict[str, str] = field(default_factory=dict)
    #: For each turn the positions of its message and its reply, if any.
    turns: list[list[int]] = field(default_factory=list)
    state: dict[str, str] = field(default_factory=dict)
    #: Requests without a reply.
    unanswered: list[str] = field(default_factory=list)

    @property
    def entries(self) -> list[str]:
        """The list of turns as it is stored."""
        return [":".join(map(str, positions)) for positions in self.turns]


def lay_out(messages: Sequence[dict[str, Any]], leaf: str | None = None) -> Layout:
    """Lays out messages in the order of their log; `leaf` is the last message of the path to show.

    A message without a known parent follows the turn before it in the log. A reply whose message was dropped from its
    history is left out. Raises `ClientError` `invalid_import` when the messages do not fit together.
    """
    builder = _Builder(messages)
    for message in messages:
        builder.add(message)
    return builder.finish(leaf)


class _Builder:
    def __init__(self, messages: Sequence[dict[str, Any]]) -> None:
        self._layout = Layout()
        #: Turns by the ids of messages, replies and regenerations.
        self._turn_of: dict[str, int] = {}
        #: Of each turn its request, what it follows, and the turns on the path before it.
        self._requests: list[str] = []
        self._parents: list[int] = []
        self._depths: list[int] = []
        self._branches: list[int] = []
        #: Replies to regenerations, by the regeneration: a message may follow one before its reply is in the log.
        self._regenerations = {message["request"]: message for message in messages if "request" in message}

    def add(self, message: dict[str, Any]) -> None:
        """Adds the next message of the log."""
        if message["id"] in self._turn_of:
            raise invalid_import(f"The file is damaged: two messages have the id {message['id']}")
        if message["source"] == "human":
            self._add_human(message)
        elif message["reply_to"] in self._turn_of:
            self._add_reply(message)

    def finish(self, leaf: str | None) -> Layout:
        """The layout of what was added."""
        layout = self._layout
        if not layout.messages:
            raise invalid_import("The file holds no message of a user")
        if self._branches:
            layout.state["branches"] = ",".join(map(str, self._branches))
        if leaf in self._turn_of:
            layout.state["leaf"] = f"{self._turn_of[leaf]}:{len(layout.turns) - 1}"
        layout.unanswered = [
            request for request, positions in zip(self._requests, layout.turns, strict=True) if len(positions) == 1
        ]
        return layout

    def _add_human(self, message: dict[str, Any]) -> None:
        before = len(self._layout.turns) - 1
        named = message.get("parent", "") if before >= 0 else None
        if named in self._regenerations and named not in self._turn_of:
            self._regenerate(self._regenerations[named])
            before = len(self._layout.turns) - 1
        parent = -1 if named is None else self._turn_of.get(named, before)
        known = named is None or named in self._turn_of
        position = self._store({**message, "parent": named if known else self._last_id(before)})
        self._add_turn(message["id"], [position], parent)

    def _add_reply(self, message: dict[str, Any]) -> None:
        turn = self._regenerate(message) if "request" in message else self._turn_of[message["reply_to"]]
        positions = self._layout.turns[turn]
        is_taken = len(positions) > 1 or self._layout.messages[positions[0]]["id"] != message["reply_to"]
        branch = self._layout.index.get(f"^{turn}", "")
        if is_taken or ("request" in message and not branch.endswith(f":{message['request']}")):
            raise invalid_import(f"The file is damaged: the reply {message['id']} does not belong to its message")
        positions.append(self._store({**message, "parent": message["reply_to"]}))
        self._turn_of[message["id"]] = turn
        self._layout.index[message["id"]] = f"b:{positions[1]}:{turn}"

    def _regenerate(self, reply: dict[str, Any]) -> int:
        """The turn of a regeneration, which may be new."""
        request, of = reply["request"], self._turn_of.get(reply["reply_to"])
        if request not in self._turn_of and of is not None:
            self._add_turn(request, [self._layout.turns[of][0]], self._parents[of], first=of)
        return self._turn_of.get(request, -1)

    def _add_turn(self, request: str, positions: list[int], parent: int, first: int | None = None) -> None:
        layout, turn = self._layout, len(self._layout.turns)
        layout.turns.append(positions)
        layout.index[request] = f"h:{positions[0]}:{turn}"
        self._turn_of[request] = turn
        self._requests.append(request)
        self._parents.append(parent)
        self._depths.append(self._depths[parent] + 1 if parent >= 0 else 0)
        if first is not None or parent != turn - 1:
            layout.index[f"^{turn}"] = str(parent) if first is None else f"{parent}:{first}:{request}"
            self._branches.append(turn)
        if self._branches:
            layout.index[f"#{turn}"] = str(self._depths[turn])

    def _store(self, message: dict[str, Any]) -> int:
        self._layout.messages.append(message)
        return len(self._layout.messages) - 1

    def _last_id(self, turn: int) -> str | None:
        """What a message that follows a turn names as its parent."""
        if turn < 0:
            return None
        positions = self._layout.turns[turn]
        return str(self._layout.messages[positions[1]]["id"]) if len(positions) > 1 else self._requests[turn]
