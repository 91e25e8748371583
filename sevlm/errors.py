"""The one exception type that this library raises for mistakes a caller can mend."""

from __future__ import annotations


class SEVLMError(ValueError):
    """A configuration, checkpoint or argument that SEVLM cannot work with.

    The message is one line: what was expected, what was got and, where it helps, what to do. What it quotes from a file
    may hold anything, so line breaks and control characters are taken out of it here.
    """

    def __init__(self, message: str) -> None:
        super().__init__("".join(c if c.isprintable() else "?" for c in " ".join(message.split())))
