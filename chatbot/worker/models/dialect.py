"""What one model server does not take: parameters, and the role `system`. Learnt from its refusals, for that server.

A refusal counts only when it says of a parameter that it is not supported; a text that mentions one does not. A change
is kept once the server has accepted a request with it, so that no refusal for another reason changes later requests.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from chatbot.worker.models.errors import ContentRefused, ModelError, PromptTooLong

logger = logging.getLogger(__name__)

#: Characters of an error in which a server says what it refuses; after them it quotes.
_SAID_WITHIN = 600
#: Before a name: quotes and brackets; further names of a list.
_BEFORE = r"""["'`{\[(:\s]*(?:body\W+)?(?:["']?\w+["']?,\s)*["'`{\[(]*"""
#: How servers say that they do not support the parameter NAME.
_UNSUPPORTED = (
    # "Unsupported parameter: 'max_tokens'", "Unrecognized request argument supplied: seed", "unknown field `seed`".
    rf"""(?:un(?:supported|recognized|known|expected)|extraneous)\ (?:request\ )?(?:keyword\ )?
    (?:parameter|argument|field|value|name|property|key)s?(?:\ supplied|\ in\ the\ request)?{_BEFORE}NAME\b""",
    # "'stop' is not supported", "property 'seed' is unsupported", "`temperature` is deprecated for this model".
    r"""(?<![\w.])["'`]?NAME["'`]?\ (?:parameter\ |field\ )?is\ (?:currently\ )?
    (?:not\ (?:supported|permitted|allowed|recognized|accepted)
    |unsupported|deprecated\ for\ this|no\ longer\ supported)""",
    # "does not support parameter stop", "don't support temperature=0.0", "does not support parameters: {'seed': 7}".
    rf"""(?:does\ not|doesn't|do\ not|don't)\ support(?:\ the)?(?:\ (?:parameter|argument|field)s?)?{_BEFORE}NAME\b""",
    r"""["'`]NAME["'`]\ does\ not\ support\b""",
    # "Argument not supported on this model: stop", "parameters not supported: ['seed']".
    rf"""(?:argument|parameter|field)s?\ (?:is\ |are\ )?not\ supported
    (?:\ (?:on|by|for|with)\ [\w\ ]+)?{_BEFORE}NAME\b""",
    # transformers: "The following `model_kwargs` are not used by the model: ['details', 'stop']".
    r"""not\ used\ by\ the\ model:\ \[[^\]]*'NAME'""",
    # "Extra inputs are not permitted, field: 'seed'", "got an unexpected keyword argument 'seed'".
    rf"""extra\ inputs?\ (?:is|are)\ not\ permitted[^.]{{0,20}}{_BEFORE}NAME\b""",
    # Anthropic: "`temperature` and `top_p` cannot both be specified for this model".
    r"""`temperature`\ and\ `NAME`\ cannot\ both""",
)
#: Codes and types with which `param` names a parameter that is not supported.
_CODES = (
    *("unsupported_parameter", "unsupported_value", "unknown_parameter", "extra_forbidden", "unrecognized_parameter"),
    *("UnsupportedParamsError", "unknown_field", "parameter_not_supported"),
)
_SAYS_UNSUPPORTED = re.compile(r"not supported|unsupported|not permitted|unknown|unrecognized", re.IGNORECASE)
#: A refusal of a parameter's value: another name would not help.
_VALUE = re.compile(r"unsupported[ _]value", re.IGNORECASE)
#: A refusal of what one request has: a parameter's value, or two parameters together.
_OF_VALUE = re.compile(
    r"unsupported[ _]value|cannot both|not support (?:the )?[\d.'\"-]|support \w+\s*=|only the default", re.IGNORECASE
)
#: How chat templates and servers refuse the role `system`.
_NO_SYSTEM = re.compile(
    r"""system\ role\ (?:is\ )?not\ supported
    | system\ (?:role|messages?|prompts?)\ (?:is\ |are\ )?(?:not\ |un)(?:supported|allowed|enabled)
    | (?:does\ not|doesn't|do\ not|don't)\ support\ (?:the\ )?["'`]?(?:system|developer)\b
    | only\ (?:supports?\ )?user,?\ (?:and|or)\ (?:assistant|model)(?:\ roles?)?\b | roles\ must\ alternate
    | must\ alternate\ between\ ["'`]?user | (?:developer|system)\ instruction\ is\ not\ enabled
    | (?:invalid|unexpected|unknown|unsupported)\ (?:message\ )?role:?\ ["'`]?system
    | role\ ["'`]?system["'`]?\ (?:is\ )?(?:not\ |un)(?:supported|allowed)
    | input\ should\ be\ ['"]user['"](?:\ or\ |,\ )['"]assistant['"] | expected\ one\ of\ "user"\|"assistant"
    | first\ message\ must\ (?:be|have|use)[^.]{0,20}user | must\ start\ with\ a\ user""",
    re.IGNORECASE | re.VERBOSE,
)


@dataclass(frozen=True)
class Change:
    """What a refused request must do without: parameters dropped or renamed, or the role `system`."""

    renamed: Mapping[str, str] = field(default_factory=dict)
    dropped: frozenset[str] = frozenset()
    #: Dropped from one request alone, whose own value or combination was refused.
    once: frozenset[str] = frozenset()
    no_system: bool = False


class Dialect:
    """What one server was found not to take. Thread-safe."""

    def __init__(self, server: str, *, droppable: Collection[str], renames: Mapping[str, str] | None = None) -> None:
        """`droppable` are the parameters that a request can do without; `renames` the names that some servers use."""
        self._server = server
        self._droppable = frozenset(droppable)
        self._renames = dict(renames or {})
        self._lock = threading.Lock()
        self._change = Change()

    @property
    def known(self) -> Change:
        return self._change

    def changed(
        self,
        error: ModelError,
        change: Change,
        parameters: Collection[str],
        *,
        system: bool,
        own: Collection[str] = (),
    ) -> Change | None:
        """`change` and what this refusal adds to it; None when it does not say what to do without.

        `parameters` are those of the refused request; `system` says whether it held a message with that role. Those in
        `own` are the request's, not the operator's: other requests may use them with other values.
        """
        if isinstance(error, (PromptTooLong, ContentRefused)):
            return None
        text = error.server_words[:_SAID_WITHIN] or error.server_text[:_SAID_WITHIN]
        if system and not change.no_system and _NO_SYSTEM.search(text):
            return replace(change, no_system=True)
        refused = [name for name in parameters if _refuses(error, text, name)]
        originals = {new: old for old, new in change.renamed.items()}
        renamed, dropped, once = dict(change.renamed), set(change.dropped), set(change.once)
        for name in refused:
            if name in self._renames and not _VALUE.search(text):
                renamed[name] = self._renames[name]
            elif name in self._droppable:
                (once if name in own and _OF_VALUE.search(text) else dropped).add(name)
            elif name in originals:
                # The other name is refused as well.
                return None
        new = Change(renamed, frozenset(dropped), frozenset(once), change.no_system)
        return None if new == change else new

    def accepted(self, change: Change) -> None:
        """Keeps a change with which the server has answered."""
        with self._lock:
            known = self._change
            new = Change(
                {**known.renamed, **change.renamed},
                known.dropped | change.dropped,
                no_system=known.no_system or change.no_system,
            )
            if new == known:
                return
            self._change = new
        for old, name in new.renamed.items():
            if known.renamed.get(old) != name:
                logger.warning("%s takes %s in place of %s: used from now on", self._server, name, old)
        for name in sorted(new.dropped - known.dropped):
            logger.warning("%s does not support the parameter %s: not sent from now on", self._server, name)
        if new.no_system and not known.no_system:
            logger.warning(
                "%s does not support the role system: instructions go before the first message", self._server
            )


def apply(change: Change, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters without those dropped, and with new names."""
    without = change.dropped | change.once
    return {change.renamed.get(name, name): value for name, value in parameters.items() if name not in without}


def remaining(parameters: Mapping[str, Any], name: str, generated: int) -> Mapping[str, Any]:
    """The parameters with a limit of tokens, `name`, that counts those generated before."""
    return {**parameters, name: max(parameters[name] - generated, 1)} if generated else parameters


def _refuses(error: ModelError, text: str, name: str) -> bool:
    """Whether the error says of the parameter that it is not supported."""
    if name in error.server_parameters and any(code in error.detail for code in _CODES):
        return True
    if name in error.server_parameters and _SAYS_UNSUPPORTED.search(text):
        return True
    return any(re.search(p.replace("NAME", name), text, re.IGNORECASE | re.VERBOSE) for p in _UNSUPPORTED)
