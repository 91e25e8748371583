import json
import math
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.atomic import write_atomically
from harness.store.outcomes import OutcomeLog, cut_torn_line, outcome_from_json, outcome_to_json, read_outcomes
from harness.store.run_folder import SCHEMA, RowKey, RunFolder, check_name
from harness.types import Annotation, Answer, Example, Failed, Refusal, Unparsed, Usage, UserError

text = st.text(max_size=40) | st.sampled_from(["", "None", "nan", "N/A", "a\nb", "\u2028", "\x00", "\ud800"])
usages = st.builds(
    Usage,
    latency_s=st.none() | st.floats(0, 1e6),
    prompt_tokens=st.none() | st.integers(0, 10**6),
    attempts=st.none() | st.integers(1, 9),
    cached=st.none() | st.booleans(),
)
probabilities = st.none() | st.dictionaries(st.text(min_size=1, max_size=5), st.floats(0, 1), min_size=1, max_size=3)
outcomes = st.one_of(
    st.builds(
        Answer,
        st.text(min_size=1, max_size=9),
        text,
        probabilities,
        text,
        usages,
        st.none() | st.integers(0, 9),
        st.none() | st.dictionaries(st.sampled_from(["valence", "arousal"]), st.floats(-9, 9)),
        st.booleans(),
        text,
    ),
    st.builds(Refusal, text, usages, text),
    st.builds(Unparsed, text, usages, text, text),
    st.builds(Failed, text, text, text, usages, text),
)


@given(st.lists(st.tuples(text, outcomes), max_size=6, unique_by=lambda pair: pair[0]))
def test_what_is_appended_is_read_back(tmp_path_factory, pairs):
    path = tmp_path_factory.mktemp("log") / "m.jsonl"
    with OutcomeLog(path) as log:
        for example_id, outcome in pairs:
            log.append(example_id, outcome)
    assert list(read_outcomes(path)) == pairs


def test_lines_that_say_nothing_of_thoughts_and_cuts_are_as_they_always_were():
    usage = '"usage": {"latency_s": null, "prompt_tokens": null, "completion_tokens": null, "cost_usd": null, '
    usage += '"attempts": null, "cached": null}, "error": null}'
    answer = '{"id": "a", "kind": "answer", "emotion": "awe", "explanation": "x", "emotion_probs": null, '
    answer += f'"held_out": null, "ratings": null, "raw": "awe because x", {usage}'
    assert json.dumps(outcome_to_json("a", Answer("awe", "x", raw="awe because x"))) == answer
    assert json.dumps(outcome_to_json("a", Unparsed("?"))) == f'{{"id": "a", "kind": "unparsed", "raw": "?", {usage}'


def test_a_line_with_three_keys_is_an_answer():
    line = {"id": "a", "emotion": "awe", "explanation": "it is big"}
    assert outcome_from_json(line) == ("a", Answer("awe", "it is big"))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({"emotion": "awe"}, "'id'"),
        ({"id": "a"}, "'emotion'"),
        ({"id": "a", "emotion": "awe", "explanation": 4}, "'explanation'"),
        ({"id": "a", "kind": "maybe"}, "'kind'"),
        ({"id": "a", "emotion": "awe", "explanation": "x", "emotion_probs": {"awe": -1}}, "emotion_probs"),
        ({"id": "a", "emotion": "awe", "explanation": "x", "emotion_probs": {"awe": math.inf}}, "emotion_probs"),
        ({"id": "a", "emotion": "awe", "explanation": "x", "ratings": [1, 2]}, "ratings"),
        ({"id": "a", "emotion": "awe", "explanation": "x", "truncated": "yes"}, "'truncated'"),
        ({"id": "a", "emotion": "awe", "explanation": "x", "reasoning": ["hm"]}, "'reasoning'"),
        ({"id": "a", "kind": "unparsed", "reason": 3}, "'reason'"),
        ({"id": "a", "emotion": "awe", "explanation": "x", "ratings": {"valence": math.nan}}, "ratings"),
    ],
)
def test_wrong_lines_name_the_key(line, message):
    with pytest.raises(ValueError, match=message):
        outcome_from_json(line)


def test_a_torn_last_line_is_left_out_and_cut_off(tmp_path):
    path = tmp_path / "m.jsonl"
    whole = json.dumps(outcome_to_json("a", Answer("awe", "x"))) + "\n"
    path.write_text(whole + '{"id": "b", "kind": "ans')
    assert [i for i, _ in read_outcomes(path)] == ["a"]
    assert cut_torn_line(path)
    assert path.read_text() == whole
    assert not cut_torn_line(path)


def test_a_whole_last_line_without_newline_still_counts(tmp_path):
    path = tmp_path / "m.jsonl"
    path.write_text('{"id": "a", "emotion": "awe", "explanation": "x"}')
    assert [i for i, _ in read_outcomes(path)] == ["a"]
    assert not cut_torn_line(path)
    with OutcomeLog(path) as log:
        log.append("b", Answer("awe", "y"))
    assert [i for i, _ in read_outcomes(path)] == ["a", "b"]


def test_corruption_elsewhere_is_reported_by_line(tmp_path):
    path = tmp_path / "m.jsonl"
    path.write_text('{"id": "a", "emotion": "awe", "explanation": "x"}\n{"id": 7}\n{"id": "c", "kind": "refusal"}\n')
    with pytest.raises(UserError, match=r"m\.jsonl:2: key 'id'"):
        list(read_outcomes(path))


@pytest.mark.slow
def test_appended_lines_survive_kill_minus_nine(tmp_path):
    path = tmp_path / "m.jsonl"
    code = (
        "import os, signal, sys; from pathlib import Path\n"
        "from harness.store.outcomes import OutcomeLog; from harness.types import Answer\n"
        "log = OutcomeLog(Path(sys.argv[1]))\n"
        "for i in range(100): log.append(str(i), Answer('awe', 'x'))\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert [i for i, _ in read_outcomes(path)] == [str(i) for i in range(100)]


def test_a_full_disk_leaves_only_whole_lines(tmp_path):
    path = tmp_path / "m.jsonl"
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        try:
            log = OutcomeLog(path)
            for i in range(100):
                log.append(str(i), Answer("awe", "x" * 50))
        except OSError:
            os._exit(7)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    data = path.read_bytes()
    assert data.endswith(b"\n")
    ids = [i for i, _ in read_outcomes(path)]
    assert ids == [str(i) for i in range(len(ids))]
    assert len(ids) > 1


def test_whole_files_are_old_or_new(tmp_path):
    path = tmp_path / "results.json"
    write_atomically(path, "old")
    with pytest.raises(TypeError):
        write_atomically(path, 7)
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["results.json"]


def example(**changes):
    fields = {
        "id": "x/1",
        "annotations": (Annotation("awe", "big \u2028 sky"),),
        "emotion_histogram": {"awe": 3, "fear": 1},
    }
    return Example(**{"image": Path("a.jpg"), "split": "test", "meta": {"style": "Q"}} | fields | changes)


def test_examples_come_back_as_they_were(tmp_path):
    folder = RunFolder(tmp_path)
    rated = example(id="z", ratings={"valence": 0.1}, context="A: what do you see?\nB: a \u2028 tree")
    examples = [example(), example(id="y", annotations=()), rated]
    folder.save_examples("t", examples)
    assert list(folder.examples("t")) == examples


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".hidden", "a b", "x" * 101, "a\nb"])
def test_names_that_are_no_file_names(name):
    with pytest.raises(UserError):
        check_name(name, "model")


@pytest.mark.parametrize("row", [RowKey("a"), RowKey("a.b-c", "blank")])
def test_row_keys_round_trip_through_file_names(row):
    assert RowKey.from_stem(row.stem) == row


def test_a_folder_that_is_no_run(tmp_path):
    with pytest.raises(UserError, match=r"not a run folder.*harness run"):
        RunFolder.open(tmp_path)


def test_a_manifest_of_another_schema_is_refused(tmp_path):
    (tmp_path / "manifest.json").write_text('{"schema": 99}')
    with pytest.raises(UserError, match="expected schema 1, got 99"):
        RunFolder.open(tmp_path).manifest()


@pytest.mark.parametrize("key", ["metrics", "headlines", "planes", "manifest", "cells"])
@pytest.mark.parametrize("value", [5, "x", [[1]], True])
def test_results_of_another_form_are_refused(key, value, tmp_path):
    lists: dict = {key: [] for key in ("cells", "coverage", "confusion", "models", "comparisons")}
    folder = RunFolder(tmp_path)
    folder.save_results({"schema": SCHEMA, **lists})
    assert folder.results()["cells"] == []
    folder.save_results({"schema": SCHEMA, **lists, key: value})
    with pytest.raises(UserError, match=f"key '{key}' must be a.*; the file is not as harness wrote it"):
        folder.results()


@pytest.mark.parametrize("held_out", [None, 2, (0, 3)])
def test_held_out_annotations_survive_the_round_trip(held_out):
    answer = Answer("joy", "x", held_out=held_out)
    assert outcome_from_json(json.loads(json.dumps(outcome_to_json("a", answer)))) == ("a", answer)


@pytest.mark.parametrize("held_out", ["1", [], [0, "1"], True, 1.5])
def test_held_out_must_be_indexes(held_out):
    with pytest.raises(ValueError, match="'held_out' must be an index"):
        outcome_from_json({"id": "a", "emotion": "joy", "explanation": "x", "held_out": held_out})
