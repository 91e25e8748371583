"""Preprocessing, the CLIP tower and the file names that the released data set tries."""

from __future__ import annotations

import unicodedata

import torch
from PIL import Image
from torch import Tensor

from sevlm.config import IMAGENET_MEAN, IMAGENET_STD
from sevlm.parity.fixture import Fixture
from sevlm.parity.report import Report
from sevlm.preprocessing import Preprocessing

_EVERY = "_every_16th"


def clip_tensors(fixture: Fixture) -> dict[str, Tensor]:
    """Recomputes `clip/*` from the recorded pixels."""
    with torch.no_grad():
        grid = fixture.clip(fixture.outputs["clip/pixels"])
        return {"clip/grid_feats": grid, "clip/grid_feats_0": fixture.clip.official_prefix(grid)}


def preprocess_tensors(fixture: Fixture) -> dict[str, Tensor]:
    """Recomputes `preprocess/*` from the pictures of the same name."""
    tensors = {}
    for name in fixture.outputs:
        if not name.startswith("preprocess/"):
            continue
        stem, size = name.removeprefix("preprocess/").removesuffix(_EVERY).rsplit("_", 1)
        preprocessing = Preprocessing(int(size), IMAGENET_MEAN, IMAGENET_STD, "squash")
        with Image.open(fixture.path(f"preprocess/{stem}.png")) as picture:
            pixels = preprocessing(picture)
        tensors[name] = pixels[:, ::16, ::16] if name.endswith(_EVERY) else pixels
    return tensors


def compare_file_names(fixture: Fixture, report: Report) -> None:
    """`file_names.json`: what is tried for a name of the annotation file, in order."""
    expected = fixture.json("file_names.json")
    report.equal("file_names.json names", list(expected), fixture.settings["file_names"])
    for name, tried in expected.items():
        path = f"<folder>/{name}"
        report.equal(f"file_names.json[{name}]", [path, escaped_path(path)], tried)


def escaped_path(path: str) -> str:
    """The second path that the released data set tries, for archives with escaped file names.

    Composes characters, writes combining marks that remain as `#Uxxxx`, then everything outside ASCII as Python's
    unicode_escape with `\\\\x` turned into `#U00`. Characters above U+00FF become a literal backslash-u.
    """
    composed = unicodedata.normalize("NFC", path)
    marked = "".join(f"#U{ord(c):04x}" if unicodedata.category(c) in ("Mn", "Mc") else c for c in composed)
    return marked.encode("unicode_escape").decode().replace("\\x", "#U00")
