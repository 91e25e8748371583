"""Finding the image files that a dataset names, and saying what became of each; the image folder is never left.

WikiArt's names went through several archives and file systems: accents come composed or decomposed, escaped as
`#U00e9`, or read in the wrong encoding (`é` -> `Ã©`), then lower-cased (`ã©`), sometimes twice. `candidates` lists
the spellings under which a name may lie on disk; the first two tried by the official SEVLM code
(`utils/datasets.py` of BetterZH/SEVLM-code) are among them.
"""

from __future__ import annotations

import filecmp
import os
import re
import unicodedata
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from harness.images import opened
from harness.types import ImageError, UserError

AS_WRITTEN = "as written"
AMBIGUOUS = "ambiguous"

_LOWERED_LEAD_BYTES = str.maketrans("ãâ", "ÃÂ")


class Located(NamedTuple):
    """A name that exists, and the repair that led to it (`as written` for none)."""

    name: str
    repair: str


def inside(root: Path, relative: str) -> Path:
    """The path of `relative` under `root`.

    Raises:
        UserError: the name is empty or absolute, holds `..`, or is a symbolic link that leaves `root` or leads nowhere.
    """
    parts = PurePosixPath(relative)
    if not relative or "\0" in relative or parts.is_absolute() or Path(relative).is_absolute() or ".." in parts.parts:
        raise UserError(f"image {relative!r}: expected a path inside the image folder {root}")
    path = root / relative
    below = [path, *path.parents][: len(parts.parts)]
    if any(map(os.path.islink, below)):
        try:
            target = path.resolve()
        except (OSError, RuntimeError):  # which of them depends on Python's version
            raise UserError(f"image {relative!r}: is a link that leads back to itself") from None
        if not target.is_relative_to(root.resolve()):
            raise UserError(f"image {relative!r}: is a link that leaves the image folder {root}")
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


def image_names(folder: Path) -> frozenset[str]:
    """Names of all files in the folders of `folder`, as `<folder>/<file>` (WikiArt: one folder per art style).

    Raises:
        UserError: no such folder, or one in it is a symbolic link that leaves it.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such image folder; expected WikiArt's, with one folder per art style")
    styles = [inside(folder, path.name) for path in folder.iterdir() if path.is_dir()]
    return frozenset(f"{style.name}/{name}" for style in styles for name in os.listdir(style))


@dataclass(frozen=True, slots=True)
class FoundImage:
    """What became of one image: its path in the folder, or the problem."""

    path: str | None
    repair: str
    problem: str = ""


class Listing:
    """The names of the files under a folder, each sub-folder listed once, when it is first asked about.

    Args:
        root: the image folder.

    Raises:
        UserError: no such folder.
    """

    def __init__(self, root: Path) -> None:
        if not root.is_dir():
            raise UserError(f"{root}: no such image folder")
        self.root = root
        self._folders: dict[str, frozenset[str]] = {}

    def __contains__(self, name: object) -> bool:
        """Whether `folder/file` exists, by the exact spelling of the file."""
        folder, _, file = str(name).rpartition("/")
        if folder not in self._folders:
            path = inside(self.root, folder) if folder else self.root
            self._folders[folder] = frozenset(os.listdir(path)) if path.is_dir() else frozenset()
        return file in self._folders[folder]

    @cached_property
    def by_name(self) -> dict[str, list[str]]:
        """File name -> paths under the root, in sorted order."""
        found: dict[str, list[str]] = {}
        for folder, folders, files in os.walk(self.root):
            folders.sort()
            for file in sorted(files):
                found.setdefault(file, []).append((Path(folder) / file).relative_to(self.root).as_posix())
        return found


def find_images(
    names: Iterable[str], images: Path, progress: bool, *, anywhere: bool = False, expected: str = ""
) -> dict[str, FoundImage]:
    """Locate and decode every image.

    Args:
        names: paths relative to the folder, as the dataset writes them.
        images: the image folder.
        progress: show a bar with rate and ETA.
        anywhere: look for the file's name in every sub-folder, not only where the dataset says. If files of one name
            have different content, the problem is `ambiguous`, followed by their paths.
        expected: what the folder should hold, for the error message.

    Returns:
        name -> what was found, in the order of the names.

    Raises:
        UserError: no such folder, no image in it, or a name that leads out of it.
    """
    wanted = list(dict.fromkeys(names))
    listing = Listing(images)
    found = {name: _find(name, listing, anywhere) for name in bar(wanted, "images", progress)}
    if wanted and all(image.problem == "missing" for image in found.values()):
        example = expected or f"for example {images / wanted[0]}"
        raise UserError(f"{images}: none of {len(wanted):,} images is there; expected {example}")
    return found


def bar(items: list[str], what: str, progress: bool) -> Iterator[str]:
    """The items, counted on a progress bar."""
    from tqdm import tqdm

    return iter(tqdm(items, desc=what, unit="", disable=not progress))


def image_problem(path: Path) -> str | None:
    """Why `harness.images.open_image` would refuse this file, or None if it decodes.

    The whole file is decoded, so that truncation shows; a JPEG is decoded at an eighth of its size.
    """
    try:
        with opened(path) as image:
            image.draft("RGB", (image.width // 8, image.height // 8))
            image.load()
    except ImageError as error:
        return str(error)
    return None


def _find(name: str, listing: Listing, anywhere: bool) -> FoundImage:
    inside(listing.root, name)
    located = locate(name, listing)
    if located is None and anywhere:
        elsewhere = locate(PurePosixPath(name).name, listing.by_name)
        if elsewhere is not None:
            first, *others = listing.by_name[elsewhere.name]
            if not all(filecmp.cmp(listing.root / first, listing.root / other, shallow=False) for other in others):
                return FoundImage(None, "", f"{AMBIGUOUS} ({', '.join([first, *others])})")
            located = elsewhere._replace(name=first)
    if located is None:
        return FoundImage(None, "", "missing")
    problem = image_problem(inside(listing.root, located.name))
    return FoundImage(None, "", f"corrupt ({problem})") if problem else FoundImage(located.name, located.repair)


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
    """Undo one reading of UTF-8 as Latin-1 or Windows-1252, also if the result was lower-cased."""
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
