"""METEOR started with the paraphrases of given texts says what it says with all of them."""

from __future__ import annotations

import gzip
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from harness.errors import Unavailable
from harness.tasks.metrics import paraphrases
from harness.tasks.metrics.meteor import MeteorProcess
from harness.tasks.metrics.paraphrases import Paraphrases, Vocabulary, write_paraphrases

WORDS = ["a", "an", "the", "sea", "ocean", "of", "in", "dark-blue", "café", "incomprehensibilities", "quiet", "quieter"]


def write_table(path: Path, pairs: list[tuple[str, str]]) -> None:
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.writelines(f"0.{i}\n{phrase}\n{other}\n" for i, (phrase, other) in enumerate(pairs))


def written(path: Path) -> list[tuple[str, ...]]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        lines = file.read().splitlines()
    return list(zip(lines[::3], lines[1::3], lines[2::3], strict=True))


@pytest.mark.parametrize("seed", range(5))
def test_pairs_stay_of_which_both_phrases_may_occur(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    monkeypatch.setattr(paraphrases, "_COMPRESSED_AT_ONCE", 50)  # parts end within a pair
    draw = random.Random(seed)
    phrases = [" ".join(draw.choices(WORDS, k=draw.randint(1, 5))) for _ in range(400)]
    pairs = [(phrase, draw.choice(phrases)) for phrase in sorted(phrases) for _ in range(draw.randint(1, 3))]
    texts = [" ".join(draw.choices(WORDS[:10], k=6)) for _ in range(8)]
    write_table(tmp_path / "all.gz", pairs)
    vocabulary = Vocabulary(text.upper() for text in texts)
    write_paraphrases(tmp_path / "all.gz", vocabulary, tmp_path / "few.gz")

    words = {word for text in texts for word in text.split()}
    neighbours = {pair for text in texts for pair in pairwise(text.split())}

    def occurs(phrase: str) -> bool:
        return words.issuperset(phrase.split()) and neighbours.issuperset(pairwise(phrase.split()))

    expected = [(f"0.{i}", *pair) for i, pair in enumerate(pairs) if all(map(occurs, pair))]
    assert written(tmp_path / "few.gz") == expected
    assert 0 < len(expected) < len(pairs)


@pytest.mark.slow
def test_meteor_says_the_same(meteor_process: MeteorProcess, golden: dict[str, Any]) -> None:
    items = golden["sentences"]["items"]
    texts = [text for item in items for text in (item["candidate"], *item["references"])]
    pairs = [pair for i in range(1, 6) for pair in zip(texts, texts[i:], strict=False)]
    with MeteorProcess() as process:
        process.start(texts)
        with MeteorProcess(like=process) as other:
            expected = meteor_process.statistics(pairs)
            assert process.statistics(pairs).tolist() == expected.tolist()
            assert other.statistics(pairs).tolist() == expected.tolist()
            assert expected[:, 16].any()  # paraphrases are among the matches


@pytest.mark.slow
def test_meteor_asked_about_another_text_starts_again_with_all(meteor_process: MeteorProcess) -> None:
    pairs = [("a large boat at sea", "a big boat on the ocean"), ("it is a lot of fun", "it is very funny")]
    with MeteorProcess() as process:
        process.start(list(pairs[0]))
        first = process.statistics(pairs[:1])
        assert first.tolist() == meteor_process.statistics(pairs[:1]).tolist()
        assert process.statistics(pairs).tolist() == meteor_process.statistics(pairs).tolist()


def test_a_process_of_its_own_chooses_them(tmp_path: Path) -> None:
    write_table(tmp_path / "all.gz", [("a café", "an"), ("an", "a café"), ("an", "the")])

    def normalised(texts: Iterable[str]) -> dict[str, str]:
        return {text: text.replace("-", " ") for text in texts}

    found = Paraphrases(tmp_path / "all.gz", ["a-café", "an"], normalised)
    assert written(found.path()) == [("0.0", "a café", "an"), ("0.1", "an", "a café")]
    assert found.normal(["a-café", "an"]) == {"a-café": "a café", "an": "an"}
    assert found.normal(["an", "the"]) is None
    found.close()
    with pytest.raises(Unavailable):
        found.path()


def test_a_table_that_cannot_be_read_is_an_error_and_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "all.gz").write_bytes(b"no table")
    found = Paraphrases(tmp_path / "all.gz", ["a"], lambda texts: {text: text for text in texts})
    with pytest.raises(OSError, match="choosing paraphrases"):
        found.path()
    assert [path for path in (tmp_path / "temporary").rglob("*") if path.is_file()] == []
    found.close()


def test_nobody_waits_for_output_of_a_process_that_was_killed_while_others_choose(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "all.gz")
    program = f"""
from pathlib import Path
from harness.tasks.metrics.paraphrases import Paraphrases
Paraphrases(Path({str(tmp_path / "all.gz")!r}), ["a"], lambda texts: {{text: text for text in texts}}).path()
"""
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    with (tmp_path / "all.gz").open("wb"):  # as soon as it is open for reading; the choice ends when it is closed here
        process.kill()
        assert process.communicate(timeout=60) == (b"", None)


def test_after_a_failure_none_are_chosen(tmp_path: Path) -> None:
    write_table(tmp_path / "all.gz", [("a", "an")])
    calls: list[list[str]] = []

    def normalised(texts: Iterable[str]) -> dict[str, str]:
        calls.append(list(texts))
        if calls[-1]:
            raise OSError("the program that normalises died")
        return {}

    found = Paraphrases(tmp_path / "all.gz", ["a", "an"], normalised)
    with pytest.raises(OSError, match="died"):
        found.path()
    assert written(found.path()) == []
    assert found.normal(["a"]) is None  # the table is for no text
    found.close()
