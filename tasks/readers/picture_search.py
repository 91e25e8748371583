"""Finding the pictures that a dataset names, and saying what became of each."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

from harness.tasks.file_names import inside, locate
from harness.tasks.pictures import picture_problem
from harness.types import UserError


@dataclass(frozen=True, slots=True)
class Picture:
    """What became of one picture: its path in the folder, or the problem."""

    path: str | None
    repair: str
    problem: str = ""


class Listing:
    """The names of the files under a folder, each sub-folder listed once, when it is first asked about.

    Args:
        root: the picture folder.

    Raises:
        UserError: no such folder.
    """

    def __init__(self, root: Path) -> None:
        if not root.is_dir():
            raise UserError(f"{root}: no such picture folder")
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
    def by_name(self) -> dict[str, str]:
        """File name -> path under the root; of several files with one name, the first in sorted order."""
        found: dict[str, str] = {}
        for folder, folders, files in os.walk(self.root):
            folders.sort()
            for file in sorted(files):
                found.setdefault(file, (Path(folder) / file).relative_to(self.root).as_posix())
        return found


def find_pictures(
    names: Iterable[str], images: Path, progress: bool, *, anywhere: bool = False, say: str = ""
) -> dict[str, Picture]:
    """Locate and decode every picture.

    Args:
        names: paths relative to the folder, as the dataset writes them.
        images: the picture folder.
        progress: show a bar with rate and ETA.
        anywhere: look for the file's name in every sub-folder, not only where the dataset says.
        say: what the folder should hold, for the error message.

    Returns:
        name -> what was found, in the order of the names.

    Raises:
        UserError: no such folder, no picture in it, or a name that leads out of it.
    """
    wanted = list(dict.fromkeys(names))
    listing = Listing(images)
    found = {name: _find(name, listing, anywhere) for name in bar(wanted, "pictures", progress)}
    if wanted and not any(picture.path for picture in found.values()):
        example = say or f"for example {images / wanted[0]}"
        raise UserError(f"{images}: none of {len(wanted):,} pictures is there; expected {example}")
    return found


def bar(items: list[str], what: str, progress: bool) -> Iterator[str]:
    """The items, counted on a progress bar."""
    from tqdm import tqdm

    return iter(tqdm(items, desc=what, unit="", disable=not progress))


def _find(name: str, listing: Listing, anywhere: bool) -> Picture:
    inside(listing.root, name)
    located = locate(name, listing)
    if located is None and anywhere:
        elsewhere = locate(PurePosixPath(name).name, listing.by_name)
        located = elsewhere and elsewhere._replace(name=listing.by_name[elsewhere.name])
    if located is None:
        return Picture(None, "", "missing")
    problem = picture_problem(inside(listing.root, located.name))
    return Picture(None, "", f"corrupt ({problem})") if problem else Picture(located.name, located.repair)
