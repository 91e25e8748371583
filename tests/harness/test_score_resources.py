"""What scoring is given besides outcomes, through the command line: classifier, lexicon, what Java said before."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny_models
from safetensors.torch import load_file, save_file

from harness.score.resources import sentence_encoder, text_similarity, word_affect
from harness.types import UserError

pytestmark = pytest.mark.slow

Harness = Callable[..., tuple[int, str, str]]
METRICS = "metrics: [emotional_alignment, consistency, vad_error_v, vad_error_a, vad_coverage, bert_score, clip_score, trigger_recall]\n"


@pytest.fixture
def card(dataset: Path) -> Path:
    """The tiny task, with metrics that need resources."""
    path = dataset / "tiny.yaml"
    lines = [line for line in path.read_text().splitlines(keepends=True) if not line.startswith("metrics")]
    path.write_text("".join(lines) + METRICS)
    return path


def cells(run: Path, metric: str) -> list[dict[str, Any]]:
    return [c for c in json.loads((run / "results.json").read_text())["cells"] if c["metric"] == metric]


def overall(run: Path, metric: str) -> dict[str, Any]:
    return next(c for c in cells(run, metric) if c["emotion"] is None and c["references"] == "all")


def test_the_default_classifier_is_trained_once_and_named(harness: Harness, card: Path, tmp_path: Path) -> None:
    arguments = ["run", "--tasks", card, "--models", "majority", "--data-root", tmp_path / "data", "--no-report"]
    code, _, said = harness(*arguments, "--out", tmp_path / "run")
    assert code == 0
    assert "tiny: training the text-emotion classifier" in said
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    (record,) = results["classifiers"]
    assert (record["task"], record["kind"], record["train_utterances"]) == ("tiny", "tfidf", 12)
    signature = overall(tmp_path / "run", "emotional_alignment")["signature"]
    assert f"clf:tfidf-{record['sha256'][:8]}|clf_acc:{record['test_accuracy']:.4f}(n=24)" in signature
    code, _, said = harness("score", tmp_path / "run", "--no-report")
    assert (code, "training" in said) == (0, False)
    assert json.loads((tmp_path / "run" / "results.json").read_text())["classifiers"] == [record]


def test_what_was_read_from_each_explanation_is_kept(harness: Harness, card: Path, tmp_path: Path) -> None:
    """The lines are what an independent reading by the same classifier gives, and their mean is the metric."""
    from harness.tasks.text_emotion.checkpoint import load

    data = tmp_path / "data"
    arguments = ["run", "--tasks", card, "--models", "majority,human", "--data-root", data, "--no-report"]
    assert harness(*arguments, "--out", tmp_path / "run")[0] == 0
    classifier = load(next((data / "tiny" / "text-emotion").iterdir()))
    for model in ("majority", "human"):
        answers = {
            line["id"]: line
            for line in map(json.loads, (tmp_path / f"run/outcomes/tiny/{model}.jsonl").read_text().splitlines())
        }
        found = [json.loads(line) for line in (tmp_path / f"run/scores/tiny/{model}.jsonl").read_text().splitlines()]
        texts = [answers[line["id"]]["explanation"] for line in found]
        read = [classifier.labels[i] for i in classifier.probabilities(texts).argmax(axis=1)]
        assert [line["explanation_emotion"] for line in found] == read
        same = [answers[line["id"]]["emotion"] == label for line, label in zip(found, read, strict=True)]
        assert [line["consistent"] for line in found] == same
        main = "all" if model == "majority" else "leave_one_out"
        (cell,) = [
            c
            for c in cells(tmp_path / "run", "consistency")
            if (c["model"], c["references"], c["emotion"]) == (model, main, None)
        ]
        assert (cell["n"], cell["value"]) == (len(found), pytest.approx(sum(same) / len(same)))


def test_without_the_metric_nothing_is_read(harness: Harness, card: Path, tmp_path: Path) -> None:
    card.write_text(card.read_text().replace("consistency, ", ""))
    arguments = ["run", "--tasks", card, "--models", "majority", "--data-root", tmp_path / "data", "--no-report"]
    assert harness(*arguments, "--out", tmp_path / "run")[0] == 0
    assert not (tmp_path / "run" / "scores").exists()


def test_a_trained_classifier_is_used_instead(harness: Harness, card: Path, tmp_path: Path) -> None:
    data = ["--data-root", tmp_path / "data"]
    code, out, _ = harness("train", "text-emotion", "--task", card, *data, "min_count=1", "inverse_penalty=9")
    assert code == 0
    assert str(tmp_path / "data" / "tiny" / "checkpoints" / "text-emotion") in out
    assert "tfidf, trained on 12 utterances: reads" in out
    code, _, said = harness(
        "run", "--tasks", card, "--models", "majority", *data, "--out", tmp_path / "run", "--no-report"
    )
    assert (code, "training the text" in said) == (0, False)
    (record,) = json.loads((tmp_path / "run" / "results.json").read_text())["classifiers"]
    assert record["settings"]["inverse_penalty"] == 9.0


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["epochs=3"], "kind=tfidf: unknown setting 'epochs'"),
        (["kind=svm"], "expected one of tfidf, lstm, encoder"),
        (["--config", "x.yaml"], "--config has no meaning here"),
    ],
)
def test_training_mistakes_are_one_line(
    harness: Harness, card: Path, tmp_path: Path, more: list[str], message: str
) -> None:
    code, _, said = harness("train", "text-emotion", "--task", card, "--data-root", tmp_path / "data", *more)
    assert (code, said.count("\n")) == (2, 1)
    assert message in said


def test_a_lexicon_file_is_remembered_and_its_plane_recorded(harness: Harness, card: Path, tmp_path: Path) -> None:
    run, data = tmp_path / "run", ["--data-root", tmp_path / "data"]
    assert harness("run", "--tasks", card, "--models", "majority", *data, "--out", run, "--no-report")[0] == 0
    (missing,) = cells(run, "vad_error_a")
    assert missing["unavailable"] == ("the lexicon vader does not measure arousal; give another with --lexicon FILE")
    lexicon = tmp_path / "lexicon.txt"
    lexicon.write_text(
        "term\tvalence\tarousal\tdominance\nbright\t0.9\t0.2\t0.1\ndark\t-0.8\t0.4\t0\nstone\t0\t-1\t0\npicture\t0.1\t0\t0\n"
    )
    for arguments in (["--lexicon", lexicon], []):  # the second time it is known
        assert harness("score", run, "--no-report", *arguments)[0] == 0
        found = overall(run, "vad_error_a")
        assert found["value"] is not None
        assert "lexicon:nrc-vad" in found["signature"]
    planes = json.loads((run / "results.json").read_text())["planes"]
    theirs = {p["emotion"]: p for p in planes if p["model"] is None}
    assert theirs["joy"]["n"] == theirs["fear"]["n"] == 8
    # half of the joyful texts are bright, half speak of stone
    assert theirs["joy"]["valence"] == pytest.approx((0.9 + 0.0) / 2)
    assert theirs["joy"]["arousal"] == pytest.approx((0.2 - 1.0) / 2)
    assert theirs["calm"] == {
        **theirs["calm"],
        "valence": pytest.approx(0.1),
        "arousal": 0.0,
        "n": 8,
        "lexicon": "nrc-vad-bipolar",
    }
    assert {p["model"] for p in planes} == {None, "majority"}


def test_what_was_not_chosen_says_how_to_choose_it(harness: Harness, card: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    arguments = ["--models", "majority", "--data-root", tmp_path / "data", "--out", run, "--no-report"]
    assert harness("run", "--tasks", card, *arguments)[0] == 0
    (only,) = cells(run, "bert_score")
    assert only["unavailable"].startswith("no encoder was chosen; type: harness score RUN --bert-score")
    assert harness("score", run, "--lexicon", tmp_path / "none.txt")[0] == 2
    assert harness("score", run, "--bert-score", "model:last")[0] == 2


def test_a_clip_is_remembered_and_its_scores_carry_a_warning(
    harness: Harness, card: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, model = tmp_path / "run", tmp_path / "clip"
    tiny_models.clip(model)
    arguments = ["--models", "majority", "--data-root", tmp_path / "data", "--out", run, "--no-report"]
    assert harness("run", "--tasks", card, *arguments)[0] == 0
    (only,) = cells(run, "clip_score")
    assert only["unavailable"] == "no CLIP was chosen; type: harness score RUN --clip FOLDER|HUB_ID"
    warning = "do not follow what people prefer among emotional explanations (Socratis 2023)"
    monkeypatch.chdir(tmp_path)
    assert harness("score", run, "--clip", "clip")[0] == 0
    chosen = overall(run, "clip_score")
    assert 0 <= chosen["value"] <= 2.5
    assert f"clip:clip@{digest(model)[:8]}|prefix:A_photo_depicts" in chosen["signature"]
    assert warning in (run / "report" / "index.html").read_text()
    monkeypatch.chdir(run)
    assert harness("score", run)[0] == 0  # remembered, and found from anywhere
    assert overall(run, "clip_score")["value"] == chosen["value"]
    assert harness("score", run, "--clip", tmp_path / "none", "--no-report")[0] == 0
    assert "cannot be loaded" in cells(run, "clip_score")[0]["unavailable"]


def digest(folder: Path) -> str:
    return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()


def test_triggers_are_counted_by_the_encoder_that_was_named(harness: Harness, card: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    arguments = ["--models", "majority", "--data-root", tmp_path / "data", "--out", run, "--no-report"]
    assert harness("run", "--tasks", card, *arguments)[0] == 0
    assert "type: harness score RUN --sentence-encoder" in cells(run, "trigger_recall")[0]["unavailable"]
    assert harness("score", run, "--sentence-encoder", "model:2", "--no-report")[0] == 2
    assert sentence_encoder("org/model:0.7").found_from == 0.7  # type: ignore[union-attr]
    assert sentence_encoder("folder:x/model").found_from == 0.5  # type: ignore[union-attr]


def test_lexicons_and_encoders_are_read_strictly(tmp_path: Path) -> None:
    vader = word_affect(None)
    assert (vader.name, vader.dimensions) == ("vader", ("valence",))
    assert vader.means("Happy!")[0] > 0.5
    (tmp_path / "words.txt").write_text("not a lexicon")
    with pytest.raises(UserError):
        word_affect(str(tmp_path / "words.txt"))
    assert text_similarity(None) is None
    with pytest.raises(UserError, match="expected MODEL or MODEL:LAYER"):
        text_similarity("model:0")


def test_the_scale_of_a_lexicon_may_be_named(harness: Harness, card: Path, tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("bright\t0.9\t0.2\t0.3\n")
    run = tmp_path / "run"
    arguments = ["run", "--tasks", card, "--models", "majority", "--data-root", tmp_path / "data", "--out", run]
    code, _, said = harness(*arguments, "--no-report", "--lexicon", f"{tmp_path / 'words.txt'}:scale=-1..1")
    assert code == 0
    assert "1 words, read as nrc-vad-bipolar" in said
    assert harness("score", run, "--no-report", "--lexicon", f"{tmp_path / 'none.txt'}:scale=-1..1")[0] == 2


def test_how_a_lexicon_is_read_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "words.txt").write_text("term\tvalence\tarousal\tdominance\ncalm\t0.85\t0.1\t0.55\n")
    found = word_affect(str(tmp_path / "words.txt"))
    assert found.entries["calm"] == pytest.approx((0.7, -0.8, 0.1))
    assert "words.txt: 1 words, read as nrc-vad-0-1" in capsys.readouterr().err


def test_a_model_of_another_kind_scores_nothing(harness: Harness, card: Path, tmp_path: Path) -> None:
    """transformers would make a CLIP of random weights from any folder with a tokeniser and an image preprocessing."""
    clip, siglip = tmp_path / "clip", tmp_path / "siglip"
    for folder in (clip, siglip):
        tiny_models.clip(folder)
    weights = load_file(siglip / "model.safetensors")
    save_file(
        {f"other.{name}": tensor for name, tensor in weights.items()}, siglip / "model.safetensors", {"format": "pt"}
    )
    run = tmp_path / "run"
    arguments = ["--models", "majority", "--data-root", tmp_path / "data", "--out", run, "--no-report"]
    assert harness("run", "--tasks", card, *arguments)[0] == 0
    assert harness("score", run, "--clip", siglip, "--sentence-encoder", clip, "--no-report")[0] == 0
    assert "weights are missing" in cells(run, "clip_score")[0]["unavailable"]
    assert "sentence encoder clip@" in cells(run, "trigger_recall")[0]["unavailable"]
    assert "cannot be used" in cells(run, "trigger_recall")[0]["unavailable"]
