"""Controls: what a model says if it cannot see the image, or sees another one.

`blank` shows a mid-grey image, `shuffled` that of another example of the same run. A model whose scores do not drop
does not look at the image.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from pathlib import Path

from harness.atomic import atomic_write
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


def images_under(
    control: Control | None, examples: Iterable[Example], seed: int, folder: Path
) -> Callable[[Example], Path]:
    """The image to show for an example.

    Args:
        control: None shows each example's own image.
        examples: all examples of the run (the permutation depends on their ids and the seed alone); read for
            `shuffled` alone, which keeps the path of each one's image.
        folder: where the grey image is written.
    """
    if control == "blank":
        grey = _grey_image(folder)
        return lambda _: grey
    if control == "shuffled":
        others = _shuffled(examples, seed)
        return lambda example: others[example.id]
    return lambda example: example.image


def _grey_image(folder: Path) -> Path:
    path = folder / "blank.png"
    if not path.exists():
        from PIL import Image

        grey = Image.new("RGB", (336, 336), GREY)
        atomic_write(path, lambda temporary: grey.save(temporary, format="PNG"))
    return path


def _shuffled(examples: Iterable[Example], seed: int) -> dict[str, Path]:
    """A cyclic shift of a seeded permutation: nobody sees the own image (given two examples or more)."""
    order = sorted((e.id, e.image) for e in examples)
    random.Random(seed).shuffle(order)
    return {e: other for (e, _), (_, other) in zip(order, order[1:] + order[:1], strict=True)}
