"""Every recorded value of the official code is reproduced, and a changed one is noticed."""

from __future__ import annotations

import copy
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from metric_rows import GOLDEN
from recorded_checks import SECTIONS
from recorded_scores import compare_set, difference, main

from harness.tasks.metrics import meteor
from harness.tasks.metrics.caption_engine import CaptionEngine
from harness.tasks.metrics.meteor import MeteorProcess

LEAVES = {
    "ptb": ("corpus.METEOR", "per_item.CIDEr", "tokenized_references", "per_item.METEOR"),
    "raw_no_ptb": ("corpus.Bleu_4", "per_item.ROUGE_L"),
    "edge": ("per_item.Bleu_1", "corpus.METEOR", "tokenized_candidates"),
    "emotional_alignment": ("accuracy", "cross_entropy", "predicted", "logits", "distributions"),
    "vocabulary": ("word2idx", "encoded_candidates_lower"),
    "metaphor": ("is_metaphor",),
    "lcs": ("max", "mean", "argmax", "mean_of_mean"),
    "apply_basic_evaluations": ("Metaphors.std", "max-LCS.mean", "mean-LCS.std", "Emo-Alignment-ACC.mean"),
}


def test_every_recorded_value_is_reproduced(golden: dict[str, Any], meteor_process: MeteorProcess) -> None:
    found = list(compare_set(golden["sentences"], golden["expected"], meteor_process))
    assert [str(c) for c in found if not c.is_ok] == []
    assert {c.name for c in found if c.skipped} == {"versions", "apply_basic_evaluations_args"}
    assert {c.name.partition(".")[0] for c in found if not c.skipped} == set(SECTIONS)
    assert len(found) > 80


def perturbed(value: Any) -> Any:
    """The value with its first number, string or truth value changed."""
    if isinstance(value, dict):
        first = next(iter(value))
        return value | {first: perturbed(value[first])}
    if isinstance(value, list):
        return [perturbed(value[0]), *value[1:]]
    if isinstance(value, bool):
        return not value
    return (
        value + "x" if isinstance(value, str) else value + (1 if isinstance(value, int) else 3e-6 + abs(value) * 1e-5)
    )


@pytest.mark.parametrize(("section", "path"), [(section, path) for section in LEAVES for path in LEAVES[section]])
def test_a_changed_value_is_noticed(
    golden: dict[str, Any], meteor_process: MeteorProcess, section: str, path: str
) -> None:
    expected = copy.deepcopy({section: golden["expected"][section]})
    expected.setdefault("emotional_alignment", golden["expected"]["emotional_alignment"])
    *folders, leaf = path.split(".")
    place = expected[section]
    for folder in folders:
        place = place[folder]
    place[leaf] = perturbed(place[leaf])
    if path == "logits":
        place[leaf][0] = [-logit for logit in place[leaf][0]]
    found = list(compare_set(golden["sentences"], expected, meteor_process))
    assert [c.name for c in found if not c.is_ok], path


def test_other_shapes_never_agree() -> None:
    assert difference([1.0, 2.0], [1.0]) == difference({"a": 1}, {"b": 1}) == difference("1", 1) == float("inf")
    assert difference(float("nan"), 1.0) == difference(None, 0.0) == float("inf")
    assert difference({"a": [1.0, 2.5]}, {"a": [1, 2]}) == 0.5


def test_plain_meteor_is_the_mean_of_recorded_scores(golden: dict[str, Any], meteor_process: MeteorProcess) -> None:
    expected = golden["expected"]["ptb"]
    candidates, references = expected["tokenized_candidates"], expected["tokenized_references"]
    engine = CaptionEngine("artemis-plain", references, meteor_process)
    scores = meteor.score(engine.meteor(candidates, references))
    np.testing.assert_allclose(scores, expected["per_item"]["METEOR"], atol=1e-6)


def test_the_command_on_a_set_without_meteor(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    expected = json.loads((GOLDEN / "expected.json").read_text("utf-8"))
    (tmp_path / "sentences.json").write_bytes((GOLDEN / "sentences.json").read_bytes())
    (tmp_path / "expected.json").write_text(json.dumps({"raw_no_ptb": expected["raw_no_ptb"], "lcs": expected["lcs"]}))
    assert main([str(tmp_path)]) == 0
    assert capsys.readouterr().out.endswith("all values reproduced\n")
    (tmp_path / "expected.json").write_text(json.dumps({"lcs": perturbed(expected["lcs"])}))
    assert main([str(tmp_path)]) == 1
    assert "FAIL lcs.max" in capsys.readouterr().out
    assert main([str(tmp_path / "nowhere")]) == 2
    assert main([]) == 2


def test_the_copy_is_the_set_that_was_handed_out() -> None:
    folder = Path(os.environ.get("HARNESS_GOLDEN", GOLDEN.parents[3].parent / "shared" / "golden")) / "metrics"
    if not folder.is_dir():
        pytest.skip(f"no goldens at {folder} (set HARNESS_GOLDEN)")
    for name in ("sentences.json", "expected.json"):
        assert json.loads((folder / name).read_text("utf-8")) == json.loads((GOLDEN / name).read_text("utf-8"))
