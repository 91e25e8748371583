from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
from pydantic import Field, field_validator

from harness.types import UserError
from harness.yaml_file import Number, Plain, Settings, Text, Texts, check_settings, read_yaml


class Layer(Settings):
    rank: int = Field(default=16, ge=1)
    dropout: float = Field(default=0.0, ge=0, lt=1)


class Recipe(Settings):
    name: Text
    tags: Texts = ()
    schedule: Literal["cosine", "linear"] = "cosine"
    learning_rate: float = Field(default=2e-4, gt=0)
    resume: bool = False
    limit: int | None = None
    scale: Number = 1
    layers: dict[str, Layer] = Field(default={})
    extra: dict[str, Plain] = Field(default={})

    @field_validator("tags")
    @classmethod
    def _short(cls, tags: tuple[str, ...]) -> tuple[str, ...]:
        if any(len(tag) > 10 for tag in tags):
            raise ValueError("a tag has at most 10 letters")
        return tags


def read(tmp_path: Path, text: str) -> Recipe:
    path = tmp_path / "r.yaml"
    path.write_text(text, encoding="utf-8")
    return read_yaml(path, Recipe)


def test_values_are_read_as_what_they_are(tmp_path: Path) -> None:
    recipe = read(
        tmp_path,
        "name: 1.10\ntags: [2024-01-02, 7, a b ]\nlearning_rate: 5e-5\nlimit: null\nscale: 3\n"
        "layers: {first: {rank: 8, dropout: 0}}\nextra: {a: [1, 2.5, yes, null, {b: text}], c: 1e-3}\n",
    )
    assert (recipe.name, recipe.tags) == ("1.10", ("2024-01-02", "7", "a b"))
    assert (recipe.learning_rate, recipe.limit) == (5e-5, None)
    assert (recipe.scale, type(recipe.scale)) == (3, int)
    assert recipe.layers == {"first": Layer(rank=8, dropout=0.0)}
    assert recipe.extra == {"a": [1, 2.5, True, None, {"b": "text"}], "c": 1e-3}
    assert [type(value) for value in recipe.extra["a"]] == [int, float, bool, type(None), dict]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("nam: a\n", "line 1, column 1: unknown key 'nam'; did you mean name?"),
        ("tags: [a]\n", "line 1, column 1: required key 'name' is missing"),
        ("name: [a]\n", "line 1, column 7: name: expected text, got a list"),
        ("name: off\n", "line 1, column 7: name: expected text, got true/false; write 'off' in quotes"),
        ("name: a\ntags: [x, yes]\n", "line 2, column 11: tags.1: expected text, got true/false"),
        ("name: a\ntags: [abcdefghijk]\n", "line 2, column 7: tags: a tag has at most 10 letters"),
        ("name: a\nschedule: cosin\n", "line 2, column 11: schedule: unknown value 'cosin'; did you mean cosine?"),
        ("name: a\nschedule: [linear]\n", "line 2, column 11: schedule: expected 'cosine' or 'linear', got a list"),
        ("name: a\nlearning_rate: '0.1'\n", "line 2, column 16: learning_rate: expected a number, got '0.1'"),
        ("name: a\nlearning_rate: .inf\n", "learning_rate: expected a finite number, got inf"),
        ("name: a\nlearning_rate: -1\n", "learning_rate: expected more than 0, got -1"),
        ("name: a\nresume: 1\n", "resume: expected true or false, got 1"),
        ("name: a\nlimit: 1.5\n", "limit: expected a whole number, got 1.5"),
        ("name: a\nlimit: true\n", "limit: expected a whole number, got True"),
        ("name: a\nscale: true\n", "scale: expected a number, got True"),
        ("name: a\nlayers: [x]\n", "line 2, column 9: layers: expected a mapping (key: value), got a list"),
        ("name: a\nlayers:\n  f: 3\n", "line 3, column 6: layers.f: expected a mapping (key: value), got a number"),
        ("name: a\nlayers:\n  f:\n    rank: 0\n", "line 4, column 11: layers.f.rank: expected at least 1, got 0"),
        ("name: a\nlayers:\n  f:\n    rnk: 1\n", "line 4, column 5: unknown key 'rnk'; did you mean rank?"),
        ("name: a\nlayers:\n  f: {dropout: 1}\n", "layers.f.dropout: expected less than 1, got 1"),
        ("limit: x\nname: a\nresume: x\n", "line 1, column 8: limit: expected a whole number, got 'x'"),
    ],
)
def test_each_mistake_has_its_line_and_key(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(UserError) as caught:
        read(tmp_path, text)
    assert f"{tmp_path / 'r.yaml'}, line " in str(caught.value)
    assert says in str(caught.value)


def test_settings_of_the_command_line_are_checked_by_the_same_model() -> None:
    assert check_settings({"name": "a", "learning_rate": "2e-4"}, Recipe, "train").learning_rate == 2e-4
    for values, says in (
        ({"name": "a", "limit": 0.5}, "train: limit: expected a whole number, got 0.5"),
        ({"name": "a", "lmit": 1}, "train: unknown key 'lmit'; did you mean limit?"),
        ({}, "train: required key 'name' is missing"),
        ({"name": "a", "schedule": "sine"}, "train: schedule: unknown value 'sine'; did you mean cosine"),
    ):
        with pytest.raises(UserError) as caught:
            check_settings(values, Recipe, "train")
        assert says in str(caught.value)
