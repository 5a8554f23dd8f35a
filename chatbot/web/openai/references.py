"""References to items of earlier responses, which a client may send in place of the items themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from chatbot.protocol.client_errors import ClientError
from chatbot.protocol.openai.items import Item, invalid, message, text_part
from chatbot.protocol.openai.response import View
from chatbot.web.openai.ids import ItemId, ResponseId, parse_item_id

#: Responses to which one request may refer: each is read from Redis.
_MAX_RESPONSES = 500


def resolved(items: Iterable[Item], view: Callable[[ResponseId], View]) -> list[Item]:
    """The items, with those that are referred to in place of their references. Raises `ClientError`.

    `view` returns a response, and raises `ClientError` for one that the caller may not see. What a model thought is
    left out, as it is of items that are sent whole.
    """
    views: dict[ResponseId, View] = {}
    found, referred = [], set()
    for item in items:
        if item["type"] != "item_reference":
            found.append(item)
            continue
        param, known = item["param"], parse_item_id(item["id"])
        if known is None:
            raise _not_found(param)
        if known in referred:
            raise invalid(param, f"{param} is that of another item")
        referred.add(known)
        if known.kind == "rs":
            continue
        if known.response not in views and len(views) >= _MAX_RESPONSES:
            raise invalid(param, f"input refers to items of more than {_MAX_RESPONSES} responses")
        try:
            seen = views.setdefault(known.response, views.get(known.response) or view(known.response))
        except ClientError:
            raise _not_found(param) from None
        found.append(_item(seen, known, param))
    if not found:
        raise invalid("input", "input refers to nothing but what a model thought", "missing_required_parameter")
    return found


def _item(view: View, known: ItemId, param: str) -> Item:
    """The item in its stored form."""
    if not view.ended:
        raise invalid(param, f"{param} is that of a response which has not ended: wait for its end")
    if known.kind == "msg" and view.text:
        return message("assistant", [text_part("assistant", view.text)])
    if known.kind == "fc" and known.number < len(view.calls) and view.calls[known.number].get("status") != "incomplete":
        return dict(view.calls[known.number])
    raise _not_found(param)


def _not_found(param: str) -> ClientError:
    return invalid(param, f"{param} is the id of no item that is stored: send the item itself")
