"""Images as endpoints get them, and two generated ones that show whether anybody looks at them."""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from harness.images import ORIENTATION_TAG, open_image, opened
from harness.redact import redact_known

if TYPE_CHECKING:
    from PIL.Image import Image


Written = TypeVar("Written", Path, io.BytesIO)
JPEG_QUALITY = 95
MEDIA_TYPES = {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp"}
"""File formats that vision endpoints take."""


def data_url(path: Path, longest_side: int) -> str:
    """Read, check and encode an image.

    Args:
        path: the image file.
        longest_side: in pixels; larger images are scaled down to it.

    Raises:
        ImageError: the image cannot be decoded; it is never sent unseen.
    """
    found = sendable_as_it_is(path, longest_side)
    content, media_type = found or (smaller_jpeg(open_image(path), longest_side), "image/jpeg")
    return f"data:{media_type};base64,{base64.b64encode(content).decode('ascii')}"


def sendable_as_it_is(path: Path, longest_side: int) -> tuple[bytes, str] | None:
    """Content and media type of a file that any endpoint shows as we would, else None.

    Such a file is of a known format, in plain colours, upright, and has one frame.
    A JPEG file is whole when its header is sound and its last marker is there: what else may be wrong, decoders do not
    report either. Others are decoded to find out.

    Raises:
        ImageError: the image cannot be decoded.
    """
    with opened(path) as file:
        media_type = MEDIA_TYPES.get(str(file.format))
        if media_type is None or file.mode not in ("RGB", "L") or max(file.size) > longest_side:
            return None
        if getattr(file, "n_frames", 1) != 1 or file.getexif().get(ORIENTATION_TAG, 1) != 1:
            return None
        content = path.read_bytes()
        if not ends_as_jpeg(content):
            file.draft(None, (1, 1))
            file.load()
        return content, media_type


def ends_as_jpeg(content: bytes) -> bool:
    """Whether a file is a JPEG up to its end-of-image marker (padding may follow)."""
    return content.startswith(b"\xff\xd8") and content.rstrip(b"\0").endswith(b"\xff\xd9")


def smaller_jpeg(image: Image, longest_side: int) -> bytes:
    """JPEG bytes of an image scaled down (never up) to the given longest side."""
    from PIL.Image import Resampling

    image.thumbnail((longest_side, longest_side), Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=JPEG_QUALITY, subsampling=0)
    return buffer.getvalue()


# ------------------------------------------------------------------------------------------------------- what is sent


@dataclass(frozen=True)
class Turn:
    """A turn of the conversation with a model: what is said, and the image that goes with it, as a data URL."""

    text: str
    image: str | None = None
    role: str = "user"


def answer_schema(labels: Sequence[str], choice: str = "emotion", text: str | None = "explanation") -> dict[str, Any]:
    """JSON schema of an object with one of `labels` and, unless `text` is None, a free text."""
    properties: dict[str, Any] = {choice: {"type": "string", "enum": list(labels)}}
    if text is not None:
        properties[text] = {"type": "string"}
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


# ---------------------------------------------------------------------------------------------------------- the probe

COLOURS = {"red": (220, 20, 20), "green": (20, 160, 40), "blue": (20, 40, 220), "yellow": (250, 220, 20)}
SHOWN = ("blue", "yellow")
SIDE = 224
PROMPT = f"Which colour fills this picture: {', '.join(COLOURS)}? Answer with that one word."
SCHEMA = answer_schema(tuple(COLOURS), "colour", None)


def plain_image(colour: str) -> str:
    """A data URL of an image in one colour."""
    buffer = io.BytesIO()
    write_plain_image(colour, buffer)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def write_plain_image(colour: str, to: Written) -> Written:
    """Write a PNG file in one colour."""
    from PIL import Image

    Image.new("RGB", (SIDE, SIDE), COLOURS[colour]).save(to, "PNG")
    return to


@dataclass(frozen=True)
class Verdict:
    """What the endpoint said about the images of `SHOWN`, in order."""

    answers: tuple[str, ...]

    @property
    def sees(self) -> bool:
        """Whether each answer names the colour shown and no other, which answers that are all alike cannot do."""
        return all(named_colours(a) == {colour} for a, colour in zip(self.answers, SHOWN, strict=True))

    def problem(self) -> str:
        """What was answered instead, in one sentence."""
        # keys go first, lest a part of one is left
        said = " and ".join(repr(" ".join(redact_known(answer).split())[:60]) for answer in self.answers)
        return f"shown a {' and a '.join(SHOWN)} image and asked for their colours, it answered {said}"


def named_colours(answer: str) -> set[str]:
    """The colours that a text names, as whole words."""
    return {colour for colour in COLOURS if re.search(rf"\b{colour}\b", answer, re.IGNORECASE)}


def keeps_schema(answers: Sequence[str]) -> bool:
    """Whether all answers are JSON in the form of `SCHEMA`, so that the endpoint did not merely ignore it."""
    try:
        return all(set(json.loads(answer)) == {"colour"} for answer in answers)
    except (ValueError, TypeError):
        return False
