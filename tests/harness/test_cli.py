"""The command line end to end: a tiny dataset, a model from a file, every promise about mistakes and resuming."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from harness.cli import SPINS, build_parser, main, parse
from harness.cli.compare import comparison_table
from harness.cli.train import parse_settings
from harness.types import UserError
from sevlm.config import SEVLMConfig
from sevlm.recipe import TrainingConfig

REPOSITORY = Path(__file__).parents[2]


def run_tiny(harness, dataset, adapter_file, *more):
    return harness(
        "run", "--tasks", dataset / "tiny.yaml", "--models", "brightness,majority",
        "--adapter", f"brightness={adapter_file}:Brightness", "--out", "out", *more,
    )  # fmt: skip


def outcome_lines(folder, model="brightness"):
    path = folder / "out" / "outcomes" / "tiny" / f"{model}.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_model_from_a_file_runs_through_everything(harness, dataset, adapter_file, tmp_path):
    code, out, err = run_tiny(harness, dataset, adapter_file)
    assert code == 0, err
    assert "brightness" in out
    assert "index.html" in out
    lines = outcome_lines(tmp_path)
    assert [line["id"] for line in lines] == ["p1", "p2", "p4", "p5", "p7", "p8", "p10", "p11"]
    assert lines[0]["emotion"] == "fear"
    assert lines[-1]["emotion"] == "joy"
    results = json.loads((tmp_path / "out/results.json").read_text())
    (accuracy,) = [
        c["value"] for c in results["cells"]
        if (c["metric"], c["model"], c["emotion"], c["slice"], c["references"]) == ("accuracy", "brightness", None, None, "all")
    ]  # fmt: skip
    assert accuracy == 1.0  # every painting has a dominant emotion, and brightness predicts it
    assert (tmp_path / "out/report/index.html").stat().st_size > 1000
    manifest = results["manifest"]
    assert [m["model"] for m in manifest["models"]] == ["brightness", "majority"]
    assert manifest["tasks"][0]["examples"] == 8


def test_the_same_command_again_changes_no_byte(harness, dataset, adapter_file, tmp_path):
    run_tiny(harness, dataset, adapter_file)
    outcomes = tmp_path / "out/outcomes/tiny/brightness.jsonl"
    before = (outcomes.read_bytes(), (tmp_path / "out/results.json").read_bytes(), outcomes.stat().st_mtime_ns)
    assert run_tiny(harness, dataset, adapter_file)[0] == 0
    assert (outcomes.read_bytes(), (tmp_path / "out/results.json").read_bytes(), outcomes.stat().st_mtime_ns) == before


def test_score_alone_reproduces_results(harness, dataset, adapter_file, tmp_path):
    run_tiny(harness, dataset, adapter_file)
    results = tmp_path / "out/results.json"
    before = results.read_bytes()
    results.unlink()
    assert harness("score", "out")[0] == 0
    assert results.read_bytes() == before


@pytest.mark.slow
@pytest.mark.parametrize("is_gone", [True, False])
def test_what_a_limited_run_needs_of_the_dataset_is_a_reason_once_it_is_gone_or_another(
    harness, dataset, adapter_file, tmp_path, is_gone
):
    card = dataset / "tiny.yaml"
    card.write_text(card.read_text().replace("unique,", "unique, cider_d,"))
    run_tiny(harness, dataset, adapter_file, "--no-report", "--limit", 3)
    if is_gone:
        shutil.rmtree(dataset)
    else:
        lines = (dataset / "examples.jsonl").read_text().splitlines(keepends=True)
        (dataset / "examples.jsonl").write_text("".join(lines[:-1]))
    assert harness("score", "out")[0] == 0
    cells = json.loads((tmp_path / "out/results.json").read_text())["cells"]
    cider = [c for c in cells if c["metric"] == "cider_d" and c["model"] == "brightness"]
    assert [c["value"] for c in cider] == [None]
    assert "not available" in cider[0]["unavailable"]


def test_a_limit_may_grow_and_an_interrupted_run_goes_on(harness, dataset, adapter_file, tmp_path):
    run_tiny(harness, dataset, adapter_file, "--no-report", "--limit", 3)
    assert len(outcome_lines(tmp_path)) == 3
    path = tmp_path / "out/outcomes/tiny/brightness.jsonl"
    path.write_bytes(path.read_bytes() + b'{"id": "p5", "kind": "answ')  # a write that a crash cut short
    code, _, err = run_tiny(harness, dataset, adapter_file, "--no-report")
    assert code == 0
    assert "3 of 8 done" in err
    assert [line["id"] for line in outcome_lines(tmp_path)] == ["p1", "p2", "p4", "p5", "p7", "p8", "p10", "p11"]
    run_tiny(harness, dataset, adapter_file, "--no-report", "--limit", 2)
    assert json.loads((tmp_path / "out/results.json").read_text())["coverage"][0]["examples"] == 8


def test_another_identity_is_refused_naming_what_differs(harness, dataset, adapter_file, tmp_path):
    run_tiny(harness, dataset, adapter_file, "--no-report")
    code, _, err = run_tiny(harness, dataset, adapter_file, "--no-report", "--seed", 3)
    assert code == 2
    assert "seed: 0 -> 3" in err
    with (dataset / "examples.jsonl").open("a") as file:
        file.write(
            json.dumps({"id": "new", "image": "p1.png", "annotations": [{"emotion": "joy", "explanation": "x"}]}) + "\n"
        )
    code, _, err = run_tiny(harness, dataset, adapter_file, "--no-report")
    assert code == 2
    assert "data.tiny" in err


def test_a_changed_card_is_refused_where_it_decides_answers(harness, dataset, adapter_file, tmp_path):
    card = dataset / "tiny.yaml"
    card.write_text(card.read_text() + 'prompts: {default: "Which emotion, and why?"}\n')  # labels are not in it
    run_tiny(harness, dataset, adapter_file, "--no-report", "--limit", 2)
    card.write_text(card.read_text().replace("[joy, calm, fear]", "[joy, calm, fear, awe]"))
    code, _, err = run_tiny(harness, dataset, adapter_file, "--no-report")
    assert code == 2
    assert 'card.tiny.emotions: ["joy", "calm", "fear"] -> ["joy", "calm", "fear", "awe"]' in err
    card.write_text(card.read_text().replace(", awe]", "]") + "title: Another title\n")
    assert run_tiny(harness, dataset, adapter_file, "--no-report")[0] == 0


def test_where_a_run_goes_on_is_noted(harness, dataset, adapter_file, tmp_path):
    def git(*words):
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *words], cwd=tmp_path, check=True)

    git("init", "-q")
    git("commit", "-q", "--allow-empty", "-m", "one")
    run_tiny(harness, dataset, adapter_file, "--no-report", "--limit", 2)
    manifest = json.loads((tmp_path / "out/manifest.json").read_text())
    assert manifest["environment"]["git"]["dirty"] is True  # the data set is no part of the repository
    git("commit", "-q", "--allow-empty", "-m", "two")
    run_tiny(harness, dataset, adapter_file, "--no-report")
    (later,) = json.loads((tmp_path / "out/manifest.json").read_text())["environments"]
    commit = manifest["environment"]["git"]["commit"]
    now = later["environment"]["git"]["commit"]
    assert f'git.commit: "{commit}" -> "{now}"' in later["changed"]
    run_tiny(harness, dataset, adapter_file, "--no-report")
    assert len(json.loads((tmp_path / "out/manifest.json").read_text())["environments"]) == 1


def test_a_changed_model_is_refused(harness, dataset, adapter_file, tmp_path):
    run_tiny(harness, dataset, adapter_file, "--no-report", "--limit", 2)
    adapter_file.write_text(adapter_file.read_text().replace('{"threshold"', '{"weights": "new", "threshold"'))
    sys.modules.pop("adapter_file_brightness")
    code, _, err = run_tiny(harness, dataset, adapter_file, "--no-report")
    assert code == 2
    assert "weights" in err
    assert "has changed" in err


def test_a_corrupt_picture_is_a_recorded_failure_and_can_be_retried(harness, dataset, adapter_file, tmp_path):
    good = (dataset / "p4.png").read_bytes()
    (dataset / "p4.png").write_bytes(good[:40])
    code, _, err = run_tiny(harness, dataset, adapter_file, "--no-report")
    assert code == 1
    assert "1 failures (12.5% > 5.0%)" in err
    failed = next(line for line in outcome_lines(tmp_path) if line["id"] == "p4")
    assert (failed["kind"], failed["error"]["type"]) == ("failed", "ImageError")
    assert run_tiny(harness, dataset, adapter_file, "--no-report", "--max-error-rate", 0.2)[0] == 0
    (dataset / "p4.png").write_bytes(good)
    assert run_tiny(harness, dataset, adapter_file, "--no-report", "--retry-failed")[0] == 0
    coverage = json.loads((tmp_path / "out/results.json").read_text())["coverage"]
    assert [c["failed"] for c in coverage] == [0, 0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run"], "--tasks is needed"),
        (["run", "--tasks", "demo"], "--models is needed"),
        (["run", "--tasks", "artemiss", "--models", "majority"], "unknown task 'artemiss'; did you mean artemis"),
        (["run", "--tasks", "demo", "--models", "sevln"], "unknown model 'sevln'; did you mean sevlm"),
        (["run", "--tasks", "demo", "--models", "majority:sed=1"], "no setting 'sed'"),
        (["run", "--tasks", "demo", "--models", "majority:prompt=short"], "no prompt 'short'"),
        (["run", "--tasks", "demo", "--models", "majority", "--split", "tset"], "no examples in split 'tset'"),
        (["run", "--tasks", "demo", "--models", "majority", "--controls", "black"], "unknown control"),
        (["run", "--tasks", "demo", "--models", "majority", "--lexicon", "gone.txt"], "no such file"),
        (["run", "--tasks", "demo", "--models", "majority", "--limit", "0"], "must be at least 1"),
        (["run", "--tasks", "demo", "--models", "majority", "--max-error-rate", "2"], "must be from 0 to 1"),
        (["run", "--tasks", "demo", "--models", "majority", "--max-error-rate", "nan"], "must be from 0 to 1"),
        (["run", "--tasks", "demo", "--models", "gpt4v"], "needs model="),
        (["run", "--tasks", "artemis", "--models", "majority"], "harness data prepare artemis"),
        (["run", "--tasks", "demo", "--models", "sevlm"], "harness train sevlm --task demo"),
        (["run", "--tasks", "gone.yaml", "--models", "majority"], "gone.yaml"),
        (["train", "majority", "--task", "demo"], "cannot be trained"),
        (["train", "sevlm", "--task", "demo", "epochs"], "expected key=value"),
        (["score"], "give a run folder"),
        (["score", "nowhere"], "not a run folder"),
        (["report", "nowhere"], "not a run folder"),
        (["data", "prepare", "artemis", "--annotations", "gone.csv", "--images", "."], "no such file"),
        (["data", "prepare", "demo", "--annotation", "x", "--images", "."], "required: --annotations"),
        (["lisst"], "invalid choice"),
    ],
)
def test_mistakes_end_in_one_line_and_write_nothing(harness, tmp_path, arguments, message):
    code, _, err = harness(*arguments)
    assert code == 2
    assert message in err
    assert err.count("\n") == 1
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


def test_what_would_end_a_run_late_ends_it_before_it_writes(harness, dataset, tmp_path):
    card = (dataset / "tiny.yaml").read_text()
    (dataset / "tiny.yaml").write_text(card.replace("[accuracy,", "[acuracy,"))
    words = ["run", "--tasks", dataset / "tiny.yaml", "--models", "majority", "--out", "out"]
    code, _, err = harness(*words)
    assert (code, err) == (2, "harness: unknown metric 'acuracy'; did you mean accuracy or accuracy_artemis?\n")
    (dataset / "tiny.yaml").write_text(card)
    examples = (dataset / "examples.jsonl").read_text()
    (dataset / "examples.jsonl").write_text(examples.replace('"train"', '"val"'))
    code, _, err = harness(*words)
    assert (code, err) == (2, "harness: model 'majority' needs training examples; task 'tiny' has no split 'train'\n")
    assert not (tmp_path / "out").exists()


def test_a_file_is_no_run_folder(harness, tmp_path):
    (tmp_path / "out").write_text("mine")
    (tmp_path / "mine.jsonl").write_text("")
    demo = ["--tasks", "demo", "--models", "majority"]
    for words in (["run", *demo], ["score", "--task", "demo", "--outcomes", "mine.jsonl"]):
        code, _, err = harness(*words, "--out", "out")
        assert (code, err) == (2, "harness: --out out: is a file, expected a folder\n")
    assert (tmp_path / "out").read_text() == "mine"


def test_a_file_is_no_data_root(harness, tmp_path):
    (tmp_path / "root").write_text("mine")
    prepare = ["data", "prepare", "artemis", "--annotations", ".", "--images", "."]
    for words in (
        ["run", "--tasks", "demo", "--models", "majority"],
        ["data", "check", "artemis"],
        prepare,
        ["doctor"],
    ):
        code, _, err = harness(*words, "--data-root", "root")
        assert (code, err.count("\n"), "is a file, expected a folder" in err) == (2, 1, True)
    assert [path.name for path in tmp_path.iterdir()] == ["root"]


def test_the_report_opens_from_a_relative_folder(harness, dataset, tmp_path, monkeypatch):
    opened = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    words = ["run", "--tasks", dataset / "tiny.yaml", "--models", "majority", "--out", "out", "--open"]
    code, _, err = harness(*words)
    assert code == 0, err
    assert opened == [(tmp_path / "out/report/index.html").as_uri()]


def test_dry_run_writes_nothing(harness, dataset, adapter_file, tmp_path):
    before = sorted(tmp_path.iterdir())
    code, out, _ = run_tiny(harness, dataset, adapter_file, "--dry-run", "--controls", "blank")
    assert code == 0
    assert "brightness@blank (brightness): 0 done, 8 to ask" in out
    assert sorted(tmp_path.iterdir()) == before


def test_ids_file_and_config(harness, dataset, adapter_file, tmp_path):
    (tmp_path / "ids.txt").write_text("\ufeffp2\np7\n", encoding="utf-8")
    (tmp_path / "options.yaml").write_text(
        f"tasks: [{dataset / 'tiny.yaml'}]\nmodels: majority\nids-file: ids.txt\nout: out\n"
    )
    code, _out, err = harness("run", "--config", "options.yaml")
    assert code == 0, err
    assert [line["id"] for line in outcome_lines(tmp_path, "majority")] == ["p2", "p7"]
    (tmp_path / "options.yaml").write_text("taskz: [demo]\n")
    code, _, err = harness("run", "--config", "options.yaml")
    assert (code, "did you mean tasks" in err) == (2, True)


def test_controls_hide_or_swap_the_picture(harness, dataset, adapter_file, tmp_path):
    code, _, err = run_tiny(harness, dataset, adapter_file, "--no-report", "--controls", "blank,shuffled")
    assert code == 0, err
    assert {line["emotion"] for line in outcome_lines(tmp_path, "brightness@blank")} == {"joy"}  # grey is 127
    cells = json.loads((tmp_path / "out/results.json").read_text())["cells"]
    assert {c["control"] for c in cells} == {None, "blank", "shuffled"}


def test_outcomes_made_elsewhere_are_scored(harness, dataset, adapter_file, tmp_path):
    lines = [{"id": f"p{i}", "emotion": "joy", "explanation": "it is bright"} for i in (1, 2, 4, 5, 7, 8, 10)]
    (tmp_path / "mine.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    score = ["score", "--task", dataset / "tiny.yaml", "--outcomes", "theirs=mine.jsonl"]
    code, _, err = harness(*score, "--out", "scored")
    assert code == 0, err
    assert '1 of 8 examples missing, counted as failed: "p11"' in err
    coverage = json.loads((tmp_path / "scored/results.json").read_text())["coverage"]
    assert [(c["model"], c["examples"], c["answered"], c["failed"]) for c in coverage] == [("theirs", 8, 7, 1)]
    (tmp_path / "mine.jsonl").write_text("".join(json.dumps(lines[0]) + "\n" for _ in range(2)))
    assert "twice or more" in harness(*score, "--out", "again")[2]
    (tmp_path / "mine.jsonl").write_text(json.dumps(lines[0] | {"id": "q"}) + "\n")
    assert "not in this task" in harness(*score, "--out", "again")[2]


def test_a_wrong_label_made_elsewhere_leaves_nothing_in_the_way(harness, dataset, tmp_path):
    """The mended file is scored by the same command; its path may hold an equals sign."""
    lines = [{"id": f"p{i}", "emotion": "joy", "explanation": "it is bright"} for i in (1, 2, 4, 5, 7, 8, 10, 11)]
    (tmp_path / "lr=1").mkdir()
    mine = tmp_path / "lr=1" / "mine.jsonl"
    mine.write_text("".join(json.dumps(line | {"emotion": "bliss"}) + "\n" for line in lines))
    words = ["score", "--task", dataset / "tiny.yaml", "--outcomes", "lr=1/mine.jsonl", "--out", "out", "--no-report"]
    code, _, err = harness(*words)
    assert (code, "no label is one of" in err, "'bliss'" in err) == (2, True, True)
    assert not (tmp_path / "out").exists()
    mine.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert harness(*words)[0] == 0
    assert json.loads((tmp_path / "out/results.json").read_text())["coverage"][0]["model"] == "mine"


def test_scoring_outcomes_made_elsewhere_can_be_repeated(harness, dataset, tmp_path, monkeypatch):
    lines = [{"id": f"p{i}", "emotion": "joy", "explanation": "it is bright"} for i in (1, 2, 4, 5, 7, 8, 10, 11)]
    (tmp_path / "mine.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    words = ["score", "--task", dataset / "tiny.yaml", "--outcomes", "mine.jsonl", "--out", "out"]
    for step in ("RunFolder.save_examples", "RunFolder.save_results"):
        with monkeypatch.context() as patch:
            patch.setattr(f"harness.store.run_folder.{step}", interrupt)
            code, _, err = harness(*words)
            assert (code, "rerun the same command to resume" in err) == (130, True)
    code, _, err = harness(*words)
    assert code == 0, err
    before = (tmp_path / "out/results.json").read_bytes()
    assert harness(*words)[0] == harness("doctor", "out")[0] == 0
    assert (tmp_path / "out/results.json").read_bytes() == before
    (tmp_path / "mine.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines[1:]))
    code, _, err = harness(*words)
    assert (code, "holds other outcomes than mine.jsonl" in err) == (2, True)
    assert "holds another run" in harness(*words[:4], "theirs=mine.jsonl", *words[5:])[2]


def interrupt(*_):
    raise KeyboardInterrupt


def test_several_runs_become_one_report(harness, dataset, adapter_file, tmp_path):
    for model in ("majority", "human"):
        assert harness("run", "--tasks", dataset / "tiny.yaml", "--models", model, "--out", model)[0] == 0
    code, _out, err = harness("report", "majority", "human", "--out", "both")
    assert code == 0, err
    page = (tmp_path / "both/index.html").read_text()
    assert "majority" in page
    assert "human" in page
    assert harness("report", "majority", "human")[0] == 2


def test_compare_prints_the_difference_with_its_sign(harness, dataset, adapter_file):
    run_tiny(harness, dataset, adapter_file, "--no-report")
    code, out, _ = harness("compare", "out", "--models", "brightness,majority")
    assert code == 0
    forward = next(line for line in out.splitlines() if " accuracy " in line)
    backward = next(
        line
        for line in harness("compare", "out", "--models", "majority,brightness")[1].splitlines()
        if " accuracy " in line
    )
    assert "+1.0000" in forward  # majority answers calm (a tie, first in order), which nobody chose most
    assert "-1.0000" in backward
    assert harness("compare", "out", "--models", "brightness,other")[0] == 2


def test_compared_numbers_stand_under_their_headings_whatever_the_names():
    record = {
        "task": "paintings-of-the-north", "metric": "accuracy", "emotion": None, "a": "m" * 30, "b": "k",
        "difference": 0.5, "low": 0.25, "high": 0.75, "p": 0.01, "p_holm": 0.02, "n": 1234567,
    }  # fmt: skip
    heading, line, note = comparison_table([record], record["a"], "k").splitlines()
    for title, number in (
        (f"{'m' * 30} - k", "+0.5000"),
        ("95 % interval", "+0.7500]"),
        ("Holm", "0.0200"),
        ("n", "67"),
    ):
        assert heading.index(f"  {title}") + 2 + len(title) == line.rindex(number) + len(number)
    assert "fractions from 0 to 1" in note


def test_doctor_finds_a_damaged_run(harness, dataset, adapter_file, tmp_path):
    run_tiny(harness, dataset, adapter_file)
    assert harness("doctor", "out")[0] == 0
    path = tmp_path / "out/outcomes/tiny/majority.jsonl"
    path.write_text("\n".join(path.read_text().splitlines()[:-1]) + "\n")
    code, out, _ = harness("doctor", "out")
    assert code == 1
    assert 'tiny/majority: 7 outcomes; 1 missing ("p11")' in out
    assert "outcomes/tiny/majority.jsonl: is shorter than it was" in out


def test_doctor_tells_what_is_installed(harness):
    code, out, _ = harness("doctor")
    assert code == 0
    assert "Java" in out
    assert all(part in out for part in ("task demo: ", "78 train", "24 val", "72 test"))


@pytest.mark.slow
def test_two_processes_cannot_share_a_run_folder(harness, dataset, adapter_file, tmp_path):
    run_tiny(harness, dataset, adapter_file, "--limit", 2)
    holder = subprocess.Popen(
        [sys.executable, "-c", "import sys, time; from filelock import FileLock; lock = FileLock(sys.argv[1]); lock.acquire(); print('held', flush=True); time.sleep(60)", "out/.lock"],
        cwd=tmp_path, stdout=subprocess.PIPE,
    )  # fmt: skip
    try:
        holder.stdout.readline()
        code, _, err = run_tiny(harness, dataset, adapter_file)
        assert (code, "another harness process" in err) == (2, True)
    finally:
        holder.kill()
        holder.wait()
    assert run_tiny(harness, dataset, adapter_file)[0] == 0


def test_an_interrupted_run_exits_130_and_resumes(harness, dataset, adapter_file, tmp_path):
    adapter_file.write_text(
        adapter_file.read_text().replace(
            "for item in items:", "for item in items:\n            if item.id == 'p7': raise KeyboardInterrupt"
        )
    )
    arguments = ["--batch-size", 1]
    code, _, err = run_tiny(harness, dataset, adapter_file, "--no-report", *arguments)
    assert code == 130
    assert "rerun the same command to resume" in err
    assert [line["id"] for line in outcome_lines(tmp_path)] == ["p1", "p2", "p4", "p5"]
    adapter_file.write_text(adapter_file.read_text().replace("raise KeyboardInterrupt", "pass"))
    sys.modules.pop("adapter_file_brightness")
    assert run_tiny(harness, dataset, adapter_file, "--no-report", *arguments)[0] == 0
    assert len(outcome_lines(tmp_path)) == 8


def test_a_run_is_resumed_in_the_precision_that_it_was_begun_in(harness, dataset, adapter_file, tmp_path, monkeypatch):
    said = "    def runtime_info(self): return {'dtype': os.environ['PRECISION']}\n\n    def predict("
    adapter = "import os\n" + adapter_file.read_text().replace("    def predict(", said)
    stops = "for item in items:\n            if item.id == 'p7': raise KeyboardInterrupt"
    adapter_file.write_text(adapter.replace("for item in items:", stops))
    monkeypatch.setenv("PRECISION", "bfloat16")
    assert run_tiny(harness, dataset, adapter_file, "--no-report", "--batch-size", 1)[0] == 130
    adapter_file.write_text(adapter)
    for precision, expected in (("float32", 2), ("bfloat16", 0)):
        sys.modules.pop("adapter_file_brightness")
        monkeypatch.setenv("PRECISION", precision)
        code, _, err = run_tiny(harness, dataset, adapter_file, "--no-report", "--batch-size", 1)
        assert code == expected, err
        assert expected == 0 or "computes in float32 on this device, and in bfloat16 where the run was begun" in err
        assert len(outcome_lines(tmp_path)) == (8 if expected == 0 else 4)


def test_no_secret_reaches_a_file(harness, dataset, adapter_file, tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test-0123456789abcdef")
    adapter_file.write_text(
        adapter_file.read_text().replace(
            "light = ", "raise RuntimeError('key sk-test-0123456789abcdef refused'); light = "
        )
    )
    assert run_tiny(harness, dataset, adapter_file)[0] == 1
    for path in (tmp_path / "out").rglob("*"):
        if path.is_file():
            assert b"0123456789abcdef" not in path.read_bytes(), path


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [["--help"], ["list", "tasks"], ["list", "models"], ["list", "metrics"]])
def test_help_and_lists_import_nothing_heavy(arguments):
    code = (
        "import sys\nfrom harness.cli import main\n"
        "try:\n    main(sys.argv[1:])\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'transformers', 'pandas', 'sklearn'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)\n"
    )
    subprocess.run([sys.executable, "-c", code, *arguments], check=True, capture_output=True)


def test_version(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out.startswith("harness ")


@pytest.mark.parametrize(
    ("model", "keys"),
    [
        ("sevlm", {field.name for part in (TrainingConfig, SEVLMConfig) for field in dataclasses.fields(part)}),
        ("llava", {"checkpoint", "rank", "alpha", "quantization", "learning_rate", "save_every"}),
        ("text-emotion", {"kind", "width", "min_count", "longest", "encoder"}),
        ("majority", set()),
    ],
)
def test_the_help_of_training_lists_every_key(model, keys, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["train", model, "--help"])
    assert ended.value.code == 0
    listed = {line.strip().partition("=")[0] for line in capsys.readouterr().out.splitlines() if "=" in line}
    assert keys <= listed


def test_training_settings_may_stand_anywhere():
    for command in (
        ["train", "sevlm", "a=1", "b=x", "--task", "demo"],
        ["train", "sevlm", "--task", "demo", "a=1", "b=x"],
        ["train", "sevlm", "a=1", "--task", "demo", "b=x"],
    ):
        assert parse_settings(parse(command).settings) == {"a": 1, "b": "x"}
    with pytest.raises(UserError, match="unknown argument '--tusk'"):
        parse(["train", "sevlm", "--tusk", "demo", "--task", "demo"])


def test_every_verb_has_help():
    parser = build_parser()
    assert parser.format_help().count("\n  harness ") >= 6


def command(words, folder, **environment):
    return [sys.executable, "-m", "harness", *map(str, words)], {
        "cwd": folder, "env": os.environ | {"PYTHONPATH": str(REPOSITORY)} | environment
    }  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    "environment",
    [
        {"PYTHONIOENCODING": "cp1252"},
        {"PYTHONIOENCODING": "ascii"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    ],
)
def test_the_encoding_of_the_output_changes_no_exit_code(harness, dataset, adapter_file, tmp_path, environment):
    assert run_tiny(harness, dataset, adapter_file, "--no-report")[0] == 0
    words, settings = command(["score", "out", "--no-report"], tmp_path, **environment)
    done = subprocess.run(words, **settings, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert b"Accuracy ?" in done.stdout


@pytest.mark.slow
def test_a_reader_that_has_gone_ends_the_output_quietly(tmp_path):
    words, settings = command(["list", "metrics"], tmp_path)
    with subprocess.Popen(words, **settings, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        told = process.stderr.read()
    assert (process.returncode, told) == (0, b"")


@pytest.mark.parametrize(
    ("given", "spins"), [({}, SPINS), ({"GOMP_SPINCOUNT": "5"}, "5"), ({"OMP_WAIT_POLICY": "active"}, None)]
)
def test_threads_give_their_cores_up_soon_unless_the_user_says_how_they_wait(monkeypatch, given, spins):
    for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "OPENBLAS_THREAD_TIMEOUT"):
        monkeypatch.setenv(name, "")  # so that it is put back
        monkeypatch.delenv(name)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    assert main(["list", "metrics"]) == 0
    assert os.environ.get("GOMP_SPINCOUNT") == spins
    assert os.environ["OPENBLAS_THREAD_TIMEOUT"] == "4"
