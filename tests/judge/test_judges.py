"""`harness judge` with judges of known behaviour: every flaw is found by its column, nothing is judged twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from judges import RUBRIC, Judge, drawn
from llama_server import llama_server
from servers import serving

from harness.api import judge
from harness.cli import main
from harness.judge.rubric import load_rubric
from harness.judge.verdicts import JudgeOptions, judgements, plan_questions
from harness.score.predictions import Opinion, read_opinions
from harness.store.run_folder import RowKey, RunFolder
from harness.types import UserError

pytestmark = pytest.mark.slow


@pytest.fixture
def rubric(tmp_path: Path) -> Path:
    path = tmp_path / "numbers.yaml"
    path.write_text(RUBRIC)
    return path


@pytest.fixture(autouse=True)
def scored(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run counts as scored: what is tested here is added to its results."""
    empty: dict[str, list[Any]] = {key: [] for key in ("cells", "coverage", "confusion", "models", "comparisons")}
    run.save_results({"schema": 1, "manifest": run.manifest(), **empty})
    monkeypatch.setenv("OPENAI_API_KEY", "sk-made-up")


def judged_by(behaviour: str, run: RunFolder, rubric: Path, **options: Any) -> dict[str, Any]:
    with serving(Judge(behaviour)) as address:
        model = f"openai:model=judge,base_url={address}/v1,probe=off,as={behaviour}"
        done = judge(run.path, model, rubric=rubric, **options)
    (found,) = done.results["judges"]
    return dict(found)


def test_a_fair_judge_gets_a_column(run: RunFolder, rubric: Path) -> None:
    found = judged_by("fair", run, rubric, repeats=2)
    criterion = found["criteria"]["fits"]
    # 24 + 24 + 23 explanations (one refusal), each also before another image
    assert criterion["discrimination"]["n"] == 71
    assert (criterion["discrimination"]["prefers_true"], criterion["discrimination"]["tells"]) == (1.0, True)
    assert criterion["repeatability"] == {"differ": 0.0, "alpha": None, "n": 71}
    assert {(c["model"], c["value"], c["n"], c["unscored"]) for c in found["cells"]} == {
        ("small", 5.0, 24, 0),
        ("large", 5.0, 24, 0),
        ("other", 5.0, 23, 0),
    }
    assert found["unscored"] == {}
    assert found["questions"] == 71 * 3
    assert found["usage"]["prompt_tokens"] == 70 * 71 * 3


def test_each_explanation_shows_what_the_judge_said_of_it(run: RunFolder, rubric: Path) -> None:
    judged_by("fair", run, rubric)
    assert read_opinions(run.path, "tiny", RowKey("small"))["e3"] == [Opinion("fair, numbers", "fits 5, sees 5")]


def test_an_explanation_without_a_verdict_shows_why(run: RunFolder, rubric: Path) -> None:
    found = judged_by("failing", run, rubric)
    texts = [text for own in read_opinions(run.path, "tiny", RowKey("large")).values() for _, text in own]
    missing = next(c["unscored"] for c in found["cells"] if (c["model"], c["criterion"]) == ("large", "fits"))
    assert sum(text.startswith("unscored (") for text in texts) == missing > 0


def test_rows_are_compared_by_judges_too(run: RunFolder, rubric: Path, capsys: pytest.CaptureFixture[str]) -> None:
    judged_by("fair", run, rubric)
    run.save_results(run.results() | {"models": [{"model": name} for name in ("small", "large")]})
    capsys.readouterr()
    assert main(["compare", str(run.path), "--models", "large,small"]) == 0
    said = capsys.readouterr().out
    assert "by judges" in said
    line = next(line for line in said.splitlines() if "fair: fits" in line)
    assert line.split()[-1] == "24"  # both have scores for all images
    assert "+0.0000" in line  # a fair judge gives both 5


def test_a_lazy_judge_tells_nothing(run: RunFolder, rubric: Path) -> None:
    criterion = judged_by("lazy", run, rubric)["criteria"]["fits"]
    assert (criterion["discrimination"]["prefers_true"], criterion["discrimination"]["tells"]) == (0.5, False)
    assert criterion["length"]["rho"] is None


def test_a_length_lover_is_found_by_rank_correlation_and_does_not_tell(run: RunFolder, rubric: Path) -> None:
    found = judged_by("length", run, rubric)
    criterion = found["criteria"]["fits"]
    # words: 10 + 2 for each `and wide`; the scores grow with them, so the ranks are the same
    assert criterion["length"]["rho"] == pytest.approx(1.0)
    assert criterion["discrimination"]["tells"] is False


def test_a_position_lover_is_found_by_the_orders(run: RunFolder, rubric: Path) -> None:
    found = judged_by("position", run, rubric, pairs=True)
    # 24 pairs of small and large, 23 of each with other, each in both orders
    assert found["order"] == {"consistent": 0.0, "n": 24 + 23 + 23, "first_wins": 1.0}
    assert {p["win_rate"] for p in found["preferences"]} == {0.5}


def test_a_failing_judge_scores_nothing_low(run: RunFolder, rubric: Path) -> None:
    questions = plan_questions(run, load_rubric(rubric), JudgeOptions())
    failing = [q for q in questions if drawn(q.item.prompt, 10)]
    assert failing, "the behaviour must show"
    found = judged_by("failing", run, rubric)
    assert sum(found["unscored"].values()) == len(failing)
    assert sum(c["unscored"] for c in found["cells"] if c["criterion"] == "fits") == sum(
        q.control is None for q in failing
    )
    assert {c["value"] for c in found["cells"]} == {5.0}


def test_a_changing_judge_is_found_by_its_repeats(run: RunFolder, rubric: Path) -> None:
    questions = plan_questions(run, load_rubric(rubric), JudgeOptions())
    changing = {q.key for q in questions if q.control is None and drawn(q.item.prompt, 5)}
    found = judged_by("changing", run, rubric, repeats=2)
    assert found["criteria"]["fits"]["repeatability"]["differ"] == pytest.approx(len(changing) / 71)


def test_the_prompt_names_no_model_and_the_order_says_nothing(run: RunFolder, rubric: Path) -> None:
    questions = plan_questions(run, load_rubric(rubric), JudgeOptions(pairs=True))
    rows = [q.row for q in questions[:30]]
    assert len(set(rows)) == 3
    assert not any(f'"{row}"' in q.item.prompt for q in questions for row in ("small", "large", "other"))


def test_a_repeated_command_asks_nothing(run: RunFolder, rubric: Path) -> None:
    server = Judge("fair")
    with serving(server) as address:
        for repeats in (1, 1, 2):
            model = f"openai:model=judge,base_url={address}/v1,probe=off,as=fair"
            judge(run.path, model, rubric=rubric, repeats=repeats)
    # 71 explanations and 71 before other images, then 71 for the second repeat
    assert sum(server.asked.values()) == 71 * 3


def test_another_model_under_the_same_name_is_refused(run: RunFolder, rubric: Path) -> None:
    with serving(Judge("fair")) as address:
        judge(run.path, f"openai:model=judge,base_url={address}/v1,probe=off,as=j", rubric=rubric, limit=2)
        with pytest.raises(UserError, match="another fingerprint"):
            judge(run.path, f"openai:model=other,base_url={address}/v1,probe=off,as=j", rubric=rubric, limit=2)


@pytest.mark.parametrize("text", ["[]", "5", '{"judge": "j"}', "{"])
def test_a_record_that_no_judge_wrote_is_told_in_one_line(run: RunFolder, text: str) -> None:
    path = run.path / "judgements/j/numbers/judge.json"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    with pytest.raises(UserError, match=r"judge\.json: not as harness judge wrote it"):
        judgements(run)


def test_the_budget_of_a_judge_is_its_own(run: RunFolder, rubric: Path) -> None:
    server = Judge("fair")
    with serving(server) as address:
        settings = f"base_url={address}/v1,probe=off,as=j,price_in=1000,price_out=1000,max_tokens=20"
        with pytest.raises(UserError, match="--max-cost"):
            judge(run.path, f"openai:model=judge,{settings}", rubric=rubric, max_cost=6.0, concurrency=1)
    spent = sum(server.asked.values()) * (70 + 9) * 1000 / 1e6
    assert 0 < spent <= 6.0


def test_killed_and_resumed_nothing_is_judged_twice(run: RunFolder, rubric: Path) -> None:
    server = Judge("fair", delay_s=0.05)
    with serving(server) as address:
        model = f"openai:model=judge,base_url={address}/v1,probe=off,as=j"
        command = [sys.executable, "-m", "harness", "judge", str(run.path), "--judge", model, "--rubric", str(rubric)]
        command += ["--no-report", "--concurrency", "4"]
        started = subprocess.Popen(command, env={**os.environ}, stderr=subprocess.DEVNULL)
        replies = run.path / "judgements" / "j" / f"numbers-{load_rubric(rubric).digest}" / "replies.jsonl"
        while not (replies.exists() and len(replies.read_bytes().splitlines()) >= 20):
            assert started.poll() is None, "the command ended before it could be killed"
            time.sleep(0.01)
        started.send_signal(signal.SIGKILL)
        started.wait()
        assert subprocess.run(command, check=False, capture_output=True).returncode == 0
    ids = [json.loads(line)["id"] for line in replies.read_text().splitlines()]
    assert len(ids) == len(set(ids)) == 142
    # what was under way when it was killed may have been asked again, nothing else
    assert sum(server.asked.values()) <= 142 + 4


def test_a_real_small_model_judges_text(run: RunFolder, rubric: Path) -> None:
    """SmolLM2 135M behind llama.cpp: every reply is a verdict, because the schema is kept."""
    with llama_server() as address:
        model = f"openai:model=smollm2,base_url={address},probe=off,max_tokens=40,timeout_s=300,as=smollm2"
        done = judge(run.path, model, rubric=rubric, limit=1, concurrency=1)
    (found,) = done.results["judges"]
    assert found["unscored"] == {}
    assert sum(c["n"] for c in found["cells"] if c["criterion"] == "fits") in (2, 3)
    assert all(1 <= c["value"] <= 5 for c in found["cells"])
    assert found["usage"]["prompt_tokens"] > 0
    assert found["criteria"]["fits"]["discrimination"]["tells"] is None  # one example has no other to be shuffled with
