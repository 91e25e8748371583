"""Two generated pictures that show whether a model, and the server before it, look at pictures at all.

Some servers drop pictures without a word, and their models then answer fluently about paintings that nobody showed.
"""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

from harness.adapters.openai_parameters import answer_schema

COLOURS = {"red": (220, 20, 20), "green": (20, 160, 40), "blue": (20, 40, 220), "yellow": (250, 220, 20)}
SHOWN = ("blue", "yellow")
SIDE = 224
PROMPT = f"Which colour fills this picture: {', '.join(COLOURS)}? Answer with that one word."
SCHEMA = answer_schema(tuple(COLOURS), "colour", None)


def plain_picture(colour: str) -> str:
    """A data URL of a picture in one colour."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.new("RGB", (SIDE, SIDE), COLOURS[colour]).save(buffer, "PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


@dataclass(frozen=True)
class Verdict:
    """What the endpoint said about the pictures of `SHOWN`, in order."""

    answers: tuple[str, ...]

    @property
    def sees(self) -> bool:
        """Whether each answer names the colour shown and no other, which answers that are all alike cannot do."""
        return all(named_colours(a) == {colour} for a, colour in zip(self.answers, SHOWN, strict=True))

    def problem(self) -> str:
        """One sentence about what went wrong."""
        said = " and ".join(repr(" ".join(answer.split())[:60]) for answer in self.answers)
        return f"shown a {' and a '.join(SHOWN)} picture and asked for their colours, it answered {said}"


def named_colours(answer: str) -> set[str]:
    """The colours that a text names, as whole words."""
    return {colour for colour in COLOURS if re.search(rf"\b{colour}\b", answer, re.IGNORECASE)}


def keeps_schema(answers: Sequence[str]) -> bool:
    """Whether all answers are JSON in the form of `SCHEMA`, so that the endpoint did not merely ignore it."""
    try:
        return all(set(json.loads(answer)) == {"colour"} for answer in answers)
    except (ValueError, TypeError):
        return False
