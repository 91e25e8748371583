"""The command line: one file per verb, imported only if that verb was typed."""

from __future__ import annotations

import argparse
import atexit
import gc
import importlib
import io
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any, TextIO

from harness.environment import __version__
from harness.errors import UserError, in_one_line
from harness.redact import redact_text

if TYPE_CHECKING:
    from pathlib import Path

EXIT_COMPLETE, EXIT_TOO_MANY_FAILURES, EXIT_USER_ERROR = 0, 1, 2
LONGEST = 1200
"""Characters of a message as printed; a name that it quotes from a file may be of any length."""
EXIT_BUG = 70
"""Of an error in the harness itself (`EX_SOFTWARE`)."""
EXIT_INTERRUPTED = 130
SPINS = "3000"
"""How often a thread of torch (GNU OpenMP) looks for work before it sleeps. With its own 300,000, threads that wait for
each other burn the cores they share with other programs: a training beside one busy process took 2.5 times as long as
with 3,000. With 300, threads sleep so often that a training alone takes a fifth longer."""
BLAS_SPINS = "4"
"""The same of NumPy and SciPy (OpenBLAS), as a power of two: with its own, threads that waited took 8 of the 25
seconds of a processor in which a thousand examples were scored on shared cores."""
COLLECT_EVERY = 50_000
"""Objects between collections of garbage. With Python's own 700, what modules make, none of which is garbage, is looked
through hundreds of times: a tenth of the time in which a command starts."""

VERBS = {
    "run": "ask models about a task's images, score the answers, write the report (repeat it to resume)",
    "score": "score a run again, or outcomes made elsewhere",
    "judge": "let a model judge the explanations of a run",
    "rate": "let people judge the explanations of a run: make the page, or read what came back",
    "report": "write the HTML report of one run, or of several as one leaderboard",
    "compare": "paired differences between two models of a run",
    "train": "train a model on a task's training split",
    "data": "prepare or check a task's data",
    "list": "list tasks, models or metrics",
    "doctor": "check this installation, or a run folder",
    "check-adapter": "check that an adapter of your own keeps the contract",
}

EXAMPLES = """examples:
  harness run --tasks demo --models majority,nearest,human
  harness data prepare artemis --annotations artemis_dataset_release_v0.csv --images wikiart/
  harness train sevlm --task artemis --lexicon NRC-VAD-Lexicon.txt
  harness run --tasks artemis --models sevlm,llava
  harness run --tasks artemis --models gpt-5.5 --limit 100 --max-cost 5
  harness report runs/A runs/B --out both
"""


class _Parser(argparse.ArgumentParser):
    """argparse whose mistakes are `UserError`s, so that every mistake looks the same."""

    def error(self, message: str) -> None:  # type: ignore[override]
        raise UserError(f"{message}; see: {self.prog} --help")


def build_parser(only: str | None = None) -> argparse.ArgumentParser:
    """The parser of all verbs.

    Args:
        only: the verb whose arguments are needed; the others are then merely named. None: all.
    """
    parser = _Parser(
        prog="harness",
        description="Evaluate how models name the emotion an artwork evokes, and say why.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"harness {__version__}")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    for verb, summary in VERBS.items():
        sub = verbs.add_parser(
            verb,
            help=summary,
            description=summary.capitalize() + ".",
            allow_abbrev=False,
            conflict_handler="resolve",  # a verb may have a --help of its own
        )
        if only in (None, verb):
            module = importlib.import_module(f"harness.cli.{verb.replace('-', '_')}")
            module.add_arguments(sub)
            sub.set_defaults(execute=module.execute, parser=sub)
    return parser


def add_data_root(parser: argparse._ActionsContainer) -> None:
    """Declare `--data-root`, which most verbs share."""
    parser.add_argument(
        "--data-root", metavar="DIR", help="prepared data (default: $HARNESS_DATA, else the user's cache folder)"
    )


def add_look(group: argparse._ActionsContainer) -> None:
    """Declare the options of the page, which `run` and `report` share."""
    group.add_argument("--blur", action="store_true", help="blur images in the report until they are clicked")
    group.add_argument("--pictures", metavar="HOW", help="copy: small copies in the report (default); link: originals")


def copies_images(how: str | None) -> bool:
    """Whether `--pictures` asks for copies.

    Raises:
        UserError: neither `copy` nor `link`.
    """
    if how not in (None, "copy", "link"):
        raise UserError(f"--pictures: expected copy or link, got {how!r}")
    return how != "link"


def positive(text: str) -> int:
    """A whole number of at least 1, for argparse."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {number}")
    return number


def dollars(text: str) -> float:
    """An amount above 0, for argparse."""
    amount = float(text)
    if not 0 < amount < float("inf"):
        raise argparse.ArgumentTypeError(f"must be more than 0, got {text}")
    return amount


def print_summary(folder: Path, results: Mapping[str, Any]) -> None:
    """The compact leaderboard of a scored run, and where to read more."""
    from harness.reports.terminal import leaderboard_table

    for record in results["manifest"]["tasks"]:
        print(leaderboard_table(dict(results), record["name"]))
    page = folder / "report" / "index.html"
    print(f"\nreport: {page}" if page.exists() else f"\nresults: {folder / 'results.json'}")


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read a command; `key=value` settings may stand anywhere, which argparse alone does not allow after options.

    Raises:
        UserError: an argument that the verb does not know.
    """
    words = sys.argv[1:] if arguments is None else arguments
    parser = build_parser(next((word for word in words if not word.startswith("-")), ""))
    parsed, rest = parser.parse_known_args(words)
    if hasattr(parsed, "settings"):
        parsed.settings += [piece for piece in rest if not piece.startswith("-")]
        rest = [piece for piece in rest if piece.startswith("-")]
    if rest:
        parsed.parser.error(f"unknown argument {rest[0]!r}")
    return parsed


def share_cores() -> None:
    """Have threads without work sleep; before torch and NumPy are imported, which read these once."""
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPINS)
    os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", BLAS_SPINS)


_TORCH_WRITER = ("PytorchStreamWriter", "inline_container")
_STORAGE_ERRORS = {"sqlite3.OperationalError", "safetensors.SafetensorError"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Returns:
        0 complete, 1 too many failures, 2 the user can fix it, 130 interrupted, 70 an error in the harness.
    """
    gc.set_threshold(COLLECT_EVERY)
    atexit.register(gc.freeze)  # else Python looks through all objects once more to free what ends with the process
    share_cores()
    with forgiving_output(), interruptible():
        try:
            parsed = parse(arguments)
            return int(parsed.execute(parsed))
        except UserError as error:
            return _print_error(str(error))
        except KeyboardInterrupt:
            _close_progress_bars()
            print("harness: interrupted; rerun the same command to resume", file=sys.stderr)
            return EXIT_INTERRUPTED
        except Exception as error:
            # A full disk, a missing right, a folder that is gone: SQLite, safetensors and torch have exceptions of
            # their own for it, none of which is imported to ask this.
            name = f"{type(error).__module__.partition('.')[0]}.{type(error).__name__}"
            torch_failed = type(error) is RuntimeError and any(mark in str(error) for mark in _TORCH_WRITER)
            if isinstance(error, OSError) or name in _STORAGE_ERRORS or torch_failed:
                reason = str(error) or type(error).__name__
                if torch_failed:
                    reason = f"a file could not be written to its end (is the disk full?): {reason}"
                return _print_error(f"{reason}; what was recorded before is intact, rerun the same command to resume")
            _close_progress_bars()
            print(redact_text(traceback.format_exc()), end="", file=sys.stderr)
            print("harness: internal error; please report it with this traceback", file=sys.stderr)
            return EXIT_BUG


class _Output:
    """A text stream that shows what it cannot encode as `?`, and is silent once its reader has gone (`... | head`)."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        # in the C locale Python escapes undecodable names and nothing else
        if isinstance(stream, io.TextIOWrapper) and stream.errors in ("strict", "surrogateescape"):
            stream.reconfigure(errors="replace")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except BrokenPipeError:
            self._discard()
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except BrokenPipeError:
            self._discard()

    def _discard(self) -> None:
        """Send what is still to come to nowhere, also what Python writes when it ends."""
        os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())


@contextmanager
def forgiving_output() -> Iterator[None]:
    """Let neither the terminal's encoding nor a reader that has gone change what a command does or its exit code."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = _Output(before[0]), _Output(before[1])
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stdout, sys.stderr = before


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
            os.write(2, b"\nharness: killed; rerun the same command to resume\n")
            os._exit(EXIT_INTERRUPTED)
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _print_error(message: str) -> int:
    """Print one line; it is shortened after secrets are out, lest half of one is left at its end."""
    line = in_one_line(redact_text(message))
    _close_progress_bars()
    print(f"harness: {line if len(line) <= LONGEST else line[:LONGEST] + '…'}", file=sys.stderr)
    return EXIT_USER_ERROR


def _close_progress_bars() -> None:
    """End the lines of bars that others left open (transformers' Trainer does), so that a message has its own."""
    if "tqdm" in sys.modules:
        from tqdm import tqdm

        for bar in (*tqdm._instances,):  # type: ignore[attr-defined]  # WeakSet of all bars; there is no other way
            bar.close()
