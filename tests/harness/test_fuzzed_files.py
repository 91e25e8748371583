"""Readers under hypothesis: whatever a file holds, they read it or raise their own error, which names the file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.adapters.endpoint_prices import find_price
from harness.adapters.hf_training import load_recipe as load_lora_recipe
from harness.cli import build_parser
from harness.cli.run import read_config
from harness.store.outcomes import read_outcomes
from harness.tasks.loading import load_task
from harness.tasks.readers.jsonl import JsonlReader
from harness.tasks.readers.tables import read_rows
from harness.types import Task, UserError
from sevlm.config import SEVLMError
from sevlm.recipe import load_recipe
from sevlm.vad import VADLexicon

Reader = Callable[[Path], object]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)


def objects(*keys: str) -> st.SearchStrategy[bytes]:
    """JSON lines whose keys are known and whose values are anything."""
    line = st.dictionaries(st.sampled_from(keys), JSON, max_size=len(keys))
    return st.lists(line, max_size=3).map(lambda lines: "\n".join(map(json.dumps, lines)).encode())


def mixed(*pieces: str) -> st.SearchStrategy[bytes]:
    """Text of known pieces and anything between them."""
    piece = (
        st.sampled_from(pieces).map(str.encode)
        | st.binary(max_size=6)
        | st.text(max_size=6).map(lambda t: t.encode("utf-8", "replace"))
    )
    return st.lists(piece, max_size=14).map(b"".join)


MARKS = (
    ": ",
    "\n",
    "\n  ",
    "- ",
    "[",
    "]",
    "{",
    "}",
    ", ",
    "&a ",
    "*a",
    "!!python/object:os.system ",
    "'",
    '"',
    "1",
    ".inf",
    "2e-4",
    "true",
)
RUN = build_parser()._subparsers._group_actions[0].choices["run"]  # type: ignore[union-attr]
CASES: dict[str, tuple[Reader, st.SearchStrategy[bytes]]] = {
    "card": (load_task, mixed("name", "dataset", "emotions", "prompts", "options", "ratings", "published", *MARKS)),
    "config": (
        lambda path: read_config(path, RUN),
        mixed("tasks", "models", "batch-size", "seed", "no-cache", "adapter", *MARKS),
    ),
    "recipe": (load_recipe, mixed("mode", "model", "training", "epochs", "n_embd", "learning_rate", *MARKS)),
    "lora recipe": (
        lambda path: load_lora_recipe({"config": str(path)}),
        mixed("rank", "alpha", "epochs", "schedule", *MARKS),
    ),
    "prices": (
        lambda path: find_price("m", "http://h/v1", table=str(path)),
        mixed("hosts", "models", "m", "in", "out", *MARKS),
    ),
    "outcomes": (
        lambda path: list(read_outcomes(path)),
        objects(
            "id", "kind", "emotion", "explanation", "emotion_probs", "raw", "usage", "error", "held_out", "ratings"
        ),
    ),
    "outcomes as bytes": (
        lambda path: list(read_outcomes(path)),
        mixed('{"id": "a"', '"kind": "failed"', "}", ",", "\n", "NaN", "[["),
    ),
    "examples": (
        lambda path: list(
            JsonlReader(Task("t", "jsonl", ("a", "b"), options={"examples": str(path)}), path.parent).examples()
        ),
        objects("id", "image", "split", "annotations", "meta"),
    ),
    "table": (
        lambda path: list(read_rows(path, ("a", "b"))),
        mixed("a,b\n", "a", "b", ",", '"', "\n", "\r", "\r\n", "\0"),
    ),
    "lexicon": (
        VADLexicon.load,
        mixed("joy", "\t", "0.5", "\n", "Word", "V.Mean.Sum", ",", "VAL", "AROU", "DOM", "term", "nan", '"'),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_read_or_told(name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    read, contents = CASES[name]
    folder = tmp_path_factory.mktemp("fuzzed")
    number = iter(range(10**6))

    @settings(max_examples=2 * settings().max_examples)
    @given(contents)
    def check(content: bytes) -> None:
        path = folder / f"{next(number)}.yaml"
        path.write_bytes(content)
        told = ""
        try:
            read(path)
        except (UserError, SEVLMError) as error:
            told = str(error)
        assert told == "" or told.isprintable()
        assert len(told) < 2000

    check()
