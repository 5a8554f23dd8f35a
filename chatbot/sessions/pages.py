"""A page of a session's history: what one read returns, whatever the history's length."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from chatbot.protocol.client_errors import ClientError
from chatbot.protocol.client_frames import MESSAGE_ID
from chatbot.protocol.compact_json import to_json

#: Messages of a page, and bytes of their JSON, at most. A single message may be longer.
PAGE_MESSAGES = 200
PAGE_BYTES = 256 * 1000


@dataclass(frozen=True, slots=True)
class Page:
    """Consecutive messages of a session, oldest first. All fields are JSON texts as Redis returned them."""

    name: str
    session_start: str
    messages: str
    #: The id of the oldest message in the page if older ones exist, else null.
    before: str
    #: The id of the last message of the path that the session shows, or null.
    leaf: str
    #: See `with_parents`.
    lineage: list[str]

    def to_json(self, token: str) -> str:
        """The answer of `GET /refresh_token`. The messages are not parsed, unless one lacks its parent."""
        more = "false" if self.before == "null" else "true"
        messages = self.messages
        if self.lineage:
            messages = to_json(with_parents(json.loads(messages), self.lineage))
        return (
            f'{{"token":{json.dumps(token)},"name":{self.name},"messages":{messages},'
            f'"session_start":{self.session_start},"more":{more},"before":{self.before},"leaf":{self.leaf}}}'
        )


def with_parents(messages: list[dict[str, Any]], lineage: list[str]) -> list[dict[str, Any]]:
    """Adds their parents to messages that were stored by a version without branches, and returns them all.

    `lineage` comes from scripts/_tree.lua: for each message its id, its parent as JSON, and the regeneration that it
    answers, or ''. It is empty when no message lacks its parent.
    """
    found = {lineage[i]: (json.loads(lineage[i + 1]), lineage[i + 2]) for i in range(0, len(lineage), 3)}
    for message in messages:
        if "parent" not in message and message["id"] in found:
            message["parent"], request = found[message["id"]]
            if request:
                # That version took the regeneration for a message.
                message |= {"reply_to": message["parent"], "request": request}
    return messages


def parse_limit(given: str | None) -> int:
    """The number of messages that a client asks for. Raises `ClientError` `invalid_limit`."""
    if given is None:
        return PAGE_MESSAGES
    if given.isascii() and given.isdecimal() and len(given) < 10 and 1 <= int(given) <= PAGE_MESSAGES:
        return int(given)
    raise ClientError("invalid_limit", f"'limit' must be a whole number from 1 to {PAGE_MESSAGES}")


def parse_before(given: str | None) -> str | None:
    """The id of the message before which a client asks for a page. Raises `ClientError` `unknown_message`."""
    if given is not None and not MESSAGE_ID.match(given):
        raise unknown_message()
    return given


def unknown_message() -> ClientError:
    return ClientError("unknown_message", "The history holds no message with the id in 'before'")
