"""Checking that settings have the types of their fields: a text such as "no" would count as true without a word."""

from __future__ import annotations

import math
from collections.abc import Callable
from types import UnionType
from typing import Any, get_args, get_type_hints

from sevlm.errors import SEVLMError

_KINDS: dict[Any, tuple[str, Callable[[Any], bool]]] = {
    bool: ("true or false", lambda value: isinstance(value, bool)),
    int: ("a whole number", lambda value: isinstance(value, int) and not isinstance(value, bool)),
    float: ("a finite number (YAML wants 2.0e-5, not 2e-5)", lambda value: _is_number(value)),
    str: ("text", lambda value: isinstance(value, str)),
    tuple[float, ...]: ("a list of numbers", lambda value: isinstance(value, tuple) and all(map(_is_number, value))),
    tuple[str, ...]: ("a list of texts", lambda value: isinstance(value, tuple) and all(map(_is_text, value))),
}


def check_types(settings: Any) -> None:
    """See that each field of a dataclass holds what its annotation says; fields with choices of their own are left out.

    Raises:
        SEVLMError: one does not.
    """
    for name, hint in get_type_hints(type(settings)).items():
        value = getattr(settings, name)
        choices = get_args(hint) if isinstance(hint, UnionType) else (hint,)
        kind = next((choice for choice in choices if choice in _KINDS), None)
        if kind is None or (value is None and type(None) in choices):
            continue
        wanted, fits = _KINDS[kind]
        if not fits(value):
            raise SEVLMError(f"{name} must be {wanted}, not {value!r}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)
