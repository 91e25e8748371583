"""`harness.evaluate` and `harness.score`: what the commands do, as Python calls."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

import harness as api
from harness.types import UserError

SAID = [
    {"id": "p1", "emotion": "joy", "explanation": "the sun shines"},
    {"id": "p2", "emotion": "fear", "explanation": "the night is dark"},
]


def accuracy(done: api.Evaluation, model: str) -> float:
    cells = done.cells
    found = cells[
        (cells.metric == "accuracy") & (cells.model == model) & cells.emotion.isna() & (cells.references == "all")
    ]
    return float(found.value.iloc[0])


def test_a_call_is_a_command_and_is_resumed_by_either(dataset: Path, tmp_path: Path, harness) -> None:
    done = api.evaluate([str(dataset / "tiny.yaml")], ["majority"], out="run")
    outcomes = (tmp_path / "run/outcomes/tiny/majority.jsonl").read_bytes()
    assert harness("run", "--tasks", dataset / "tiny.yaml", "--models", "majority", "--out", "run")[0] == 0
    assert (tmp_path / "run/outcomes/tiny/majority.jsonl").read_bytes() == outcomes
    assert json.loads((tmp_path / "run/results.json").read_text())["cells"] == list(done.results["cells"])
    assert done.failure_rates == {"tiny/majority": 0.0}
    assert (done.page, done.folder.absolute()) == (None, tmp_path / "run")
    assert list(done.coverage.answered) == [8]


def test_predictions_are_scored_from_a_file_a_table_or_a_list(dataset: Path, tmp_path: Path, capsys) -> None:
    card = str(dataset / "tiny.yaml")
    (tmp_path / "said.jsonl").write_text("".join(json.dumps(line) + "\n" for line in SAID))
    together = api.score(
        card, {"file": tmp_path / "said.jsonl", "table": pd.DataFrame(SAID), "lines": SAID}, out=tmp_path / "run"
    )
    assert len({accuracy(together, name) for name in ("file", "table", "lines")}) == 1
    alone = api.score(card, SAID)
    assert accuracy(alone, "predictions") == accuracy(together, "lines")
    assert not alone.folder.exists()
    assert "6 of 8 examples missing" in capsys.readouterr().err


def test_columns_of_ones_own(dataset: Path) -> None:
    ids = ("p1", "p2", "p4", "p5", "p7", "p8", "p10", "p11")
    table = pd.DataFrame({"painting": ids, "said": ["joy because it is bright"] * 7 + ["who knows"]})
    done = api.score(str(dataset / "tiny.yaml"), table, columns={"id": "painting", "text": "said"})
    (coverage,) = done.results["coverage"]
    assert (coverage["answered"], coverage["unparsed"]) == (7, 1)
    with pytest.raises(UserError, match="unknown part 'txt'; did you mean text"):
        api.score(str(dataset / "tiny.yaml"), table, columns={"id": "painting", "txt": "said"})


def test_what_the_user_can_fix_is_a_user_error(dataset: Path) -> None:
    with pytest.raises(UserError, match="unknown model 'majorty'; did you mean majority"):
        api.evaluate(str(dataset / "tiny.yaml"), "majorty")
    with pytest.raises(UserError, match="not in this task and split"):
        api.score(str(dataset / "tiny.yaml"), [{"id": "nobody", "emotion": "joy", "explanation": ""}])


def test_people_baselines_and_models_are_told_apart(dataset: Path, tmp_path: Path) -> None:
    done = api.evaluate(str(dataset / "tiny.yaml"), "majority,human", out=tmp_path / "run")
    assert {m["model"]: m["kind"] for m in done.results["models"]} == {"majority": "baseline", "human": "person"}
    assert {m["model"]: m["kind"] for m in done.results["manifest"]["models"]} == {
        "majority": "baseline",
        "human": "person",
    }
