"""The AsyncAPI document: the websocket `/chat`."""

from __future__ import annotations

from typing import Any

from chatbot.protocol.client_frames import CLIENT_FRAMES
from chatbot.protocol.frame_schemas import SERVER_FRAMES
from chatbot.web.contracts.components import INFO, component_schemas, name_of, reference

_CHANNEL = "#/channels/chat"
_DESCRIPTION = (
    "One conversation. Every frame is a text frame with one JSON object; a text from the client that is no JSON "
    "object is a message, as typed. A client ignores fields and frames that it does not know."
)


def asyncapi() -> dict[str, Any]:
    """The document, as AsyncAPI 3.0."""
    sent = {f"{name}FromClient" if name in SERVER_FRAMES else name: schema for name, schema in CLIENT_FRAMES.items()}
    messages = {**SERVER_FRAMES, **sent}
    info = {**INFO, "description": _DESCRIPTION, "license": {"name": INFO["license"]["name"]}}
    return {
        "asyncapi": "3.0.0",
        "info": info,
        "defaultContentType": "application/json",
        "channels": {
            "chat": {
                "address": "/chat",
                "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in messages},
                "bindings": {
                    "ws": {
                        "method": "GET",
                        "query": {
                            "type": "object",
                            "properties": {
                                "token": {"type": "string", "description": "Or `Authorization: Bearer …`"},
                                "after": {
                                    "type": "string",
                                    "description": "The last whole message that the client holds: what follows is sent",
                                },
                            },
                        },
                        "bindingVersion": "0.1.0",
                    }
                },
            }
        },
        "operations": {
            "receive": _operation("receive", "What a client sends", sent),
            "send": _operation("send", "What the server sends", SERVER_FRAMES),
        },
        "components": {
            "messages": {
                name: {"name": name, "title": name_of(schema), "payload": reference(schema)}
                for name, schema in messages.items()
            },
            "schemas": component_schemas(messages.values()),
        },
    }


def _operation(action: str, summary: str, messages: Any) -> dict[str, Any]:
    return {
        "action": action,
        "summary": summary,
        "channel": {"$ref": _CHANNEL},
        "messages": [{"$ref": f"{_CHANNEL}/messages/{name}"} for name in messages],
    }
