from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from harness.tasks import READERS
from harness.tasks.loading import RELIABILITIES, builtin_cards, load_task
from harness.tasks.prompts import DEFAULT_PROMPT, render
from harness.types import Task, UserError

MINIMAL = "name: mine\ndataset: jsonl\nemotions: [joy, sorrow]\n"


@pytest.fixture
def load(tmp_path: Path) -> Callable[[str], Task]:
    def write_and_load(text: str) -> Task:
        path = tmp_path / "card.yaml"
        path.write_text(text, encoding="utf-8")
        return load_task(path)

    return write_and_load


def test_minimal_card(load: Callable[[str], Task], tmp_path: Path) -> None:
    task = load(MINIMAL)
    assert (task.name, task.dataset, task.emotions) == ("mine", "jsonl", ("joy", "sorrow"))
    assert task.protocol == "coco-ptb"
    assert task.metrics is None
    assert task.prompts == {"default": DEFAULT_PROMPT}
    assert task.source == tmp_path / "card.yaml"
    assert not task.illustrative


def test_every_key(load: Callable[[str], Task]) -> None:
    task = load(
        MINIMAL
        + """\
title: Mine
version: 2.0
paper: https://example.org
protocol: artemis-plain
polarity: {joy: positive, sorrow: negative}
metrics: [accuracy, cider_d]
prompts: {short: "{{ labels | join('/') }}?"}
slices: [style]
published:
  - {model: m, metrics: {accuracy: 0.5, cider_d: 1}, source: a paper, reliability: P, n: 10, note: small}
illustrative: yes
options: {examples: e.jsonl, depth: 3, nested: {a: [1, null]}}
description: d
licence: CC0
access: free
traps: [one, two]
"""
    )
    assert task.version == "2.0"
    assert task.polarity == {"joy": "positive", "sorrow": "negative"}
    assert task.metrics == ("accuracy", "cider_d")
    assert render(task.prompts["short"], task.emotions) == "joy/sorrow?"
    assert task.prompts["default"] == DEFAULT_PROMPT
    assert task.published[0]["metrics"] == {"accuracy": 0.5, "cider_d": 1}
    assert task.illustrative is True
    assert task.options == {"examples": "e.jsonl", "depth": 3, "nested": {"a": [1, None]}}
    assert (task.description, task.licence, task.access, task.traps) == ("d", "CC0", "free", ("one", "two"))


@pytest.mark.parametrize(
    ("text", "where", "says"),
    [
        (MINIMAL + "protocl: coco-ptb\n", "line 4, column 1", "unknown key 'protocl'; did you mean protocol"),
        (MINIMAL + "protocol: coco\n", "line 4, column 11", "protocol: unknown value 'coco'; did you mean coco-ptb"),
        (MINIMAL + "terms: gratis\n", "line 4, column 8", "terms: unknown value 'gratis'"),
        (MINIMAL + "year: 21\n", "line 4, column 7", "year: expected at least 1900, got 21"),
        (MINIMAL + "title: [a]\n", "line 4, column 8", "expected text, got a list"),
        (MINIMAL + "slices: style\n", "line 4, column 9", "expected a list, got text"),
        (MINIMAL + "illustrative: 1\n", "line 4, column 15", "expected true or false, got 1"),
        (MINIMAL + "title: no\n", "line 4, column 8", "write 'no' in quotes"),
        (MINIMAL + "title:\n", "line 4, column 7", "got nothing"),
        (MINIMAL + "name: again\n", "line 4, column 1", "given twice (first in line 1)"),
        (MINIMAL + "options: {a: 1, a: 2}\n", "line 4, column 17", "given twice"),
        (MINIMAL + "options: {a: !!python/name:os.system }\n", "line 4, column 14", "not a plain value"),
        (MINIMAL + "options: {a: 2024-13-45}\n", "line 4, column 14", "not a plain value"),
        (MINIMAL + "polarity: {joy: good, sorrow: other}\n", "line 4, column 17", "polarity.joy: unknown value 'good'"),
        (MINIMAL + "polarity: {joy: other}\n", "line 4, column 11", "missing: sorrow"),
        (MINIMAL + "polarity: {joi: other}\n", "line 4, column 12", "unknown label 'joi'; did you mean joy"),
        (MINIMAL + "prompts: {a: '{{ label }}'}\n", "line 4, column 14", "'label' is undefined"),
        (MINIMAL + "prompts: {a: '{% if %}'}\n", "line 4, column 14", "its line 1"),
        (MINIMAL + "published: [{model: m}]\n", "line 4, column 13", "required key 'metrics' is missing"),
        (
            MINIMAL + "published: [{model: m, metrics: {b: x}, source: s, reliability: P}]\n",
            "line 4, column 37",
            "expected a number, got 'x'",
        ),
        ("name: a/b\ndataset: jsonl\nemotions: [x, y]\n", "line 1, column 7", "it names files"),
        (f"name: {'a' * 101}\ndataset: jsonl\nemotions: [x, y]\n", "line 1, column 7", "at most 100"),
        ("name: a\ndataset: jsonl\nemotions: [x, y, X]\n", "line 3, column 18", "duplicate label 'X'"),
        ("name: a\ndataset: jsonl\nemotions: [x]\n", "line 3, column 11", "at least two labels"),
        ("name: a\ndataset: jsonl\nemotions: [yes, no]\n", "line 3, column 12", "got true/false"),
        ("name: a\nemotions: [x, y]\n", "line 1, column 1", "required key 'dataset' is missing"),
        ("- a\n", "line 1, column 1", "expected a mapping"),
        ("a: [\n", "line 2, column 1", "not valid YAML"),
        ("a: &x 1\nb: *x\n", "line 2, column 4", "aliases (*x)"),
        ("a: 1\n---\nb: 2\n", "line 2, column 1", "not valid YAML"),
    ],
)
def test_mistakes_are_located(load: Callable[[str], Task], text: str, where: str, says: str) -> None:
    with pytest.raises(UserError) as caught:
        load(text)
    assert f"card.yaml, {where}: " in str(caught.value)
    assert says in str(caught.value)


def test_unreadable_cards(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        load_task(tmp_path / "absent.yaml")
    with pytest.raises(UserError, match="is a folder"):
        load_task(tmp_path)
    for content, says in ((b"", "is empty"), (b"name: \xff\n", "not UTF-8"), (b"[" * 800, "not valid YAML")):
        (tmp_path / "c.yaml").write_bytes(content)
        with pytest.raises(UserError, match=says):
            load_task(tmp_path / "c.yaml")


@given(st.text() | st.text("ab:-[]{}&*!|>'\n #,"))
def test_any_text_loads_or_ends_in_one_line(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_text(text, encoding="utf-8")
    message = ""
    try:
        load_task(path)
    except UserError as error:
        message = str(error)
    assert message.startswith(str(path))
    assert len(message.splitlines()) == 1


labels = st.lists(st.text(st.characters(categories=("L", "N")), min_size=1), min_size=2, unique_by=str.casefold)


@given(labels, st.text(st.characters(categories=("L", "P", "Zs")), min_size=1).filter(str.strip))
def test_round_trip_of_dumped_cards(tmp_path_factory: pytest.TempPathFactory, emotions: list[str], title: str) -> None:
    path = tmp_path_factory.getbasetemp() / "round-trip.yaml"
    card = {"name": "t", "dataset": "jsonl", "emotions": emotions, "title": title}
    path.write_text(yaml.safe_dump(card, allow_unicode=True), encoding="utf-8")
    task = load_task(path)
    assert task.emotions == tuple(emotions)
    assert task.title == title.strip()


def test_builtin_cards_are_complete() -> None:
    cards = builtin_cards()
    assert {"artemis", "demo"} <= set(cards)
    for name, path in cards.items():
        task = load_task(path)
        assert task.name == name
        assert task.dataset in READERS
        assert set(task.polarity) == set(task.emotions)
        assert task.title
        assert task.licence
        assert task.access


def test_artemis_card_holds_what_is_known() -> None:
    task = load_task(builtin_cards()["artemis"])
    assert [task.polarity[label] for label in task.emotions] == ["positive"] * 4 + ["negative"] * 4 + ["other"]
    rows = {row["model"]: row for row in task.published}
    assert rows["SEVLM"]["metrics"] == {
        "accuracy": 0.656,
        "bleu_1": 0.542,
        "bleu_2": 0.303,
        "bleu_3": 0.164,
        "bleu_4": 0.092,
        "meteor": 0.139,
        "rouge_l": 0.304,
    }
    assert {row["reliability"] for row in task.published} == {"P", "R"} <= set(RELIABILITIES)
    for row in task.published:
        bounded = {name: value for name, value in row["metrics"].items() if name != "mean_length"}
        assert all(0 < value < 1 for value in bounded.values()), "fractions, not per cent"


class TestPrompt:
    def test_default_names_every_label(self) -> None:
        text = render(DEFAULT_PROMPT, ("joy", "something else"))
        assert "joy, something else?" in text
        assert "<emotion> because <explanation>" in text

    @pytest.mark.parametrize(
        "template",
        [
            "{{ ''.__class__.__mro__ }}", "{{ 1/0 }}", "  ", "{{ labels.append(1) }}", "{{ 'a' * 9999999999 }}",
            "{{ '%9999999999d' % 1 }}", "{{ 'a'.center(9999999999) }}", "{{ 'a' | center(9999999999) }}",
            "{% for a in range(9) %}{{ a }}{% endfor %}", "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
            "{% for a in labels %}" * 9 + "{% endfor %}" * 9, "{{ 'x'.format(1) }}", "{{ '{:9999999999}'.format(1) }}", "{{ cycler(1) }}", "{% set n = namespace() %}a",
        ],
    )  # fmt: skip
    def test_bad_templates(self, template: str) -> None:
        with pytest.raises(UserError, match="prompt template"):
            render(template, ("a", "b"))
