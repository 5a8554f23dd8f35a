"""Items, the units of a conversation in Open Responses: checked as clients send them, and in the form that is stored.

A stored item is a message with a list of parts, a function call, or the output of one. Parts are texts and images.
"""

from __future__ import annotations

import base64
import binascii
import json
import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NoReturn

from chatbot.protocol.client_errors import ClientError

#: Items of one request, and parts of one message.
MAX_ITEMS, MAX_PARTS = 2000, 200
#: Characters of a call's id and of a function's name.
MAX_ID = 64
#: Bytes of the text in a compaction item.
_MAX_COMPACTION = 1024 * 1024
ROLES = {"user": "user", "assistant": "assistant", "system": "system", "developer": "system"}
_DETAILS = ("auto", "low", "high")

Item = dict[str, Any]


def invalid(param: str, message: str, code: str = "invalid_value") -> ClientError:
    """The error for a field of a request."""
    return ClientError(code, message, param=param)


def unsupported(param: str, what: str) -> ClientError:
    """The error for what this server does not do."""
    return invalid(param, f"This server does not support {what}", "unsupported_value")


def parse_input(value: Any, param: str = "input") -> list[Item]:
    """The items of an `input`: a text, which is a user's message, or a list. Raises `ClientError`."""
    if isinstance(value, str):
        return [message("user", [text_part("user", _text(value, param))])]
    if not isinstance(value, list):
        raise invalid(param, f"{param} must be a text or a list of items", "invalid_type")
    if len(value) > MAX_ITEMS:
        raise invalid(param, f"{param} has at most {MAX_ITEMS} items")
    return [item for number, raw in enumerate(value) if (item := parse_item(raw, f"{param}[{number}]"))]


def message(role: str, parts: list[dict[str, Any]]) -> Item:
    """A message as it is stored."""
    return {"type": "message", "role": role, "content": parts}


def text_part(role: str, text: str) -> dict[str, Any]:
    """A part with a text."""
    return {"type": "output_text" if role == "assistant" else "input_text", "text": text}


def text_of(content: str | Iterable[Mapping[str, Any]]) -> str:
    """The text of a message's or an output's parts."""
    if isinstance(content, str):
        return content
    return "".join(str(part.get("text", "")) for part in content)


def plain_text(items: Sequence[Item]) -> str | None:
    """The text of items that are one message of a user without images; None for others."""
    if len(items) != 1 or items[0].get("role") != "user":
        return None
    return None if has_images(items) else text_of(items[0]["content"])


def last_text(items: Iterable[Item]) -> str:
    """The text of the last message of the user, which stands for the request where one text is shown."""
    found = [text_of(item["content"]) for item in items if item.get("role") == "user"]
    return found[-1] if found else ""


def has_images(items: Iterable[Item]) -> bool:
    """Whether a model that sees images is needed."""
    contents = (item.get("content", item.get("output", "")) for item in items)
    return any(part["type"] == "input_image" for content in contents if isinstance(content, list) for part in content)


def unanswered_outputs(items: Iterable[Item]) -> list[str]:
    """The ids of calls whose output the items hold, but not the call itself."""
    called: set[str] = set()
    missing = []
    for item in items:
        if item["type"] == "function_call":
            called.add(item["call_id"])
        elif item["type"] == "function_call_output" and item["call_id"] not in called:
            missing.append(item["call_id"])
    return missing


def compaction(text: str, item_id: str) -> Item:
    """A compaction item that stands for the text."""
    packed = base64.urlsafe_b64encode(zlib.compress(json.dumps(text).encode()))
    return {"type": "compaction", "id": item_id, "encrypted_content": packed.decode()}


def parse_item(raw: Any, param: str) -> Item | None:
    """An item in its stored form; None for one that no model gets. Raises `ClientError`."""
    if not isinstance(raw, dict):
        raise invalid(param, f"{param} must be an object", "invalid_type")
    match raw.get("type") or _kind_without_type(raw):
        case "message":
            return _message(raw, param)
        case "function_call":
            return {
                "type": "function_call",
                "call_id": _id(raw, "call_id", param),
                "name": _id(raw, "name", param),
                "arguments": _text(raw.get("arguments"), f"{param}.arguments"),
            }
        case "function_call_output":
            output = raw.get("output")
            if isinstance(output, list):
                output = _parts(output, "user", f"{param}.output")
            else:
                output = _text(output, f"{param}.output")
            return {"type": "function_call_output", "call_id": _id(raw, "call_id", param), "output": output}
        case "compaction":
            text = _unpacked(raw.get("encrypted_content"), f"{param}.encrypted_content")
            return message("system", [text_part("system", text)])
        case "item_reference":
            # Replaced before the request is stored, see web/openai/references.py.
            return {"type": "item_reference", "id": _text(raw.get("id"), f"{param}.id"), "param": f"{param}.id"}
        case "reasoning":
            return None
        case None:
            raise invalid(f"{param}.type", f"{param} needs a 'type'", "missing_required_parameter")
        case kind:
            raise unsupported(f"{param}.type", f"items of the type {str(kind)[:40]!r}")


def _kind_without_type(raw: Mapping[str, Any]) -> str | None:
    """The type of an item without one, as OpenAI's clients may send messages and references."""
    if "role" in raw:
        return "message"
    return "item_reference" if "id" in raw and raw.keys() <= {"id", "type"} else None


def _message(raw: Mapping[str, Any], param: str) -> Item:
    given = raw.get("role")
    role = ROLES.get(given) if isinstance(given, str) else None
    if role is None:
        raise unknown_role(param, ROLES)
    content = raw.get("content")
    if isinstance(content, str):
        return message(role, [text_part(role, _text(content, f"{param}.content"))])
    if not isinstance(content, list):
        raise invalid(f"{param}.content", f"{param}.content must be a text or a list of parts", "invalid_type")
    return message(role, _parts(content, role, f"{param}.content"))


def unknown_role(param: str, roles: Iterable[str]) -> ClientError:
    """The error for a message whose role is none of `roles`."""
    return invalid(f"{param}.role", f"{param}.role must be one of {', '.join(roles)}")


def _parts(content: list[Any], role: str, param: str) -> list[dict[str, Any]]:
    if len(content) > MAX_PARTS:
        raise invalid(param, f"{param} has at most {MAX_PARTS} parts")
    return [_part(raw, role, f"{param}[{number}]") for number, raw in enumerate(content)]


def _part(raw: Any, role: str, param: str) -> dict[str, Any]:
    if not isinstance(raw, dict):
        raise invalid(param, f"{param} must be an object", "invalid_type")
    match raw.get("type"):
        case "input_text" | "output_text" | "text":
            return text_part(role, _text(raw.get("text"), f"{param}.text"))
        case "refusal":
            return text_part(role, _text(raw.get("refusal"), f"{param}.refusal"))
        case "input_image":
            if role == "assistant":
                raise unsupported(f"{param}.type", "images in messages of the assistant")
            return image_part(raw.get("image_url"), raw.get("detail"), param)
        case kind:
            raise unsupported(f"{param}.type", f"parts of the type {str(kind)[:40]!r}")


def image_part(url: Any, detail: Any, param: str) -> dict[str, Any]:
    """A part with an image, by its address or as a `data:` URL. Raises `ClientError`."""
    if not isinstance(url, str) or not url.startswith(("data:image/", "https://", "http://")):
        raise invalid(f"{param}.image_url", f"{param}.image_url must be a https: or data: URL of an image")
    if detail not in (None, *_DETAILS):
        raise invalid(f"{param}.detail", f"{param}.detail must be one of {', '.join(_DETAILS)}")
    return {"type": "input_image", "image_url": _text(url, f"{param}.image_url"), "detail": detail or "auto"}


def _id(raw: Mapping[str, Any], name: str, param: str) -> str:
    value = _text(raw.get(name), f"{param}.{name}")
    if not 0 < len(value) <= MAX_ID:
        raise invalid(f"{param}.{name}", f"{param}.{name} has 1 to {MAX_ID} characters")
    return value


def _text(value: Any, param: str) -> str:
    if not isinstance(value, str):
        raise invalid(param, f"{param} must be a text", "invalid_type")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise invalid(param, f"{param} holds half of a surrogate pair") from None
    return value


def _unpacked(value: Any, param: str) -> str:
    """The text of a compaction item. Raises `ClientError` for one that another server made."""
    try:
        unpacker = zlib.decompressobj()
        packed = unpacker.decompress(base64.urlsafe_b64decode(_text(value, param)), _MAX_COMPACTION)
        text = json.loads(packed)
    except (binascii.Error, zlib.error, ValueError):
        _refuse_compaction(param)
    if unpacker.unconsumed_tail or not isinstance(text, str):
        _refuse_compaction(param)
    return _text(text, param)


def _refuse_compaction(param: str) -> NoReturn:
    raise invalid(param, f"{param} was not made by this server")
