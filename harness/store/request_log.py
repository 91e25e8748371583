"""How often an endpoint was asked: one byte per request, written before the request is sent.

An outcome is recorded when it arrives. A command that is killed or interrupted leaves requests behind whose outcome
nobody recorded: they are sent again when it is repeated, and may be billed twice. This file is how they are counted.
"""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType
from typing import Self


class RequestLogError(OSError):
    """A request could not be noted (the disk is full, say), so it was not sent."""


class RequestLog:
    """Appends to one file, one O_APPEND write per request, so that a killed process has counted what it sent."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def begin(self) -> None:
        """Note that a request is about to be sent.

        Raises:
            RequestLogError: it could not be written.
        """
        try:
            os.write(self._descriptor, b".")
        except OSError as error:
            raise RequestLogError(error.errno, error.strerror) from error

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
