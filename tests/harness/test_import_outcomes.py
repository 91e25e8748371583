"""Predictions made elsewhere, in every form in which people have them, give the row that they are."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.cli import main
from harness.store.outcomes import outcome_to_json
from harness.store.prediction_files import FORMATS, Columns, read_predictions
from harness.tasks.metrics.base import Context, ScoredExample
from harness.tasks.metrics.labels import Accuracy
from harness.types import Answer, Example, Failed, Refusal, Task, Unparsed, UserError

TASK = Task("weather", "jsonl", ("joy", "gloom", "something else"), options={"aliases": {"other": "something else"}})
SAID = ("joy because the sun is out", "Gloom because of the grey road", "I'm sorry, I can't help with that.")


def write(path: Path, content: str | bytes | Sequence[Mapping[str, Any]]) -> Path:
    """Text, bytes, or records as JSON Lines."""
    if not isinstance(content, str | bytes):
        content = "".join(json.dumps(record) + "\n" for record in content)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


# ------------------------------------------------------------------------------------------ the peers' own logs


def own(folder: Path) -> Path:
    return write(folder / "own.jsonl", [{"id": str(i), "raw": said} for i, said in enumerate(SAID)])


def openai_batch(folder: Path) -> Path:
    def line(i: int, said: str) -> dict[str, Any]:
        message = {"role": "assistant", "content": said, "refusal": None}
        body = {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": {"prompt_tokens": 9}}
        response = {"status_code": 200, "request_id": "r", "body": body}
        return {"id": f"batch_{i}", "custom_id": str(i), "response": response, "error": None}

    return write(folder / "batch.jsonl", [line(i, said) for i, said in enumerate(SAID)])


def inspect_json(folder: Path) -> Path:
    samples = [
        {
            "id": i,
            "epoch": 1,
            "input": "?",
            "target": "joy",
            "output": {"model": "m", "completion": said, "choices": []},
        }
        for i, said in enumerate(SAID)
    ]
    return write(folder / "log.json", json.dumps({"version": 2, "status": "success", "samples": samples}, indent=2))


def lmms_eval(folder: Path) -> Path:
    lines = [
        {"doc_id": i, "target": "joy", "filtered_resps": [[said]], "token_counts": []} for i, said in enumerate(SAID)
    ]
    return write(folder / "samples_weather.jsonl", lines)


def vlmevalkit(folder: Path) -> Path:
    return write(
        folder / "m.json", json.dumps([{"index": i, "answer": "?", "prediction": s} for i, s in enumerate(SAID)])
    )


def vlmevalkit_tsv(folder: Path) -> Path:
    rows = ["index\tanswer\tprediction", *(f"{i}\tjoy\t{said}" for i, said in enumerate(SAID))]
    return write(folder / "m.tsv", "\n".join(rows) + "\n")


def vlmevalkit_xlsx(folder: Path) -> Path:
    pytest.importorskip("openpyxl")
    import pandas as pd

    pd.DataFrame({"index": range(3), "prediction": SAID}).to_excel(folder / "m.xlsx", index=False)
    return folder / "m.xlsx"


def lighteval(folder: Path) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [
        {
            "doc": {"id": str(i), "choices": ["joy"], "gold_index": [0]},
            "model_response": {"text": [said], "logprobs": []},
        }
        for i, said in enumerate(SAID)
    ]
    pq.write_table(pa.Table.from_pylist(rows), folder / "details.parquet")
    return folder / "details.parquet"


PEERS = (own, openai_batch, inspect_json, lmms_eval, vlmevalkit, vlmevalkit_tsv, vlmevalkit_xlsx, lighteval)


@pytest.mark.parametrize("make", PEERS, ids=lambda make: make.__name__)
def test_every_peers_file_gives_the_same_row(make: Any, tmp_path: Path) -> None:
    found = read_predictions(make(tmp_path), TASK)
    assert [id_ for id_, _ in found] == ["0", "1", "2"]
    first, second, third = (outcome for _, outcome in found)
    assert isinstance(first, Answer)
    assert (first.emotion, first.explanation, first.raw) == ("joy", "the sun is out", SAID[0])
    assert isinstance(second, Answer)
    assert (second.emotion, isinstance(third, Refusal)) == ("gloom", True)


def test_a_list_under_some_key_and_empty_cells_of_pandas(tmp_path: Path) -> None:
    lines = [{"id": "a", "emotion": "joy", "explanation": float("nan")}, {"id": "b", "emotion": "gloom"}]
    path = write(
        tmp_path / "m.json",
        json.dumps({"model": "m", "config": {"k": [1, 2]}, "predictions": lines}, indent=1).encode(),
    )
    found = dict(read_predictions(path, TASK))
    assert found == {"a": Answer("joy", ""), "b": Answer("gloom", "")}


def test_an_eval_archive_needs_its_package(tmp_path: Path) -> None:
    write(tmp_path / "log.eval", b"PK\x03\x04junk")
    with pytest.raises(UserError, match=r"log.eval: (reading an .eval log needs .*convert|not a log of inspect_ai)"):
        read_predictions(tmp_path / "log.eval", TASK)


def test_a_batch_keeps_errors_refusals_usage_and_cut_off_answers(tmp_path: Path) -> None:
    def body(content: str | None, finish: str = "stop", refusal: str | None = None) -> dict[str, Any]:
        choice = {"message": {"content": content, "refusal": refusal}, "finish_reason": finish}
        return {"body": {"choices": [choice], "usage": {"prompt_tokens": 7, "completion_tokens": 3}}}

    lines = [
        {"custom_id": "a", "response": body(SAID[0]), "error": None},
        {"custom_id": "b", "response": body(None, refusal="I cannot do that"), "error": None},
        {"custom_id": "c", "response": None, "error": {"code": "expired", "message": "the batch expired"}},
        {"custom_id": "d", "response": body("joy", "length"), "error": None},
    ]
    found = dict(read_predictions(write(tmp_path / "b.jsonl", lines), TASK))
    assert (found["a"].usage.prompt_tokens, found["a"].usage.completion_tokens) == (7, 3)
    assert isinstance(found["b"], Refusal)
    assert isinstance(found["c"], Failed)
    assert found["c"].message == "the batch expired"


def test_a_batch_of_responses_and_errors_in_a_body(tmp_path: Path) -> None:
    def answered(text: str, kind: str = "output_text") -> dict[str, Any]:
        part = {"type": kind, "refusal" if kind == "refusal" else "text": text}
        output = [{"type": "reasoning", "summary": []}, {"type": "message", "content": [part]}]
        return {"status_code": 200, "body": {"output": output, "usage": {"input_tokens": 7, "output_tokens": 3}}}

    failed = {"status_code": 500, "body": {"error": {"message": "the server had an error"}}}
    lines = [
        {"custom_id": "c", "response": failed, "error": None},
        {"custom_id": "a", "response": answered(SAID[0]), "error": None},
        {"custom_id": "b", "response": answered("I will not", "refusal"), "error": None},
    ]
    found = dict(read_predictions(write(tmp_path / "b.jsonl", lines), TASK))
    assert isinstance(found["a"], Answer)
    assert (found["a"].raw, found["a"].usage.prompt_tokens) == (SAID[0], 7)
    assert found["b"] == Refusal("I will not", found["b"].usage)
    assert isinstance(found["c"], Failed)
    assert found["c"].message == "the server had an error"
    only = read_predictions(write(tmp_path / "failed.jsonl", lines[:1]), TASK)
    assert [type(outcome) for _, outcome in only] == [Failed]


def test_results_of_the_two_papers_scripts(tmp_path: Path) -> None:
    sevlm = [{"path": "p", "image_id": 3, "caption": "gloom because it is dark because of the rain"}]
    found = dict(read_predictions(write(tmp_path / "s.json", json.dumps(sevlm)), TASK))
    assert found == {"3": Answer("gloom", "of the rain", raw=str(sevlm[0]["caption"]))}
    first = dict(read_predictions(tmp_path / "s.json", TASK, Columns(id="image_id", text="caption")))
    assert isinstance(first["3"], Answer)
    assert first["3"].explanation.startswith("it is dark")
    coco = write(tmp_path / "c.json", json.dumps([{"image_id": 3, "caption": "the sun is out"}]))
    assert dict(read_predictions(coco, TASK)) == {"3": Answer("", "the sun is out")}
    speaker = "art_style,painting,grounding_emotion,caption\nCubism,a_b,Other,it is odd\nPop_Art,c,,it is odd\n"
    found = dict(read_predictions(write(tmp_path / "a.csv", speaker), TASK))
    assert found["Cubism/a_b"] == Answer("something else", "it is odd")
    assert isinstance(found["Pop_Art/c"], Unparsed)
    assert FORMATS.keys() >= {"sevlm", "coco", "artemis-speaker"}


# ------------------------------------------------------------------------------------------ columns of one's own


def test_named_columns_of_any_table(tmp_path: Path) -> None:
    text = (
        "\ufeffpainting;label;why;p_joy;p_gloom\n1;JOY ;the sun;0.67;0.34\n2;other;;0.5;0.5\n3;happy;x;1;0\n4;;x;1;0\n"
    )
    columns = Columns(id="painting", emotion="label", explanation="why", probs="p_")
    found = dict(read_predictions(write(tmp_path / "t.csv", text), TASK, columns))
    assert isinstance(found["1"], Answer)
    assert (found["1"].emotion, found["1"].explanation) == ("joy", "the sun")
    assert found["1"].emotion_probs == pytest.approx({"joy": 0.67 / 1.01, "gloom": 0.34 / 1.01})
    assert isinstance(found["2"], Answer)
    assert found["2"].emotion == "something else"
    assert found["3"] == Unparsed("happy", reason="label outside the task")
    assert found["4"] == Unparsed("x", reason="empty")


def test_ids_are_numbers_paths_or_patterns(tmp_path: Path) -> None:
    line = {"a": {"b": 5}, "list": [{"t": "joy"}], "whole": 5.0}
    path = write(tmp_path / "t.jsonl", [line])
    for id_, expected in (("a.b", "5"), ("whole", "5"), ("{a.b}/{whole}", "5/5.0")):
        assert read_predictions(path, TASK, Columns(id=id_, emotion="list.0.t"))[0][0] == expected


def test_nine_probabilities_of_two_decimals_are_renormalised(tmp_path: Path) -> None:
    nine = tuple("abcdefghi")
    task = Task("nine", "jsonl", nine, explanations=False)
    probabilities = dict.fromkeys(nine, 0.11)  # sum 0.99
    line = {"id": "x", "emotion": "a", "explanation": "", "emotion_probs": probabilities | {"a": 0.15}}  # sum 1.03
    ((_, outcome),) = read_predictions(write(tmp_path / "p.jsonl", [line]), task)
    assert isinstance(outcome, Answer)
    assert sum((outcome.emotion_probs or {}).values()) == pytest.approx(1)
    for wrong in (0.5, -0.01):
        line = {**line, "emotion_probs": probabilities | {"a": wrong}}
        with pytest.raises(UserError, match=r"p.jsonl:1: .*(sum to 1.38|>= 0)"):
            read_predictions(write(tmp_path / "p.jsonl", [line]), task)


@given(st.lists(st.text(st.characters(codec="utf-8")), min_size=1, max_size=5))
def test_any_text_is_read_or_unparsed(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> None:
    path = write(
        tmp_path_factory.getbasetemp() / "any.jsonl", [{"key": i, "said": text} for i, text in enumerate(texts)]
    )
    found = read_predictions(path, TASK, Columns(id="key", text="said"))
    assert [id_ for id_, _ in found] == [str(i) for i in range(len(texts))]
    assert all(json.dumps(outcome_to_json(*pair), allow_nan=False) for pair in found)


# ------------------------------------------------------------------------------------------ files that are none


LINE = '{"id": "a", "emotion": "joy", "explanation": "x"}'


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("notjson.txt", "contentment because the lake is calm\n", r"notjson.txt:1: not JSON \(Expecting value"),
        ("arr_cut.json", f"[{LINE}, {LINE[:20]}", r"arr_cut.json: not JSON"),
        ("concat.jsonl", f"{LINE}{LINE}\n", r"concat.jsonl:1: not JSON \(Extra data"),
        ("empty.jsonl", "", "empty.jsonl: is empty"),
        ("blank.jsonl", "\n\n", "blank.jsonl: is empty"),
        ("head.csv", "id,emotion\n", "head.csv: is empty"),
        ("torn_comma.jsonl", f"{LINE}\n{LINE},\n", r"torn_comma.jsonl:2: not JSON"),
        ("torn.jsonl", f"{LINE}\n{LINE[:20]}", r"torn.jsonl:2: not JSON"),
        ("list.jsonl", "[1]\n", "entry 1: expected an object, got int"),
        ("number.jsonl", f"{LINE}\n5\n", "number.jsonl:2: expected an object, got int"),
        ("what.jsonl", '{"name": "a", "answer": "joy"}\n', r"what.jsonl: .* It has answer, name. Type --id COLUMN"),
        (
            "path.jsonl",
            '{"custom_id": "a", "response": {"body": {"text": "joy"}}}\n',
            r"path.jsonl: no record holds anything",
        ),
        (
            "twice.jsonl",
            '{"id": "a", "emotion": "joy", "emotion": "gloom"}\n',
            "twice.jsonl:1: key 'emotion' stands twice",
        ),
        ("twice.csv", "id,emotion,emotion\na,joy,gloom\n", "twice.csv: the header has 2 columns called 'emotion'"),
        (
            "open.csv",
            'id,emotion\na,joy\nb,"gloom\nc,joy\n',
            "open.csv, line 3: not a table: a quotation mark is never closed",
        ),
        ("escaped.csv", 'id,emotion\na,"joy \\"yes\\" joy"\n', "escaped.csv, line 2: not a table: .* is not doubled"),
        ("noid.jsonl", '{"id": null, "emotion": "joy"}\n', "noid.jsonl:1: the id must be text or a whole number"),
        ("labels.jsonl", '{"id": "a", "emotion": "bliss"}\n', "no label is one of joy, gloom.*'bliss'"),
        ("bad.xlsx", "junk", "bad.xlsx: not an Excel workbook"),
        ("bad.parquet", "junk", "bad.parquet: not a Parquet file"),
    ],
)
def test_files_that_are_no_predictions_are_refused(tmp_path: Path, name: str, content: str, says: str) -> None:
    with pytest.raises(UserError, match=says):
        read_predictions(write(tmp_path / name, content), TASK)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_byte_order_marks_and_line_ends(tmp_path: Path, encoding: str, end: str) -> None:
    lines = [json.dumps({"id": f"é{i}", "emotion": "joy", "explanation": "x"}, ensure_ascii=False) for i in range(3)]
    path = write(tmp_path / "o.jsonl", end.join(lines).encode(encoding))
    assert [id_ for id_, _ in read_predictions(path, TASK)] == ["é0", "é1", "é2"]


def test_json_lists_and_objects_by_id(tmp_path: Path) -> None:
    records = [{"id": 7, "emotion": "joy", "explanation": "x"}]
    expected = [("7", Answer("joy", "x"))]
    assert read_predictions(write(tmp_path / "a.json", json.dumps(records)), TASK) == expected
    assert read_predictions(write(tmp_path / "b.json", json.dumps(records, indent=1)), TASK) == expected
    for layout in (None, 1):
        by_id = json.dumps({"7": {"emotion": "joy", "explanation": "x"}}, indent=layout)
        assert read_predictions(write(tmp_path / "c.json", by_id), TASK) == expected
        under_a_key = json.dumps({"model": "m", "config": {"k": [1]}, "predictions": records}, indent=layout)
        assert read_predictions(write(tmp_path / "d.json", under_a_key), TASK) == expected
        alone = json.dumps(records[0], indent=layout)
        assert read_predictions(write(tmp_path / "e.json", alone), TASK) == expected


def test_a_line_may_hold_the_separators_that_json_allows_in_a_text(tmp_path: Path) -> None:
    lines = [
        json.dumps({"id": str(i), "emotion": "joy", "explanation": "a\u2028b\u0085c"}, ensure_ascii=False)
        for i in (1, 2)
    ]
    found = read_predictions(write(tmp_path / "o.jsonl", "\n".join(lines).encode()), TASK)
    assert found == [(str(i), Answer("joy", "a\u2028b\u0085c")) for i in (1, 2)]


# ------------------------------------------------------------------------------------------ through the command line


@pytest.fixture
def card(tmp_path: Path) -> Path:
    """A task without images: eight test examples, joy dominates six."""
    lines = [
        {"id": f"e{i}", "annotations": [{"emotion": "joy" if i < 6 else "gloom", "explanation": "the light"}] * 2}
        for i in range(8)
    ]
    write(tmp_path / "examples.jsonl", lines)
    text = "name: weather\ndataset: jsonl\nemotions: [joy, gloom]\noptions: {examples: examples.jsonl}\n"
    return write(tmp_path / "weather.yaml", text)


def score(card: Path, *words: str) -> tuple[int, dict[str, Any]]:
    out = card.parent / "run"
    code = main(
        ["score", "--task", str(card), "--out", str(out), "--no-report", "--data-root", str(card.parent), *words]
    )
    return code, json.loads((out / "results.json").read_text("utf-8")) if (out / "results.json").exists() else {}


def values(results: Mapping[str, Any], model: str = "m") -> dict[str, float | None]:
    return {
        cell["metric"]: cell["value"]
        for cell in results["cells"]
        if cell["model"] == model and cell["emotion"] is None and cell["slice"] is None and cell["references"] == "all"
    }


def test_rows_by_position_and_labels_outside_the_task(card: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labels = ["joy", "Joy", "gloom", "happy", "happy", "joy", "joy", "gloom"]
    rows = "\n".join(f"{i},{label}" for i, label in enumerate(labels))
    write(card.parent / "m.csv", f"row,label\n{rows}\n")
    columns = ["--outcomes", str(card.parent / "m.csv"), "--id", "row", "--emotion", "label"]
    assert score(card, *columns)[0] == 2
    assert "add --positions" in capsys.readouterr().err
    code, results = score(card, *columns, "--positions")
    told = capsys.readouterr().err
    assert code == 0, told
    assert 'm: labels outside the task: "happy" 2' in told
    assert values(results)["accuracy"] == 4 / 8
    assert results["coverage"][0]["unparsed"] == 2


def test_columns_that_exclude_each_other(card: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(card.parent / "m.csv", "row,label\n0,joy\n")
    given = ["--outcomes", str(card.parent / "m.csv")]
    for words, says in (
        (["--id", "row"], "name what was predicted"),
        (["--text", "label", "--emotion", "label"], "give it alone"),
        (["--id", "rov", "--emotion", "label"], "no column 'rov' (--id); did you mean row?"),
        (["--emotion", "labl", "--id", "row"], "no column 'labl' (--emotion); did you mean label?"),
    ):
        assert score(card, *given, *words)[0] == 2
        assert says in capsys.readouterr().err


def reasons(results: Mapping[str, Any]) -> dict[str, str]:
    return {
        cell["metric"]: cell["unavailable"]
        for cell in results["cells"]
        if cell["emotion"] is None and cell["slice"] is None and cell["references"] == "all" and cell["value"] is None
    }


@pytest.mark.slow
def test_captions_without_a_label_have_no_label_metrics(card: Path) -> None:
    write(card.parent / "m.json", json.dumps([{"image_id": f"e{i}", "caption": "the light"} for i in range(8)]))
    code, results = score(card, "--outcomes", str(card.parent / "m.json"))
    assert code == 0
    found = values(results)
    assert (found["bleu_1"], found["rouge_l"]) == (pytest.approx(1), pytest.approx(1))
    assert results["coverage"][0]["answered"] == 8
    for metric in ("accuracy", "macro_f1", "annotator_mass"):
        assert found[metric] is None
        assert "label" in reasons(results)[metric]


def test_labels_without_words_have_no_text_metrics(card: Path) -> None:
    write(card.parent / "m.jsonl", [{"id": f"e{i}", "emotion": "joy"} for i in range(8)])
    code, results = score(card, "--outcomes", str(card.parent / "m.jsonl"))
    assert code == 0
    assert values(results)["accuracy"] == 6 / 8
    assert values(results)["bleu_1"] is None


@pytest.mark.parametrize(
    ("dominance", "n", "right"), [("", 1, 1), ("majority", 1, 1), ("half", 2, 2), ("plurality", 3, 2)]
)
def test_which_emotion_dominates_is_the_cards_choice(dominance: str, n: int, right: int) -> None:
    """3:1 is a majority, 2:1:1 half, 2:1:1:1 (gloom first) a plurality, 1:1 nothing."""
    votes = ({"joy": 3, "gloom": 1}, {"joy": 2, "gloom": 1, "awe": 1}, {"gloom": 2, "joy": 1, "awe": 1, "fear": 1})
    task = Task("weather", "jsonl", ("joy", "gloom", "awe", "fear"), dominance=dominance)
    rows = [
        ScoredExample(Example(str(i), Path("a.png"), (), counts), Answer("joy", "x"), (), counts)
        for i, counts in enumerate((*votes, {"joy": 1, "awe": 1}))
    ]
    metric = Accuracy(Context(task))
    found = metric.statistics(rows)
    assert int(found.eligible.sum()) == n
    assert metric.value(found.values[found.eligible].sum(0)) == pytest.approx(right / n)
    assert metric.fields()["dominance"] == {"half": ">=half", "plurality": "most"}.get(dominance, ">half")
