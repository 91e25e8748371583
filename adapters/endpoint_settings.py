"""Settings that cannot work are refused when they are read, not by the endpoint after a thousand requests."""

from __future__ import annotations

from collections.abc import Sequence

from harness.types import UserError


def check_choices(**settings: tuple[str | None, Sequence[str]]) -> None:
    """See that each setting is one of its choices; None is not set.

    Raises:
        UserError: one is not.
    """
    for name, (value, known) in settings.items():
        if value is not None and value not in known:
            raise UserError(f"{name}={value}: expected one of {', '.join(known)}")


def check_at_least(least: int, **settings: float) -> None:
    """See that no setting is less than `least` (NaN is).

    Raises:
        UserError: one is.
    """
    for name, value in settings.items():
        if not value >= least:
            raise UserError(f"{name}={value:g}: expected at least {least}")


def check_more_than_0(**settings: float | None) -> None:
    """See that each setting is more than 0; None is not set.

    Raises:
        UserError: one is not.
    """
    for name, value in settings.items():
        if value is not None and not value > 0:
            raise UserError(f"{name}={value:g}: expected more than 0")


def number_or_default(least: int, **setting: float | str) -> float | None:
    """The value of the one setting; None for `default`.

    Raises:
        UserError: it is neither `default` nor a number of at least `least`.
    """
    ((name, value),) = setting.items()
    if value == "default":
        return None
    if isinstance(value, str):
        raise UserError(f"{name}={value}: expected a number or default")
    check_at_least(least, **{name: value})
    return value
