"""Replies of a loopback endpoint that looks at the pictures it gets, for `servers.Endpoint.reply`."""

from __future__ import annotations

import base64
import io
import json
from typing import Any

from PIL import Image
from servers import Reply, answered

from harness.adapters.endpoint_images import COLOURS


def shown(request: dict[str, Any]) -> Image.Image:
    """The last picture of a request."""
    content = request["messages"][-1]["content"]
    url = next(part["image_url"]["url"] for part in content if part["type"] == "image_url")
    return Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))).convert("RGB")


def asked_for_colour(request: dict[str, Any]) -> bool:
    """Whether a request is the probe's."""
    return any("Which colour" in str(part.get("text")) for part in request["messages"][-1]["content"])


def colour_of(picture: Image.Image) -> str:
    """The nearest of the probe's colours."""
    r, g, b = picture.resize((1, 1)).getpixel((0, 0))  # type: ignore[misc]
    return min(COLOURS, key=lambda name: sum((x - y) ** 2 for x, y in zip(COLOURS[name], (r, g, b), strict=True)))


def seeing(request: dict[str, Any], answer: str = "awe because the sky is vast") -> Reply:
    """The colour of the probe's picture, as JSON where a schema asks for it; else `answer`."""
    if not asked_for_colour(request):
        return answered(answer)
    colour = colour_of(shown(request))
    return answered(json.dumps({"colour": colour}) if "response_format" in request else f"It is {colour}.")
