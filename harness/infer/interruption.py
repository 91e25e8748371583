"""Ctrl-C and SIGTERM: the first abandons the work in hand in good order, the second ends the process at once."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

EXIT_INTERRUPTED = 130
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def interruptible() -> Iterator[None]:
    """Turn the first SIGINT or SIGTERM into `KeyboardInterrupt`, and the second into an immediate exit code 130.

    The first unwinds the stack, so that files are closed, records written and locks released. The second does not wait
    for any of that: every outcome is on its way to the disk already, and whole files are only ever replaced. Outside
    the main thread, where Python takes no signal handlers, nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    received = 0

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal received
        received += 1
        if received > 1:
            os.write(2, b"\nharness: ended at once; repeat the command to resume\n")
            os._exit(EXIT_INTERRUPTED)
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def run_until_interrupted(work: Coroutine[Any, Any, None]) -> None:
    """`asyncio.run` for work that `interruptible` may end at any step.

    asyncio keeps the interrupt in the task as well, and prints a traceback because nobody fetches it from there.
    """
    import asyncio  # costs as much time as all the rest of `harness --help`

    interrupted = False

    async def quietly() -> None:
        nonlocal interrupted
        try:
            await work
        except KeyboardInterrupt:
            interrupted = True

    asyncio.run(quietly())
    if interrupted:
        raise KeyboardInterrupt
