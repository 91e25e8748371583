"""Independent checks of metrics that need a classifier, a lexicon, an encoder or a program of their own."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from metric_checks import checks, evaluate
from metric_rows import EMOTIONS, ContextFor, Given, golden_rows, make_row, with_reader
from PIL import Image
from transformers import AutoModel, AutoTokenizer, CLIPImageProcessorPil, CLIPModel

from harness.tasks.metrics import java, spice
from harness.tasks.metrics.alignment import EmotionReader
from harness.tasks.metrics.base import ScoredExample, Unavailable
from harness.tasks.metrics.clip import ImageTextSimilarity
from harness.tasks.metrics.similarity import TextSimilarity
from harness.tasks.metrics.triggers import SentenceEncoder
from harness.types import Answer, Refusal


@checks("bert_score")
def _bert_score(name: str, panel: list[ScoredExample], context_for: ContextFor, _: Any) -> None:
    """Greedy matching of the encoder's last layer, spelled out, for each pair alone; marks may be matched, but weigh 0."""
    pytest.importorskip("bert_score")
    rows = [row for row in panel[:8] if row.explanation]
    context = context_for(rows)
    similarity = context.find(TextSimilarity)
    assert similarity is not None
    folder = similarity._name
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()

    @torch.no_grad()
    def embed(text: str) -> torch.Tensor:
        states = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0]
        return torch.nn.functional.normalize(states, dim=-1)

    def f1(candidate: str, reference: str) -> float:
        cosines = embed(candidate) @ embed(reference).T
        precision, recall = (side[1:-1].mean() for side in (cosines.max(1).values, cosines.max(0).values))
        return float(2 * precision * recall / (precision + recall))

    best = [max(f1(row.explanation or "", a.explanation) for a in row.references) for row in rows]
    assert evaluate(name, rows, context) == pytest.approx(np.mean(best), abs=2e-5)


@checks("clip_score", "ref_clip_score")
def _clip(name: str, panel: list[ScoredExample], context_for: ContextFor, _: Any) -> None:
    """One image and one text at a time: CLIP's own logits without their scale; texts by its text tower alone.

    (Torchmetrics' clip_score does not run with this transformers.)
    """
    rows = [row for row in panel[:12] if row.explanation]
    context = context_for(rows)
    clip = context.find(ImageTextSimilarity)
    assert clip is not None
    folder = clip._name
    tokenizer, pictures = AutoTokenizer.from_pretrained(folder), CLIPImageProcessorPil.from_pretrained(folder)
    model = CLIPModel.from_pretrained(folder)

    @torch.no_grad()
    def of_image(path: Path, text: str) -> float:
        shown = pictures(images=[Image.open(path)], return_tensors="pt")
        return float(
            model(**tokenizer([text], return_tensors="pt"), **shown).logits_per_image / model.logit_scale.exp()
        )

    @torch.no_grad()
    def of_texts(one: str, other: str) -> float:
        states = [model.text_model(**tokenizer([text], return_tensors="pt")).pooler_output for text in (one, other)]
        return float(torch.cosine_similarity(*map(model.text_projection, states)))

    expected = []
    for row in rows:
        said = f"A photo depicts {row.explanation}"
        score = 2.5 * max(of_image(row.example.image, said), 0)
        if name == "ref_clip_score":
            near = max(0.0, *(of_texts(f"A photo depicts {a.explanation}", said) for a in row.references))
            score = 2 / (1 / score + 1 / near) if score and near else 0.0
        expected.append(score)
    assert min(expected) < np.mean(expected) < max(expected)
    assert evaluate(name, rows, context) == pytest.approx(np.mean(expected), abs=1e-5)


@checks("trigger_recall")
def _trigger_recall(name: str, panel: list[ScoredExample], context_for: ContextFor, _: Any) -> None:
    """Counted trigger by trigger over clauses cut by hand, each text encoded alone."""
    said = ["wind over old stones, and the sea looks grey", "a dream; light because the wind looks calm", "sea"]
    parts = [
        [said[0], "wind over old stones", "the sea looks grey"],
        [said[1], "a dream", "light", "the wind looks calm"],
        [said[2]],
    ]
    triggers = [["old stones", "xyz q", "the grey sea"], ["qqq", "a calm dream"], ["sea", "jazz"]]
    rows = [make_row(Answer("awe", text), ["awe"] * len(t), t) for text, t in zip(said, triggers, strict=True)]
    context = context_for(rows)
    encoder = context.find(SentenceEncoder)
    assert encoder is not None
    folder = encoder._name
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()

    @torch.no_grad()
    def embed(text: str) -> torch.Tensor:
        return model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0].mean(0)

    def near(one: str, other: str) -> bool:
        return float(torch.cosine_similarity(embed(one), embed(other), dim=0)) >= encoder.found_from

    named = [any(near(t, part) for part in some) for own, some in zip(triggers, parts, strict=True) for t in own]
    assert 0 < sum(named) < len(named) == 7, named
    assert evaluate(name, rows, context) == pytest.approx(sum(named) / 7)


@checks("spice")
def _spice(
    name: str, _: list[ScoredExample], context_for: ContextFor, __: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The jar comes with no package: a stand-in program answers in its format, in another order than it was asked."""
    (tmp_path / "spice-1.0.jar").touch()
    program = tmp_path / "java"
    program.write_text(
        f"#!{sys.executable}\nimport json, sys\nasked = json.load(open(sys.argv[6]))\n"
        "found = [{'image_id': q['image_id'], 'scores': {'All': {'f': len(q['refs']) / 4}}} for q in asked]\n"
        "json.dump(found[::-1], open(sys.argv[sys.argv.index('-out') + 1], 'w'))\n"
    )
    program.chmod(0o755)
    monkeypatch.setattr(java, "find_java", lambda: str(program))
    monkeypatch.setattr(spice, "find_java", lambda: str(program))
    rows = [make_row(Answer("awe", text), ["awe"] * n) for text, n in (("a\nsea", 1), ("sky", 4))]
    monkeypatch.delenv(spice.VARIABLE, raising=False)
    with pytest.raises(Unavailable, match="SPICE's jars are not installed"):
        evaluate(name, rows, context_for(rows))
    monkeypatch.setenv(spice.VARIABLE, str(tmp_path))
    assert evaluate(name, rows, context_for(rows)) == pytest.approx((0.25 + 1.0) / 2)


@checks("emotional_alignment", "ea_cross_entropy")
def _alignment(name: str, _: list[ScoredExample], context_for: ContextFor, golden: dict[str, Any]) -> None:
    """Recorded from the official code, given the classifier's logits."""
    recorded = golden["expected"]["emotional_alignment"]
    items = [item | {"candidate": item["candidate"].lower()} for item in golden["sentences"]["items"]]
    rows = golden_rows(items)
    logits = {item["candidate"]: given for item, given in zip(items, recorded["logits"], strict=True)}
    context = with_reader(context_for(rows), EmotionReader(lambda: Given(logits)))
    if name == "ea_cross_entropy":
        assert evaluate(name, rows, context) == pytest.approx(recorded["cross_entropy"], abs=1e-6)
        return
    assert evaluate(name, rows, context) == pytest.approx(recorded["accuracy"], abs=1e-6)
    plain = replace(context, task=replace(context.task, protocol="artemis-plain"))
    assert evaluate(name, rows, plain) == pytest.approx(recorded["accuracy_with_artemis_dominant"], abs=1e-6)


@checks("consistency")
def _consistency(name: str, _: list[ScoredExample], context_for: ContextFor, __: Any) -> None:
    """Three texts are read as fear, awe and fear; an empty one as nothing; a refusal does not count."""
    fear, awe = ([9.0 * (e == label) for e in EMOTIONS] for label in ("fear", "awe"))
    texts = {"dark": fear, "vast": awe, "storm": fear, "": awe}
    rows = [make_row(Answer("fear" if t != "" else "awe", t), ["awe"]) for t in texts] + [make_row(Refusal(), ["awe"])]
    context = with_reader(context_for(rows), EmotionReader(lambda: Given(texts)))
    assert evaluate(name, rows, context) == pytest.approx(2 / 4)


VAD_TEXTS = (
    ("The SEA is calm!", ["dark wind", "sea"]),
    ("dark wind", ["stones", "nothing known"]),
    ("calm", ["a dream", "sea, sea, dark"]),
    ("nothing known", ["sea"]),
    ("wind", ["no such word"]),
)
VAD_MEANS = {
    "v": ([0.65, -0.25, 0.8], [(-0.25 + 0.5) / 2, -0.1, (0.6 + 0.4 / 3) / 2]),
    "a": ([-0.55, 0.35, -0.9], [(0.35 - 0.2) / 2, -0.4, (-0.1 - 0.1) / 2]),
    "d": ([0.2, -0.2, 0.3], [(-0.2 + 0.1) / 2, 0.2, (-0.3 - 0.2 / 3) / 2]),
}
"""Means of explanations and of references by the made-up lexicon, for the three paintings where both are known."""


@checks(*(f"vad_{kind}_{d}" for kind in ("error", "ccc") for d in "vad"))
def _word_affect(name: str, _: list[ScoredExample], context_for: ContextFor, __: Any) -> None:
    rows = [make_row(Answer("awe", own), ["awe"] * len(refs), refs) for own, refs in VAD_TEXTS]
    own, theirs = map(np.array, VAD_MEANS[name[-1]])
    error, cov = np.abs(own - theirs).mean(), np.cov(own, theirs, ddof=0)
    ccc = 2 * cov[0, 1] / (cov[0, 0] + cov[1, 1] + (own.mean() - theirs.mean()) ** 2)
    assert evaluate(name, rows, context_for(rows)) == pytest.approx(error if "error" in name else ccc, abs=1e-12)


@checks("vad_coverage")
def _word_coverage(name: str, _: list[ScoredExample], context_for: ContextFor, __: Any) -> None:
    """2 of 4, 2 of 2, 1 of 1, 0 of 2 and 1 of 1 words."""
    rows = [make_row(Answer("awe", own), ["awe"] * len(refs), refs) for own, refs in VAD_TEXTS]
    assert evaluate(name, rows, context_for(rows)) == pytest.approx((0.5 + 1 + 1 + 0 + 1) / 5)
