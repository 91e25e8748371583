"""The one exception type that this library raises for mistakes a caller can mend."""

from __future__ import annotations


class SEVLMError(ValueError):
    """A configuration, checkpoint or argument that SEVLM cannot work with.

    The message is one line: what was expected, what was got and, where it helps, what to do.
    """
