"""What an outcome tells beside its answer, in results, on the page and on the terminal; and reading a run again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.store.run_folder import RunFolder
from harness.tasks.parser import PARSER_VERSION
from harness.types import Answer, Failed, Refusal, RowKey, Unparsed, Usage

TALKER = """
from harness.adapters import LocalAdapter
from harness.tasks.parser import PARSER_VERSION, parse_answer

SAID = {
    "p1": "<think>fear?</think>joy because the sun shines",
    "p2": "joy or fear because it is dark",
    "p5": "I'm sorry, I can't help with that.",
    "p4": "joy because the sun shi",
}


class Talker(LocalAdapter):
    name = "talker"

    def fingerprint(self):
        return {"parser": PARSER_VERSION}

    def predict(self, items):
        said = [SAID.get(item.id, "joy because of the light") for item in items]
        return [parse_answer(text, item.labels, truncated=item.id == "p4") for text, item in zip(said, items)]
"""


@pytest.fixture
def run(dataset: Path, tmp_path: Path, harness: Any) -> RunFolder:
    (tmp_path / "talker.py").write_text(TALKER)
    command = ["run", "--tasks", dataset / "tiny.yaml", "--models", "talker", "--adapter", "talker=talker.py:Talker"]
    assert harness(*command, "--out", "run")[0] == 0
    return RunFolder.open(tmp_path / "run")


def test_results_page_and_terminal_tell_what_was_cut_thought_and_not_read(run: RunFolder, harness: Any) -> None:
    (coverage,) = run.results()["coverage"]
    assert (coverage["answered"], coverage["unparsed"], coverage["refused"], coverage["truncated"]) == (6, 1, 1, 1)
    page = (run.path / "report/index.html").read_text()
    assert "Cut off by the token limit" in page
    assert "talker: 1 of 6 answers." in page
    (script,) = (run.path / "report/data").glob("*-0.js")
    payload = script.read_text()
    samples = json.loads(payload[payload.index("(") + 1 : -3])["samples"]
    found = {sample["id"]: sample["outcomes"][0] for sample in samples}
    assert (found["p1"]["reasoning"], found["p1"]["truncated"]) == ("fear?", False)
    assert (found["p2"]["kind"], found["p2"]["reason"]) == ("unparsed", "two labels")
    assert found["p4"]["truncated"] is True
    code, out, _ = harness("score", "run", "--no-report")
    assert code == 0
    assert "talker: 1 of 6 answers cut off by the token limit; raise max_tokens." in out


def test_a_run_is_read_again_with_the_parser_of_this_version(run: RunFolder, harness: Any) -> None:
    row = RowKey("talker")
    now = run.outcomes("tiny", row)
    usage = Usage(latency_s=2.0)
    raw = {id_: outcome.raw for id_, outcome in now.items()}
    older = dict(now) | {
        "p1": Answer("fear", "?</think>joy because the sun shines", {"fear": 0.9, "joy": 0.1}, raw["p1"], usage),
        "p2": Answer("joy", "it is dark", None, raw["p2"], usage),
        "p5": Unparsed(raw["p5"], usage),
        "p8": Failed("http-500", "broken", "", usage),
        "p10": Refusal("content_filter", usage),
        "p7": Answer("joy", "of the light", {"joy": 0.8, "fear": 0.2}, raw["p7"], usage),
    }
    run.outcomes_path("tiny", row).unlink()
    with run.open_log("tiny", row) as log:
        for id_, outcome in older.items():
            log.append(id_, outcome)
    manifest = run.manifest()
    manifest["runs"][0]["fingerprint"]["parser"] = "1"
    run.save_manifest(manifest)
    code, out, _ = harness("score", "run", "--reparse", "--no-report")
    assert code == 0
    assert f"tiny/talker: read again by parser {PARSER_VERSION} (was 1), 3 of 8 outcomes changed" in out
    after = run.outcomes("tiny", row)
    assert after["p1"] == Answer("joy", "the sun shines", None, raw["p1"], usage, reasoning="fear?")
    assert after["p2"] == Unparsed(raw["p2"], usage, "two labels")
    assert after["p5"] == Refusal(raw["p5"], usage)
    assert {id_: after[id_] for id_ in ("p4", "p8", "p10", "p7")} == {
        id_: older[id_] for id_ in ("p4", "p8", "p10", "p7")
    }
    (record,) = run.manifest()["runs"]
    assert record["fingerprint"]["parser"] == PARSER_VERSION
    assert [(again["from"], again["to"]) for again in record["reparsed"]] == [("1", PARSER_VERSION)]
    assert run.results()["coverage"][0]["refused"] == 2


def test_what_was_not_read_from_text_is_not_read_again(dataset: Path, harness: Any) -> None:
    assert harness("run", "--tasks", dataset / "tiny.yaml", "--models", "majority", "--out", "run")[0] == 0
    code, _, err = harness("score", "run", "--reparse")
    assert code == 2
    assert "no row of run was read from text" in err
    code, _, err = harness("score", "--task", dataset / "tiny.yaml", "--outcomes", "x.jsonl", "--out", "o", "--reparse")
    assert code == 2
    assert "--reparse reads a run again" in err


def test_raw_text_alone_is_read_by_the_same_parser(dataset: Path, tmp_path: Path, harness: Any) -> None:
    raw = {
        "p1": "◁think▷fear because it is dark◁/think▷joy because the sun shines",
        "p2": "{'emotion': 'joy', 'explanation': 'the sun shines'}",
        "p5": '{"emotion": "joy | fear", "explanation": "the sun shines"}',
    }
    lines = [json.dumps({"id": id_, "raw": text}) + "\n" for id_, text in raw.items()]
    (tmp_path / "m.jsonl").write_text("".join(lines))
    command = ["score", "--task", dataset / "tiny.yaml", "--outcomes", "m.jsonl", "--out", "o", "--no-report"]
    assert harness(*command)[0] == 0
    run = RunFolder.open(tmp_path / "o")
    found = run.outcomes("tiny", RowKey("m"))
    assert {id_: getattr(outcome, "explanation", None) for id_, outcome in found.items()} == {
        "p1": "the sun shines",
        "p2": "the sun shines",
        "p5": None,
    }
    assert found["p1"].reasoning == "fear because it is dark"
    assert run.manifest()["runs"][0]["parser"] == PARSER_VERSION
