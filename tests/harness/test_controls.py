from pathlib import Path

import pytest
from PIL import Image

from harness.controls import parse_controls, pictures_under
from harness.types import Example, UserError


def examples(n):
    return [Example(str(i), Path(f"{i}.png"), (), {}) for i in range(n)]


def test_nobody_sees_the_own_picture_when_shuffled(tmp_path):
    for seed in range(5):
        shown = pictures_under("shuffled", examples(9), seed, tmp_path)
        assert all(path.name != f"{i}.png" for i, path in shown.items())
        assert len(set(shown.values())) == 9
    assert pictures_under("shuffled", examples(9), 1, tmp_path) == pictures_under(
        "shuffled", examples(9)[::-1], 1, tmp_path
    )


def test_blank_is_one_grey_picture(tmp_path):
    (path,) = set(pictures_under("blank", examples(3), 0, tmp_path).values())
    assert Image.open(path).getcolors() == [(336 * 336, (127, 127, 127))]


def test_without_control_everybody_sees_the_own_picture(tmp_path):
    assert {i: p.name for i, p in pictures_under(None, examples(2), 0, tmp_path).items()} == {
        "0": "0.png",
        "1": "1.png",
    }


def test_names():
    assert parse_controls("shuffled, blank") == ["blank", "shuffled"]
    assert parse_controls(None) == []
    with pytest.raises(UserError, match="unknown control 'black'"):
        parse_controls("black")
