"""Settings of sessions and their limits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import limits

from chatbot.config import fields
from chatbot.config.declaration import setting
from chatbot.config.fields import Rates


def _rates(variable: str, default: str, description: str) -> Any:
    return setting(variable, tuple(limits.parse_many(default)), fields.rates(), description, shown=default)


@dataclass(frozen=True)
class LimitsSettings:
    """Sessions and limits"""

    session_ttl: int = setting(
        "SESSION_TTL", 3600, fields.integer(1, 10 * 365 * 86400), "Seconds that a session lives after its last use."
    )
    max_session_age: int = setting(
        "MAX_SESSION_AGE",
        0,
        fields.integer(0, 10 * 365 * 86400),
        "Seconds that a session lives after its start, at most, however much it is used; 0 for no limit.",
    )
    max_message_length: int = setting(
        "MAX_MESSAGE_LENGTH", 8000, fields.integer(1, 65536), "Characters of one message."
    )
    max_pending_messages: int = setting(
        "MAX_PENDING_MESSAGES", 8, fields.integer(1, 10_000), "Unanswered messages of one session."
    )
    max_history_messages: int = setting(
        "MAX_HISTORY_MESSAGES",
        20_000,
        fields.integer(0, 1_000_000),
        "Messages that a history keeps; the oldest are dropped, unanswered ones stay. 0 keeps all.",
    )
    max_history_bytes: int = setting(
        "MAX_HISTORY_BYTES",
        16_000_000,
        fields.integer(0, 2**31),
        "Bytes of Redis' memory that the messages of a history take; the oldest are dropped, unanswered ones and the "
        "newest two stay. 0 for no limit.",
    )
    max_sockets: int = setting("MAX_SOCKETS", 12_000, fields.integer(1, 1_000_000), "Websockets of one web process.")
    max_sockets_per_session: int = setting(
        "MAX_SOCKETS_PER_SESSION", 16, fields.integer(1, 1_000_000), "Websockets of one session in all web processes."
    )
    max_sockets_per_address: int = setting(
        "MAX_SOCKETS_PER_ADDRESS",
        1000,
        fields.integer(0, 1_000_000),
        "Websockets of one address, which an office or a school may share, in one web process. 0 for no limit.",
    )
    max_queue_age: float = setting(
        "MAX_QUEUE_AGE",
        60.0,
        fields.seconds(or_zero=True),
        "Seconds: a message that must expect to wait longer for a worker is refused. 0 for no bound.",
    )
    rates_enabled: bool = setting("RATELIMIT_ENABLED", True, fields.boolean(), "Whether the rates below apply.")
    new_sessions: Rates = _rates(
        "RATELIMIT_SESSIONS",
        "600/minute",
        "New sessions of one address, which an office or a school may share. 5/second;100/hour sets two rates.",
    )
    session_messages: Rates = _rates("RATELIMIT_SESSION_MESSAGES", "240/minute", "Messages of one session.")
    address_messages: Rates = _rates("RATELIMIT_ADDRESS_MESSAGES", "3000/minute", "Messages of one address.")
    address_bytes: Rates = _rates("RATELIMIT_ADDRESS_BYTES", "100000000/hour", "Bytes of one address's messages.")
    session_reads: Rates = _rates("RATELIMIT_SESSION_READS", "120/minute", "Pages of one session's history.")
    address_reads: Rates = _rates("RATELIMIT_ADDRESS_READS", "1200/minute", "Pages of histories read from one address.")
    failed_handshakes: Rates = _rates(
        "RATELIMIT_FAILED_HANDSHAKES",
        "120/minute",
        "Websocket handshakes of one address without a valid token, in one web process; then all of its handshakes are "
        "refused.",
    )
