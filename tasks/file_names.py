"""Finding a picture whose name was garbled on its way, without ever leaving the picture folder.

WikiArt's names went through several archives and file systems: accents come composed or decomposed, escaped as
`#U00e9`, or read in the wrong encoding (`é` -> `Ã©`), then lower-cased (`ã©`), sometimes twice. `candidates` lists
the spellings under which a name may lie on disk; the first two tried by the official SEVLM code
(`utils/datasets.py` of BetterZH/SEVLM-code) are among them.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Container, Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from harness.types import UserError

AS_WRITTEN = "as written"

_LOWERED_LEAD_BYTES = str.maketrans("ãâ", "ÃÂ")


class Located(NamedTuple):
    """A name that exists, and the repair that led to it (`as written` for none)."""

    name: str
    repair: str


def inside(root: Path, relative: str) -> Path:
    """The path of `relative` under `root`.

    Raises:
        UserError: the name is empty or absolute, holds `..`, or is a symbolic link that leaves `root`.
    """
    parts = PurePosixPath(relative)
    if not relative or "\0" in relative or parts.is_absolute() or Path(relative).is_absolute() or ".." in parts.parts:
        raise UserError(f"picture {relative!r}: expected a path inside the picture folder {root}")
    path = root / relative
    if not path.resolve().is_relative_to(root.resolve()):
        raise UserError(f"picture {relative!r}: is a link that leaves the picture folder {root}")
    return path


def official_attempts(name: str) -> tuple[str, str]:
    r"""The two spellings that the official code tries, in its order.

    The second is exact to its last slip: characters above U+00FF become a literal backslash-u that no file has.
    """
    composed = unicodedata.normalize("NFC", name)
    marks = "".join(f"#U{ord(c):04x}" if unicodedata.category(c) in ("Mn", "Mc") else c for c in composed)
    return name, marks.encode("unicode_escape").decode("ascii").replace("\\x", "#U00")


def candidates(name: str) -> Iterator[Located]:
    """Spellings under which `name` may lie on disk, each once, most faithful first."""
    seen: set[str] = set()
    for spelling, repair in _spellings(name):
        if spelling not in seen:
            seen.add(spelling)
            yield Located(spelling, repair)


def locate(name: str, present: Container[str]) -> Located | None:
    """The first of `candidates(name)` that is in `present`, or None."""
    return next((candidate for candidate in candidates(name) if candidate.name in present), None)


def picture_names(folder: Path) -> frozenset[str]:
    """Names of all files in the folders of `folder`, as `<folder>/<file>` (WikiArt: one folder per art style).

    Raises:
        UserError: no such folder, or one in it is a symbolic link that leaves it.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such picture folder; expected WikiArt's, with one folder per art style")
    styles = [inside(folder, path.name) for path in folder.iterdir() if path.is_dir()]
    return frozenset(f"{style.name}/{name}" for style in styles for name in os.listdir(style))


def _spellings(name: str) -> Iterator[tuple[str, str]]:
    yield name, AS_WRITTEN
    if name.isascii():
        return
    yield from _forms(name, "")
    once, garbled = _ungarble(name), _garble(name)
    for depth in ("wrong encoding", "wrong encoding twice"):
        for variant in (once, garbled, garbled and garbled.lower()):
            if variant:
                yield from _forms(variant, f"{depth}, ")
        once, garbled = once and _ungarble(once), garbled and _garble(garbled)


def _forms(name: str, prefix: str) -> Iterator[tuple[str, str]]:
    yield name, f"{prefix}then as is"
    yield unicodedata.normalize("NFC", name), f"{prefix}composed accents"
    yield unicodedata.normalize("NFD", name), f"{prefix}decomposed accents"
    yield official_attempts(name)[1], f"{prefix}#U escapes"
    escaped = "".join(c if c.isascii() else f"#U{ord(c):04x}" for c in unicodedata.normalize("NFC", name))
    yield escaped, f"{prefix}#U escapes"


def _ungarble(name: str) -> str | None:
    """Undo one reading of UTF-8 as Latin-1 or Windows-1252, also where the result was lower-cased."""
    for text in (name, re.sub("[ãâ](?=[\x80-\xbf])", lambda m: m[0].translate(_LOWERED_LEAD_BYTES), name)):
        for encoding in ("latin-1", "cp1252"):
            try:
                return text.encode(encoding).decode("utf-8")
            except UnicodeError:
                continue
    return None


def _garble(name: str) -> str | None:
    """Read the name's UTF-8 as Latin-1, as the archive on disk may have been."""
    try:
        return name.encode("utf-8").decode("latin-1")
    except UnicodeEncodeError:  # a lone surrogate: a name that is no text
        return None
