from pathlib import Path

import pytest
from PIL import Image

from harness.images import open_image
from harness.types import Annotation, Example, ImageError, UserError, histogram
from sevlm.config import SEVLMError


def with_histogram(**counts):
    return Example("x", Path("x.png"), (), counts)


@pytest.mark.parametrize(
    ("counts", "dominant"),
    [
        ({"awe": 3, "fear": 2}, "awe"),
        ({"awe": 2, "fear": 2}, None),
        ({"awe": 2, "fear": 1, "joy": 1}, None),
        ({}, None),
    ],
)
def test_dominance_needs_more_than_half(counts, dominant):
    assert with_histogram(**counts).dominant_emotion == dominant


def test_shares():
    example = with_histogram(awe=3, fear=1)
    assert example.distribution(("fear", "joy", "awe")) == (0.25, 0.0, 0.75)
    assert with_histogram().share("awe") == 0.0
    assert histogram([Annotation("a", ""), Annotation("b", ""), Annotation("a", "")]) == {"a": 2, "b": 1}


def test_pictures_come_upright_and_in_rgb(tmp_path):
    picture = Image.new("L", (30, 10))
    exif = picture.getexif()
    exif[0x0112] = 6
    picture.save(tmp_path / "rotated.jpg", exif=exif)
    opened = open_image(tmp_path / "rotated.jpg")
    assert (opened.size, opened.mode) == ((10, 30), "RGB")


@pytest.mark.parametrize("content", [b"", b"GIF89a", b"<html>", b"\xff\xd8\xff\xe0truncated"])
def test_what_is_no_picture(tmp_path, content):
    (tmp_path / "x.jpg").write_bytes(content)
    with pytest.raises(ImageError, match=r"x\.jpg: cannot be decoded"):
        open_image(tmp_path / "x.jpg")


def test_a_truncated_picture(tmp_path):
    path = tmp_path / "x.png"
    Image.effect_noise((64, 64), 50).save(path)
    path.write_bytes(path.read_bytes()[:-800])
    with pytest.raises(ImageError):
        open_image(path)


def test_a_picture_too_large(tmp_path, monkeypatch):
    Image.new("RGB", (20, 20)).save(tmp_path / "x.png")
    monkeypatch.setenv("HARNESS_MAX_PIXELS", "399")
    with pytest.raises(ImageError, match="20x20 pixels exceed"):
        open_image(tmp_path / "x.png")


@pytest.mark.parametrize("kind", [UserError, SEVLMError])
def test_a_message_is_one_line_whatever_it_quotes(kind):
    assert str(kind("no column 'a\r\nb\u2028c'; \x1b[31mred\x07")) == "no column 'a b c'; ?[31mred?"
