"""The errors that every room shares, and what their messages are made of: one line, and the names that were meant."""

from __future__ import annotations

from collections.abc import Iterable


class UserError(Exception):
    """A mistake the user can fix: printed as one line, exit code 2, no traceback.

    The message says what was expected, what was got, and what to type. What it quotes from files (column names, paths,
    values) may hold anything, so it is brought to one printable line here, once for every message.
    """

    def __init__(self, message: str) -> None:
        super().__init__(in_one_line(message))


class ImageError(Exception):
    """An image that cannot be read; it is recorded as `Failed`, the run continues."""


class Unavailable(Exception):
    """A metric cannot be computed for these rows; the message is the reason shown in its cell."""


class RetryableError(Exception):
    """An endpoint failure that may succeed when the request is sent again.

    Attributes:
        retry_after_s: seconds the endpoint asked to wait, or None.
        kind: what happened, in a word: `timeout`, `connection`, `http-503`; error statuses are not billed.
        cost_usd: what the attempt was billed, if the endpoint said so.
    """

    def __init__(
        self,
        message: str,
        retry_after_s: float | None = None,
        kind: str = "endpoint",
        cost_usd: float | None = None,
    ) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
        self.kind = kind
        self.cost_usd = cost_usd


def in_one_line(message: str) -> str:
    r"""Take out of a message what would break its line or what a terminal would act on.

    >>> in_one_line("no such file:\n  a\x1b[2Jb")
    'no such file: a?[2Jb'
    """
    return "".join(c if c.isprintable() else "?" for c in " ".join(message.split()))


def first_line(error: BaseException) -> str:
    r"""The first line of an error's message, or the name of its type if the message is empty.

    >>> first_line(ValueError("\nbad number\nat line 3")), first_line(KeyError())
    ('bad number', 'KeyError')
    """
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def nearest(name: str, known: Iterable[str]) -> str:
    """A phrase naming the nearest known names, or all of them when none is near."""
    import difflib  # only if somebody mistyped

    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.6)
    return f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(names) or 'none'}"
