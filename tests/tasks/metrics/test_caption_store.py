"""What Java said is kept by content, and an interrupted or damaged file costs time only."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Collection, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from harness.tasks.metrics import caption_engine, java
from harness.tasks.metrics.base import FloatArray, Unavailable
from harness.tasks.metrics.caption_engine import CaptionEngine
from harness.tasks.metrics.caption_store import CaptionStore
from harness.tasks.metrics.meteor import MeteorProcess

TEXTS = ["The calm sea.", "a dark\r\nwood", "\ud800 odd", ""]


class Unasked(MeteorProcess):
    """A METEOR that must not be needed."""

    def start(self, texts: Collection[str] = ()) -> None:
        raise AssertionError("METEOR was started")

    def statistics(self, pairs: Sequence[tuple[str, str]]) -> FloatArray:
        raise AssertionError(f"METEOR was asked about {pairs}")


def test_a_second_engine_asks_nothing(
    tmp_path: Path, meteor_process: MeteorProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    def scores(process: MeteorProcess, store: CaptionStore | None) -> tuple[list[str], FloatArray]:
        with CaptionEngine("coco-ptb", [TEXTS], process, store) as engine:
            engine.tokenise_ahead(TEXTS, meteor_follows=True)
            return [engine.tokens(text) for text in TEXTS], engine.meteor(TEXTS, [TEXTS[:2]] * 4)

    path = tmp_path / "cache" / "captions.sqlite"
    with CaptionStore(path) as store:
        first = scores(meteor_process, store)
    plain = scores(meteor_process, None)
    monkeypatch.setattr(caption_engine, "ptb_tokenise", lambda texts: 1 / 0)
    with CaptionStore(path) as store:
        again = scores(Unasked(), store)
    assert first[0] == plain[0] == again[0]
    assert first[1].tobytes() == plain[1].tobytes() == again[1].tobytes()


def test_meteor_has_all_texts_tokenised_at_once(meteor_process: MeteorProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Java process per text made METEOR of two hundred short texts take a minute."""
    asked: list[int] = []

    def counted(texts: Sequence[str]) -> list[str]:
        asked.append(len(texts))
        return java.ptb_tokenise(texts)

    monkeypatch.setattr(caption_engine, "ptb_tokenise", counted)
    with CaptionEngine("coco-ptb", [], meteor_process) as engine:
        engine.meteor(["a calm sea", "a dark wood"], [["the sea"], ["the wood", "a dark wood"]])
    assert asked == [4]


def test_entries_belong_to_a_jar_and_an_order() -> None:
    row = np.arange(23.0)[None]
    with CaptionStore(Path(":memory:")) as store:
        store.add_matches("jar", [("a", "b")], row)
        store.add_tokens("jar", {"a": "x"})
        found = store.matches("jar", [("a", "b"), ("b", "a"), ("ab", "")])
        assert {pair: values.tolist() for pair, values in found.items()} == {("a", "b"): row[0].tolist()}
        assert store.matches("another", [("a", "b")]) == store.tokens("another", ["a"]) == {}
        assert store.tokens("jar", ["a", "b"] * 2000) == {"a": "x"}


def test_a_file_that_is_no_database_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "captions.sqlite"
    path.write_bytes(b"not a database at all" * 100)
    with CaptionStore(path) as store:
        store.add_tokens("jar", {"a": "x"})
    with CaptionStore(path) as store:
        assert store.tokens("jar", ["a"]) == {"a": "x"}


def test_an_interrupt_loses_nothing_that_was_learnt(tmp_path: Path) -> None:
    path = tmp_path / "captions.sqlite"

    def score() -> None:
        with CaptionStore(path) as store:
            store.add_matches("jar", [("a", "b")], np.ones((1, 23)))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        score()
    with CaptionStore(path) as store:
        assert list(store.matches("jar", [("a", "b")])) == [("a", "b")]


def test_a_file_that_is_damaged_in_its_middle_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "captions.sqlite"
    texts = {f"text {number}": "x" * 100 for number in range(1000)}
    pairs = [(text, text) for text in texts]

    def fill_and_damage() -> None:
        with CaptionStore(path) as store:
            store.add_tokens("jar", texts)
            store.add_matches("jar", pairs, np.ones((len(pairs), 23)))
        content = path.read_bytes()
        path.write_bytes(content[:12_288] + b"\xa5" * (len(content) - 12_288))  # all but the tables' first pages

    fill_and_damage()
    with CaptionStore(path) as store:
        assert store.tokens("jar", texts) == store.matches("jar", pairs) == {}
        store.add_tokens("jar", {"a": "x"})
    fill_and_damage()
    with CaptionStore(path) as store:  # found only when what is new is written
        store.add_matches("jar", pairs, np.ones((len(pairs), 23)))
    with CaptionStore(path) as store:
        assert len(store.matches("jar", pairs)) == len(pairs)
        assert store.tokens("jar", texts) == {}


def test_a_text_that_is_damaged_is_asked_again(tmp_path: Path) -> None:
    path = tmp_path / "captions.sqlite"
    with CaptionStore(path) as store:
        store.add_tokens("jar", {"a": "x"})
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("UPDATE tokens SET value = CAST(x'ff' AS TEXT)")
    with CaptionStore(path) as store:
        assert store.tokens("jar", ["a"]) == {}
        store.add_tokens("jar", {"a": "x"})
        assert store.tokens("jar", ["a"]) == {"a": "x"}


@pytest.mark.slow
def test_a_killed_process_leaves_what_it_had_finished(tmp_path: Path) -> None:
    path = tmp_path / "captions.sqlite"
    code = (
        "import os, sys; from pathlib import Path; from harness.tasks.metrics.caption_store import CaptionStore\n"
        "s = CaptionStore(Path(sys.argv[1])); s.add_tokens('j', {'a': 'x'})\n"
        "s._database.execute('INSERT INTO tokens VALUES (?, ?)', (b'half', 'done'))\n"
        "os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(path)], check=False).returncode == -9
    with CaptionStore(path) as store:
        assert store.tokens("j", ["a"]) == {"a": "x"}
    with sqlite3.connect(path) as database:
        assert database.execute("SELECT COUNT(*) FROM tokens").fetchone() == (1,)


def test_without_java_what_is_kept_is_still_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hashes = java.jar_hashes()
    assert {len(value) for value in hashes.values()} == {64}
    monkeypatch.setattr(java, "find_java", lambda: None)
    with CaptionStore(tmp_path / "captions.sqlite") as store:
        store.add_tokens(hashes["ptb"], {"The sea.": "the sea"})
        engine = CaptionEngine("coco-ptb", [], MeteorProcess(), store)
        assert engine.tokens("The sea.") == "the sea"
        with pytest.raises(Unavailable, match="no Java"):
            engine.tokens("another")
