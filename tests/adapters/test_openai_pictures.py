"""Pictures on their way to an endpoint: as they are where they fit, else smaller, and never unseen."""

from __future__ import annotations

import base64
import io
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from adapter_samples import Picture, item
from asking_openai import ask, loaded
from PIL import Image
from servers import Endpoint

from harness.adapters import endpoint_images, endpoint_vision
from harness.types import Answer, Failed

COUNT = 200


def sent_image(request: dict[str, Any]) -> tuple[str, bytes]:
    data = request["messages"][0]["content"][0]["image_url"]["url"]
    head, _, body = data.partition(";base64,")
    return head.removeprefix("data:"), base64.b64decode(body)


@pytest.mark.parametrize(
    ("name", "mode", "media_type"),
    [("a.jpg", "RGB", "image/jpeg"), ("a.png", "L", "image/png"), ("a.webp", "RGB", "image/webp")],
)
def test_pictures_that_fit_are_sent_byte_for_byte(
    endpoint: Endpoint, url: str, tmp_path: Path, name: str, mode: str, media_type: str
) -> None:
    path = tmp_path / name
    Image.effect_noise((64, 48), 90).convert(mode).save(path)
    ask(loaded(url, image_size=64), item("a", path))
    assert sent_image(endpoint.requests[-1]) == (media_type, path.read_bytes())


@pytest.mark.parametrize("kind", ["large", "rotated", "cmyk", "transparent", "bmp"])
def test_other_pictures_are_sent_upright_in_plain_colours_and_no_larger_than_asked(
    endpoint: Endpoint, url: str, tmp_path: Path, kind: str
) -> None:
    left_red = Image.new("RGB", (60, 40), "white")
    left_red.paste((200, 20, 20), (0, 0, 30, 40))
    path = tmp_path / ("a.bmp" if kind == "bmp" else "a.png" if kind == "transparent" else "a.jpg")
    match kind:
        case "large":
            left_red.resize((600, 400)).save(path, quality=95)
        case "rotated":
            exif = Image.Exif()
            exif[0x0112] = 6  # to be turned by 90 degrees clockwise when shown
            left_red.transpose(Image.Transpose.ROTATE_90).save(path, exif=exif, quality=95)
        case _:
            modes = {"cmyk": "CMYK", "transparent": "RGBA", "bmp": "RGB"}
            left_red.convert(modes[kind]).save(path)
    ask(loaded(url, image_size=60), item("a", path))
    media_type, content = sent_image(endpoint.requests[-1])
    shown = Image.open(io.BytesIO(content))
    assert (media_type, shown.mode, shown.size) == ("image/jpeg", "RGB", (60, 40))
    difference = np.abs(np.asarray(shown, float) - np.asarray(left_red, float)).mean()
    assert difference < 8


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp"])
def test_a_truncated_picture_is_never_sent(endpoint: Endpoint, url: str, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    Image.effect_noise((64, 48), 90).convert("RGB").save(path)
    whole = path.read_bytes()
    for kept in (len(whole) // 3, 3 * len(whole) // 4):
        path.write_bytes(whole[:kept])
        (outcome,) = ask(loaded(url), item("a", path))
        assert isinstance(outcome, Failed)
        assert outcome.error_type == "ImageError"
    path.write_bytes(whole + b"\0" * 7)
    (outcome,) = ask(loaded(url), item("a", path))
    assert isinstance(outcome, Answer)
    assert len(endpoint.requests) == 1


def test_a_corrupt_picture_is_never_sent(endpoint: Endpoint, url: str, picture: Picture, corrupt: Path) -> None:
    first, second = ask(loaded(url), item("a", corrupt), item("b", picture()))
    assert isinstance(first, Failed)
    assert first.error_type == "ImageError"
    assert isinstance(second, Answer)
    assert len(endpoint.requests) == 1


def test_nothing_is_read_or_encoded_in_the_event_loop(
    endpoint: Endpoint, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two hundred pictures of 1,024 px, which fit, and two that do not."""
    content = jpeg(Image.effect_noise((1024, 700), 90))
    paths = [tmp_path / f"{number}.jpg" for number in range(COUNT)]
    for path in paths:
        path.write_bytes(content)
    large = [tmp_path / "large1.jpg", tmp_path / "large2.jpg"]
    for path in large:
        path.write_bytes(jpeg(Image.new("L", (1025, 20))))
    read, encoded = (
        watched(monkeypatch, endpoint_vision, "data_url"),
        watched(monkeypatch, endpoint_images, "smaller_jpeg"),
    )
    outcomes = ask(loaded(url), *(item(path.name, path) for path in [*paths, *large]))
    assert all(isinstance(outcome, Answer) for outcome in outcomes)
    assert len(read) == COUNT + 2
    assert len(encoded) == 2
    assert threading.main_thread() not in {*read, *encoded}
    sent = Counter(sent_image(request) for request in endpoint.requests)
    assert sent[("image/jpeg", content)] == COUNT


def jpeg(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG")
    return buffer.getvalue()


def watched(monkeypatch: pytest.MonkeyPatch, module: Any, name: str) -> list[threading.Thread]:
    """The threads in which a function runs from now on."""
    threads: list[threading.Thread] = []
    real = getattr(module, name)

    def noted(*arguments: Any) -> Any:
        threads.append(threading.current_thread())
        return real(*arguments)

    monkeypatch.setattr(module, name, noted)
    return threads
