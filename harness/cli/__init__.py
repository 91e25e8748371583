"""The command line: one file per verb, imported only when that verb is used."""

from __future__ import annotations

import argparse
import importlib
import sys
import traceback
from collections.abc import Sequence

from harness import __version__
from harness.infer.interruption import EXIT_INTERRUPTED, interruptible
from harness.redact import redact_text
from harness.types import UserError, in_one_line

EXIT_COMPLETE, EXIT_TOO_MANY_FAILURES, EXIT_USER_ERROR = 0, 1, 2
LONGEST = 1200
"""Characters of a message as printed; a name that it quotes from a file may be of any length."""
EXIT_BUG = 70
"""Of a mistake in the harness itself (`EX_SOFTWARE`)."""

VERBS = {
    "run": "ask models about a task's paintings, score the answers, write the report (repeat it to resume)",
    "score": "score a run again, or outcomes made elsewhere",
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
  harness run --tasks artemis --models gpt4v:model=gpt-4o --limit 100
  harness report runs/A runs/B --out both
"""


class _Parser(argparse.ArgumentParser):
    """argparse whose mistakes are `UserError`s, so that every mistake looks the same."""

    def error(self, message: str) -> None:  # type: ignore[override]
        raise UserError(f"{message}; see: {self.prog} --help")


def build_parser() -> argparse.ArgumentParser:
    """The parser of all verbs (used by the tests to check that documented commands parse)."""
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
        module = importlib.import_module(f"harness.cli.{verb.replace('-', '_')}")
        sub = verbs.add_parser(verb, help=summary, description=summary.capitalize() + ".", allow_abbrev=False)
        module.add_arguments(sub)
        sub.set_defaults(execute=module.execute, parser=sub)
    return parser


def add_data_root(parser: argparse._ActionsContainer) -> None:
    """Declare `--data-root`, which most verbs share."""
    parser.add_argument(
        "--data-root", metavar="DIR", help="prepared data (default: $HARNESS_DATA, else the user's cache folder)"
    )


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read a command; `key=value` settings may stand anywhere, which argparse alone does not allow after options.

    Raises:
        UserError: an argument that the verb does not know.
    """
    parser = build_parser()
    parsed, rest = parser.parse_known_args(arguments)
    if hasattr(parsed, "settings"):
        parsed.settings += [piece for piece in rest if not piece.startswith("-")]
        rest = [piece for piece in rest if piece.startswith("-")]
    if rest:
        parsed.parser.error(f"unknown argument {rest[0]!r}")
    return parsed


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Returns:
        0 complete, 1 too many failures, 2 the user can mend it, 130 interrupted, 70 a mistake in the harness.
    """
    with interruptible():
        try:
            parsed = parse(arguments)
            return int(parsed.execute(parsed))
        except UserError as error:
            return _told(str(error))
        except KeyboardInterrupt:
            _close_progress_bars()
            print("harness: interrupted; repeat the command to resume", file=sys.stderr)
            return EXIT_INTERRUPTED
        except Exception as error:
            if _is_storage_failure(error):
                told = str(error) or type(error).__name__
                if _torch_cannot_write(error):
                    told = f"a file could not be written to its end (is the disk full?): {told}"
                return _told(f"{told}; what was recorded before is intact, repeat the command to resume")
            _close_progress_bars()
            print(redact_text(traceback.format_exc()), end="", file=sys.stderr)
            print("harness: this is a mistake in the harness; please report it with these lines", file=sys.stderr)
            return EXIT_BUG


def _told(message: str) -> int:
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


def _is_storage_failure(error: Exception) -> bool:
    """Whether a file could not be read or written: a full disk, a missing right, a folder that is gone.

    SQLite, safetensors and torch have exceptions of their own for it.
    """
    name = f"{type(error).__module__.partition('.')[0]}.{type(error).__name__}"  # none of them is imported for this
    return isinstance(error, OSError) or name in _STORAGE_ERRORS or _torch_cannot_write(error)


def _torch_cannot_write(error: Exception) -> bool:
    return type(error) is RuntimeError and any(mark in str(error) for mark in _TORCH_WRITER)


_TORCH_WRITER = ("PytorchStreamWriter", "inline_container")
_STORAGE_ERRORS = {"sqlite3.OperationalError", "safetensors.SafetensorError"}
