"""Every error that the project raises itself, in one tree.

What a client may be told is a `ClientError`: its code and message are part of the wire contract.
What a model did wrong is a `ModelError`: transient or permanent is told by type.
"""

from __future__ import annotations


class ChatbotError(Exception):
    """The root of the tree."""


class ConfigurationError(ChatbotError):
    """A setting whose value makes no sense; the message names it and says what would."""


class StoreUnavailable(ChatbotError):
    """Redis could not be reached, or could not do what was asked; nothing can be said about the outcome."""
