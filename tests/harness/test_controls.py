from pathlib import Path

import pytest
from PIL import Image

from harness.images import open_image
from harness.infer.run import GREY, images_under
from harness.plan.plan import parse_controls
from harness.types import Example, UserError


def examples(n):
    return [Example(str(i), Path(f"{i}.png"), (), {}) for i in range(n)]


def shown(control, some, seed, folder):
    """The picture's name for each example."""
    picture = images_under(control, some, seed, folder)
    return [picture(example).name for example in some]


def test_nobody_sees_the_own_picture_when_shuffled(tmp_path):
    for seed in range(5):
        seen = shown("shuffled", examples(9), seed, tmp_path)
        assert all(name != f"{i}.png" for i, name in enumerate(seen))
        assert len(set(seen)) == 9
    backwards = shown("shuffled", examples(9)[::-1], 1, tmp_path)
    assert shown("shuffled", examples(9), 1, tmp_path) == backwards[::-1]


def test_blank_is_one_grey_picture(tmp_path):
    (path,) = set(map(images_under("blank", examples(3), 0, tmp_path), examples(3)))
    assert Image.open(path).getcolors() == [(336 * 336, (127, 127, 127))]


def test_without_control_everybody_sees_the_own_picture(tmp_path):
    assert shown(None, examples(2), 0, tmp_path) == ["0.png", "1.png"]


def test_names():
    assert parse_controls("shuffled, blank") == ["blank", "shuffled"]
    assert parse_controls(None) == []
    with pytest.raises(UserError, match="unknown control 'black'"):
        parse_controls("black")


def test_a_grey_picture_is_whole_or_not_there(tmp_path, monkeypatch):
    def killed(_self, file, **_):
        Path(file).write_bytes(b"\x89PNG")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("PIL.Image.Image.save", killed)
        with pytest.raises(KeyboardInterrupt):
            images_under("blank", [], 0, tmp_path)
    assert list(tmp_path.iterdir()) == []
    example = Example("a", tmp_path / "a.png", (), {})
    assert open_image(images_under("blank", [], 0, tmp_path)(example)).getpixel((0, 0)) == GREY
