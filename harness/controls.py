"""Controls: what a model says when it cannot see the painting, or sees another one.

`blank` shows a mid-grey picture, `shuffled` another painting of the same run. A model whose scores
do not drop does not look at the picture.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

from harness.types import Control, Example, UserError

CONTROLS: tuple[Control, ...] = ("blank", "shuffled")
GREY = (127, 127, 127)


def parse_controls(text: str | None) -> list[Control]:
    """Read a `--controls` value.

    Raises:
        UserError: an unknown control.
    """
    wanted = [c.strip() for c in (text or "").split(",") if c.strip()]
    for control in wanted:
        if control not in CONTROLS:
            raise UserError(f"--controls: unknown control {control!r}; known: {', '.join(CONTROLS)}")
    return [c for c in CONTROLS if c in wanted]


def pictures_under(control: Control | None, examples: Sequence[Example], seed: int, folder: Path) -> dict[str, Path]:
    """The picture to show for each example id.

    Args:
        control: None shows each example's own picture.
        examples: all examples of the run, in order (the permutation depends on their ids and the seed alone).
        folder: where grey pictures are written.
    """
    if control == "blank":
        return dict.fromkeys((e.id for e in examples), _grey_picture(folder))
    if control == "shuffled":
        return _shuffled(examples, seed)
    return {e.id: e.image for e in examples}


def _grey_picture(folder: Path) -> Path:
    path = folder / "blank.png"
    if not path.exists():
        from PIL import Image

        folder.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (336, 336), GREY).save(path)
    return path


def _shuffled(examples: Sequence[Example], seed: int) -> dict[str, Path]:
    """A cyclic shift of a seeded permutation: nobody sees the own picture (given two examples or more)."""
    order = sorted(examples, key=lambda e: e.id)
    random.Random(seed).shuffle(order)
    return {e.id: other.image for e, other in zip(order, order[1:] + order[:1], strict=True)}
