"""A client of the chatbot: `Chat` for plain code, `AsyncChat` for asyncio. Both speak docs/protocol.md of the server.

Messages and replies survive broken connections: a message is sent again, under the same id, until the server has
acknowledged it, and a reply continues where it was.
"""

from chatbot_client.asynchronous import AsyncChat
from chatbot_client.errors import ChatError, Refused, ReplyFailed, SessionExpired
from chatbot_client.reply import AsyncReply
from chatbot_client.synchronous import Chat, Reply
from chatbot_client.types import Delta, Frame, Message, Page

__all__ = [
    "AsyncChat",
    "AsyncReply",
    "Chat",
    "ChatError",
    "Delta",
    "Frame",
    "Message",
    "Page",
    "Refused",
    "Reply",
    "ReplyFailed",
    "SessionExpired",
]
