"""What a command left in a run folder, as checksums, so that `harness doctor` can tell what changed since."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

from harness.atomic import write_atomically
from harness.store.run_folder import SCHEMA, to_json
from harness.types import UserError

NAME = "checksums.json"
_SEALED = ("manifest.json", "results.json", "examples/*", "outcomes/*/*", "report/*", "report/*/*")
_BLOCK = 1 << 20


def write_checksums(run: Path) -> None:
    """Write size and SHA-256 of every file of a run, once a command has ended."""
    files = {str(path.relative_to(run)): _record(path) for path in _files(run)}
    write_atomically(run / NAME, to_json({"schema": SCHEMA, "files": files}))


def changes(run: Path) -> Iterator[str]:
    """What differs from the checksums, a sentence each; outcomes that were only appended since are no difference.

    Raises:
        UserError: there are no checksums, or they cannot be read.
    """
    path = run / NAME
    try:
        recorded = json.loads(path.read_text(encoding="utf-8"))["files"]
        sealed = {str(name): (int(entry["bytes"]), str(entry["sha256"])) for name, entry in recorded.items()}
    except FileNotFoundError:
        raise UserError(f"{path}: no checksums; the command that made this run never ended: repeat it") from None
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise UserError(
            f"{path}: cannot be read ({type(error).__name__}); repeat the command to write it anew"
        ) from None
    present = {str(file.relative_to(run)): file for file in _files(run)}
    for name, (size, digest) in sealed.items():
        if name not in present:
            yield f"{name}: is gone"
        elif present[name].stat().st_size < size:
            yield f"{name}: is shorter than it was: {present[name].stat().st_size} of {size} bytes"
        elif _digest(present[name], size if name.startswith("outcomes/") else None) != digest:
            yield f"{name}: is not what the last command left"
    yield from (f"{name}: appeared since the last command ended" for name in sorted(present.keys() - sealed.keys()))


def _files(run: Path) -> list[Path]:
    found = {path for pattern in _SEALED for path in run.glob(pattern) if path.is_file()}
    return sorted(path for path in found if not path.name.startswith("."))


def _record(path: Path) -> dict[str, int | str]:
    return {"bytes": path.stat().st_size, "sha256": _digest(path, None)}


def _digest(path: Path, first: int | None) -> str:
    """SHA-256 of a file, or of its first bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        left = path.stat().st_size if first is None else first
        while left > 0 and (data := file.read(min(_BLOCK, left))):
            digest.update(data)
            left -= len(data)
    return digest.hexdigest()
