"""How a setting is declared: a dataclass field with a variable, a check and a description."""

from __future__ import annotations

import dataclasses
from typing import Any

from marshmallow.fields import Field


def setting(
    variable: str, default: Any, check: Field[Any], description: str, *, secret: bool = False, shown: str | None = None
) -> Any:
    """A setting read from `variable`; an empty value counts as unset.

    A `secret` is left out of the settings' text form. `shown` is the default as the example spells it.
    """
    metadata = {"variable": variable, "check": check, "description": description, "shown": shown}
    return dataclasses.field(default=default, repr=not secret, metadata=metadata)
