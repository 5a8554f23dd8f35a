"""Finds the function that `MODEL_CALLABLE` names, or says in one line why it cannot be used."""

from __future__ import annotations

import difflib
import importlib
import inspect
import logging
import os
import sys
import threading
import traceback
from collections.abc import Callable
from typing import Any

from chatbot.errors import ConfigurationError

logger = logging.getLogger(__name__)

#: Seconds after which an import that has not ended is logged.
_LONG_IMPORT = 10

Bot = Callable[..., Any]
_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def load_callable(name: str) -> Bot:
    """The object `module:attribute`; modules are looked up in the working folder too.

    Raises `ConfigurationError`, in one line.
    """
    folder = os.getcwd()
    if folder not in sys.path and "" not in sys.path:
        # For good: the bot may import its other modules when it is called.
        sys.path.insert(0, folder)
    module_name, _, path = name.partition(":")
    if module_name == "chatbot":
        raise _invalid("chatbot is this program's own name: give your module another one")
    found: Any = _module(module_name, folder)
    for attribute in path.split("."):
        if not hasattr(found, attribute):
            raise _invalid(f"{_described(found, module_name)} has no {attribute}{_nearest(attribute, found)}")
        found = getattr(found, attribute)
    if not callable(found):
        raise _invalid(f"{name} is not a function")
    if inspect.isclass(found):
        raise _invalid(f"{name} is a class: name a function, or an object of that class with a method __call__")
    takes_context(found, name)
    return found  # type: ignore[no-any-return]


def takes_context(bot: Bot, name: str) -> bool:
    """Whether the bot gets the context too: it has a second parameter that is required, or named `context`.

    Raises `ConfigurationError` for a function that cannot be called with these arguments.
    """
    try:
        signature = inspect.signature(bot)
    except (ValueError, TypeError):
        # A function of an extension module.
        return False
    parameters = list(signature.parameters.values())
    second = next((p for p in parameters[1:2] if p.kind in _POSITIONAL), None)
    both = second is not None and (second.default is second.empty or second.name == "context")
    both = both or any(p.kind is p.VAR_POSITIONAL for p in parameters)
    try:
        signature.bind(*range(2 if both else 1))
    except TypeError:
        what = "must take one argument, the conversation, or two, the conversation and the context"
        raise _invalid(f"{name} {what}") from None
    return both


def _module(name: str, folder: str) -> Any:
    timer = threading.Timer(_LONG_IMPORT, logger.warning, ("importing %s has taken %d s so far", name, _LONG_IMPORT))
    timer.daemon = True
    timer.start()
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{name}.".startswith(f"{error.name}."):
            raise _invalid(f"the module {error.name} is neither in {folder} nor installed") from None
        raise _invalid(_failure(name, error)) from error
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise _invalid(_failure(name, error)) from error
    finally:
        timer.cancel()


def _failure(name: str, error: BaseException) -> str:
    """What importing the module raised, and at which of its lines."""
    if isinstance(error, SyntaxError):
        place = f"{error.filename}, line {error.lineno}" if error.filename else name
    else:
        # The first one is this module's. A library's line would say less than the bot's.
        frames = [f for f in traceback.extract_tb(error.__traceback__)[1:] if "importlib" not in f.filename]
        own = [f for f in frames if "site-packages" not in f.filename] or frames
        place = f"{own[-1].filename}, line {own[-1].lineno}" if own else name
    text = " ".join(str(error).split())
    return f"importing {name} failed: {type(error).__name__}: {text} ({place})"


def _described(found: Any, module_name: str) -> str:
    file = getattr(found, "__file__", None)
    return f"the module {module_name} ({file})" if file else f"{found!r:.100}"


def _nearest(attribute: str, found: Any) -> str:
    names = [name for name in dir(found) if not name.startswith("_")]
    near = difflib.get_close_matches(attribute, names, 1)
    return f": did you mean {near[0]}?" if near else ""


def _invalid(problem: str) -> ConfigurationError:
    return ConfigurationError(f"MODEL_CALLABLE cannot be used: {problem}")
