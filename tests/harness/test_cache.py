from __future__ import annotations

import dataclasses
import re
import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from harness.adapters import EndpointAdapter
from harness.infer.cache import ResponseCache, model_identity
from harness.types import Answer, Failed, Item, Outcome, Refusal, Unparsed, Usage, UserError

LABELS = ("joy", "fear")
ANSWER = Answer("joy", "the light", {"joy": 0.75, "fear": 0.25}, "joy because the light", Usage(1.5, 70, 9, 0.01, 2))


@pytest.fixture
def item(tmp_path: Path) -> Item:
    path = tmp_path / "a.png"
    Image.new("RGB", (8, 8), "red").save(path)
    return Item("a", path, LABELS, "why?")


class Model(EndpointAdapter):
    name = "model"

    def __init__(self, weights: str = "A") -> None:
        self.weights = weights

    def fingerprint(self) -> dict[str, Any]:
        return {"weights": self.weights}

    async def answer(self, item: Item) -> Outcome:
        return ANSWER


def opened(folder: Path, model: Model) -> ResponseCache:
    return ResponseCache(folder, model, model.fingerprint)


def kept(folder: Path, item: Item, outcome: Outcome, model: Model | None = None) -> None:
    cache = opened(folder, model or Model())
    cache.find(item)
    cache.store(item, outcome)
    cache.close()


def recalled(folder: Path, item: Item, model: Model | None = None) -> Outcome | None:
    cache = opened(folder, model or Model())
    try:
        return cache.find(item)
    finally:
        cache.close()


def test_an_answer_comes_back_as_it_was_at_no_cost(tmp_path: Path, item: Item) -> None:
    kept(tmp_path, item, ANSWER)
    expected = dataclasses.replace(ANSWER, usage=Usage(1.5, 70, 9, 0.0, 0, cached=True))
    assert recalled(tmp_path, item) == expected
    assert recalled(tmp_path, dataclasses.replace(item, id="another id, same picture")) == expected


def test_two_models_never_collide(tmp_path: Path, item: Item) -> None:
    kept(tmp_path, item, ANSWER, Model("A"))
    kept(tmp_path, item, dataclasses.replace(ANSWER, emotion="fear"), Model("B"))
    first, second = recalled(tmp_path, item, Model("A")), recalled(tmp_path, item, Model("B"))
    assert isinstance(first, Answer)
    assert isinstance(second, Answer)
    assert (first.emotion, second.emotion) == ("joy", "fear")
    assert recalled(tmp_path, item, Model("C")) is None


def test_an_adapter_of_the_same_name_from_another_file_is_another_model(tmp_path: Path, item: Item) -> None:
    source = "from test_cache import Model\n\nclass Copy(Model):\n    '''{}'''\n"
    identities = []
    for number in range(2):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "copied.py").write_text(source.format(number))
        from harness.plan.registry import load_class_from_file

        adapter = load_class_from_file(f"{folder / 'copied.py'}:Copy")()
        identities.append(model_identity(adapter, adapter.fingerprint()))
    assert identities[0] != identities[1]


@pytest.mark.parametrize("change", ["prompt", "labels", "picture", "ratings", "explanations"])
def test_whatever_the_model_sees_belongs_to_the_key(tmp_path: Path, item: Item, change: str) -> None:
    kept(tmp_path, item, ANSWER)
    changes: dict[str, Any] = {
        "prompt": {"prompt": "why not?"},
        "labels": {"labels": ("fear", "joy")},
        "ratings": {"ratings": {"valence": (1.0, 9.0)}},
        "explanations": {"explanations": False},
    }
    if change == "picture":
        Image.new("RGB", (8, 8), "blue").save(item.image)
    else:
        item = dataclasses.replace(item, **changes[change])
    assert recalled(tmp_path, item) is None


@pytest.mark.parametrize(
    ("outcome", "found"),
    [
        (Failed("http-500", "broken"), False),
        (Refusal("I cannot help with that"), False),
        (Unparsed(""), False),
        (Unparsed("A man on a hill."), True),
    ],
)
def test_failures_and_refusals_are_never_kept(tmp_path: Path, item: Item, outcome: Outcome, found: bool) -> None:
    kept(tmp_path, item, outcome)
    assert (recalled(tmp_path, item) is not None) is found


def test_a_missing_picture_is_neither_kept_nor_found(tmp_path: Path, item: Item) -> None:
    kept(tmp_path, item, ANSWER)
    gone = dataclasses.replace(item, image=tmp_path / "gone.png")
    kept(tmp_path, gone, ANSWER)
    assert recalled(tmp_path, gone) is None


def test_two_processes_may_write_at_once(tmp_path: Path, item: Item) -> None:
    caches = [opened(tmp_path, Model(str(number))) for number in range(3)]
    assert [cache.find(item) for cache in caches] == [None] * 3
    for _ in range(5):
        for cache in caches:
            cache.store(item, ANSWER)
    for cache in caches:
        cache.close()
    assert all(recalled(tmp_path, item, Model(str(number))) for number in range(3))


def test_a_damaged_file_says_what_to_do(tmp_path: Path, item: Item) -> None:
    path = tmp_path / "cache" / "responses.sqlite"
    path.parent.mkdir()
    path.write_bytes(b"not a database, and long enough to be read as one" * 40)
    cache = opened(tmp_path, Model())
    with pytest.raises(UserError, match="--no-cache"):
        cache.find(item)
    cache.close()


def test_a_cache_that_cannot_be_written_warns_and_loses_nothing(
    tmp_path: Path, item: Item, capsys: pytest.CaptureFixture[str]
) -> None:
    cache = opened(tmp_path, Model())
    cache.find(item)
    with sqlite3.connect(cache.path) as other:
        other.execute("DROP TABLE responses")
    cache.store(item, ANSWER)
    cache.close()
    assert "no such table" in capsys.readouterr().err


def test_a_model_may_decline(tmp_path: Path, item: Item) -> None:
    cache = ResponseCache(tmp_path, Model(), lambda: None)
    assert cache.find(item) is None
    cache.store(item, ANSWER)
    cache.close()
    assert not (tmp_path / "cache").exists()


def test_the_terminal_says_what_is_used_and_of_which_day(
    tmp_path: Path, item: Item, capsys: pytest.CaptureFixture[str]
) -> None:
    kept(tmp_path, item, ANSWER)
    assert capsys.readouterr().err == ""
    recalled(tmp_path, item)
    today = datetime.now(UTC).date()
    told = capsys.readouterr().err
    assert re.search(r"1 answers of this model are in the response cache \((\S+)( to \S+)?\).*--no-cache", told)
    assert str(today) in told or str(today - timedelta(days=1)) in told


def test_a_file_of_an_earlier_version_is_still_read(
    tmp_path: Path, item: Item, capsys: pytest.CaptureFixture[str]
) -> None:
    kept(tmp_path, item, ANSWER)
    with sqlite3.connect(tmp_path / "cache" / "responses.sqlite") as other:
        other.execute("ALTER TABLE responses DROP COLUMN asked")
    other.close()
    assert recalled(tmp_path, item) is not None
    assert "of an unknown day" in capsys.readouterr().err


TEXTS = st.text(min_size=1, max_size=30).filter(str.strip)


@settings(max_examples=settings().max_examples // 4, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(explanation=TEXTS, raw=st.text(max_size=30), share=st.floats(0, 1))
def test_any_text_survives(tmp_path: Path, item: Item, explanation: str, raw: str, share: float) -> None:
    answer = Answer("joy", explanation, {"joy": share, "fear": 1 - share}, raw)
    kept(tmp_path, item, answer)
    found = recalled(tmp_path, item)
    assert isinstance(found, Answer)
    assert (found.explanation, found.raw, found.emotion_probs) == (explanation, raw, answer.emotion_probs)
