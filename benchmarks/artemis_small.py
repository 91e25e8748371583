"""SEVLM, its parts and its mends on real annotations, at a size that two CPU cores train in three minutes.

    python benchmarks/artemis_small.py select --work FOLDER [--folds 0,1]
    python benchmarks/artemis_small.py run --work FOLDER [--folds 0,1] [--systems nlx_gpt,improved]
    python benchmarks/artemis_small.py report --work FOLDER

Five folds by painting over the pictured paintings of the development data (`HARNESS_DEV_DATA`), frozen
EfficientNet-Lite0 features, the Glasgow norms, a small GPT-2 from scratch. What the improved mode chooses on validation
pictures (how much the label head counts beside the decoder, and the temperature of both) it chooses inside each fold:
`select` trains on a fold's training part and notes the pair of the lowest cross-entropy on its validation part. `run`
then trains each system on both parts, with that pair, and answers the test part. Each training appends one line to
FOLDER/outcomes.jsonl, and what is there already is left out; `report` pools the folds and writes aggregates to
results/artemis_small.json. FOLDER holds texts and must lie outside the repository.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import json
import os
import random
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from artemis_small_report import report
from machine import machine

from harness.adapters.linear import Columns, best_regression
from sevlm.checkpoint import SEVLM
from sevlm.data import TrainingExample
from sevlm.images import FeatureCache, FeatureStore, load_image_encoder
from sevlm.recipe import Recipe, load_recipe
from sevlm.train import train
from sevlm.vad import VADLookup, load_lexicon

DATA = Path(os.environ.get("HARNESS_DEV_DATA", Path(__file__).parents[2] / "shared" / "data"))
FOLDS, SEED, VALIDATION_SHARE = 5, 1, 0.25
LABELS = ("amusement", "awe", "contentment", "excitement", "anger", "disgust", "fear", "sadness", "something else")
SIZES: dict[str, Any] = {"n_layer": 3, "n_head": 4, "n_embd": 128, "tokenizer": "train:3000"}
TRAINING: dict[str, Any] = {
    **{"epochs": 6, "batch_pictures": 16, "dropout": 0.3, "weight_decay": 0.2, "contrastive_loss_weight": 0.05},
}
OFF = {"use_vad_features": False, "use_vad_head": False, "use_contrastive_head": False}
OFFICIAL = {"mode": "official", "lemmatizer": "simplemma", "max_length": 30, "max_new_tokens": 25}
IMPROVED: dict[str, Any] = {"image_dropout": 0.25, "label_meta": "style"}
TRAINED: dict[str, dict[str, Any]] = {
    "nlx_gpt": OFFICIAL | OFF,
    "vad_features": OFFICIAL | OFF | {"use_vad_features": True},
    "vad_head": OFFICIAL | OFF | {"use_vad_head": True},
    "contrastive_head": OFFICIAL | OFF | {"use_contrastive_head": True},
    "official": OFFICIAL,
    "improved": IMPROVED,
    "improved_without_meta": IMPROVED | {"label_meta": None},
    "improved_without_head": IMPROVED | {"use_label_head": False, "label_meta": None},
}
OUTCOMES = "outcomes.jsonl"
# Validation pictures are for the selection alone: no evaluation before the end.
UNEVALUATED = {"evaluate_every": 10**9}
ASKED_AGAIN: dict[str, dict[str, dict[str, Any]]] = {
    "official": {"official_without_repeats": {"no_repeat_ngram": 3}},
    "improved": {
        "improved_greedy": {"n_best": 1},
        "improved_greedy_with_repeats": {"n_best": 1, "no_repeat_ngram": 0},
        "improved_ranked_without_affect": {"rank_by_affect": 0.0},
        "improved_ranked_with_match": {"rank_by_match": 0.5},
    },
}
"""Ablations of how a trained system answers: the same weights, other settings."""
SELECTING = ("improved", "improved_without_meta")
CHOSEN = ("label_blend", "label_temperature")
BASELINES = ("majority", "nearest", "linear", "linear_style")


@dataclass(frozen=True)
class Options:
    """What the command line asks for."""

    work: Path
    folds: Sequence[int]
    systems: Sequence[str]
    device: str


def read_examples() -> list[TrainingExample]:
    """Paintings that have a picture, with all their annotations, in file order."""
    folder = DATA / "artemis"
    captions: dict[tuple[str, str], list[tuple[str, str]]] = defaultdict(list)
    with (folder / "artemis_dataset_release_v0.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            captions[row["art_style"], row["painting"]].append((row["emotion"], " ".join(row["utterance"].split())))
    examples = []
    for (style, painting), said in captions.items():
        picture = folder / "images" / style / f"{painting}.jpg"
        if picture.exists():
            lowered = tuple((emotion, text.lower()) for emotion, text in said)
            examples.append(TrainingExample(f"{style}/{painting}", picture, lowered, meta={"style": style}))
    return examples


def split(examples: Sequence[TrainingExample], fold: int) -> tuple[list[TrainingExample], ...]:
    """Training, validation and test paintings of a fold."""
    order = sorted(examples, key=lambda example: example.id)
    random.Random(SEED).shuffle(order)
    test = order[fold::FOLDS]
    rest = [example for index, example in enumerate(order) if index % FOLDS != fold]
    cut = round(VALIDATION_SHARE * len(rest))
    return rest[cut:], rest[:cut], test


def recipe(system: str, settings: dict[str, Any]) -> Recipe:
    """The small recipe with a system's switches."""
    lexicon = next((DATA / "glasgow_norms").glob("*.csv"))
    return load_recipe("small").updated(SIZES | TRAINING | TRAINED[system] | settings | {"lexicon": str(lexicon)})


def answers(
    system: str, settings: dict[str, Any], known: list[TrainingExample], asked: list[TrainingExample], given: Options,
    validation: Sequence[TrainingExample] = (), again: bool = True,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:  # fmt: skip
    """Train on the known paintings and answer the others; with `again` and no validation what is asked again, too."""
    out = given.work / "trainings" / f"{system}-{os.getpid()}-{time.time_ns()}"
    chosen = recipe(system, settings | {"feature_cache": str(given.work / "features")})
    started = time.perf_counter()
    summary = train(chosen, known, validation, out, device=given.device, progress=False)
    seconds = time.perf_counter() - started
    model = SEVLM.from_pretrained(out).to(given.device)
    keys = ("parameters", "updates", "truncated", "lexicon")
    found = {key: getattr(model.config, key) for key in CHOSEN}
    line = {"train_s": seconds, "found": found, "summary": {key: summary[key] for key in keys}}
    lookup = VADLookup.from_config(model.config, load_lexicon(chosen.training.lexicon))
    store = features(model, given.work, asked)
    return line | {"rows": rows_of(model, store, lookup, asked)}, [
        line | {"system": name, "rows": rows_of(model, store, lookup, asked, changes)}
        for name, changes in ASKED_AGAIN.get(system, {}).items()
        if again and not validation
    ]


def rows_of(
    model: SEVLM, store: FeatureStore, lookup: VADLookup, asked: Sequence[TrainingExample], changes: Any = None
) -> list[dict[str, Any]]:
    """The answers of a model, with some settings of its configuration changed."""
    trained = model.config
    model.config = dataclasses.replace(trained, **(changes or {}))
    said = []
    for start in range(0, len(asked), 64):
        batch = asked[start : start + 64]
        told = [example.meta["style"] for example in batch]
        said += model.generate(store.grid([example.image_path for example in batch]), LABELS, lookup, meta=told)
    model.config = trained
    return [
        {"id": e.id, "emotion": g.emotion, "text": g.explanation, "ended": g.ended, "probs": g.label_probs}
        for e, g in zip(asked, said, strict=True)
    ]


def features(model: SEVLM, work: Path, examples: Sequence[TrainingExample]) -> FeatureStore:
    encoder = load_image_encoder(model.config)
    return FeatureCache(work / "features", progress=False).build(encoder, [e.image_path for e in examples])


def baseline_rows(name: str, fold: int, work: Path) -> Iterator[dict[str, Any]]:
    """The commonest emotion of the training paintings, or the answer of the most similar one."""
    train_part, val, test = split(read_examples(), fold)
    known = [*train_part, *val]
    commonest = Counter(emotion for example in known for emotion, _ in example.captions).most_common(1)[0][0]
    if name.startswith("linear"):
        yield from linear_rows(known, test, work, styled=name == "linear_style")
        return
    fallback = next(text for example in known for emotion, text in example.captions if emotion == commonest)
    if name == "majority":
        yield from ({"id": example.id, "emotion": commonest, "text": fallback} for example in test)
        return
    encoder = load_image_encoder(recipe("improved", {}).model_config())
    store = FeatureCache(work / "features", progress=False).build(encoder, [e.image_path for e in [*known, *test]])

    def pooled(examples: Sequence[TrainingExample]) -> torch.Tensor:
        means = torch.stack([store.grid([example.image_path])[0].float().mean(0) for example in examples])
        return torch.nn.functional.normalize(means, dim=1)

    for example, index in zip(test, (pooled(test) @ pooled(known).T).argmax(dim=1).tolist(), strict=True):
        emotion = Counter(e for e, _ in known[index].captions).most_common(1)[0][0]
        text = next(text for e, text in known[index].captions if e == emotion)
        yield {"id": example.id, "emotion": emotion, "text": text}


def linear_rows(
    known: Sequence[TrainingExample], asked: Sequence[TrainingExample], work: Path, styled: bool
) -> Iterator[dict[str, Any]]:
    """The harness' regression on the features that all systems see; no explanations."""
    encoder = load_image_encoder(recipe("improved", {}).model_config())
    store = FeatureCache(work / "features", progress=False).build(encoder, [e.image_path for e in [*known, *asked]])
    inputs = []
    for part in (known, asked):
        grids = (store.grid([example.image_path])[0].float().mean(0) for example in part)
        inputs.append(torch.nn.functional.normalize(torch.stack(list(grids)), dim=1).double().numpy())
    told = [[example.meta["style"] if styled else "" for example in part] for part in (known, asked)]
    columns = Columns(inputs[0].mean(0), sorted(set(told[0]) - {""}))
    shares = np.array([[e.counts.get(label, 0) / sum(e.counts.values()) for label in LABELS] for e in known])
    regression, _ = best_regression(columns(inputs[0], told[0]), shares, LABELS)
    for example, row in zip(asked, columns(inputs[1], told[1]), strict=True):
        answer = regression.answer(row)
        yield {"id": example.id, "emotion": answer.emotion, "text": "", "probs": dict(answer.emotion_probs or {})}


def select(given: Options) -> None:
    """What the improved systems choose on the validation parts, as far as FOLDER does not hold it yet."""
    for fold, system in ((fold, system) for fold in given.folds for system in given.systems):
        if chosen(system, fold, given.work) is None and system in SELECTING:
            train_part, val, _ = split(read_examples(), fold)
            line = {"system": system, "fold": fold, "part": "val"}
            append(given, line | answers(system, UNEVALUATED, train_part, val, given, val)[0])


def chosen(system: str, fold: int, work: Path) -> dict[str, Any] | None:
    """The pair that a system found on a fold's validation part; None if it was not trained there."""
    place = (system, fold, "val")
    found = (line["found"] for line in read_lines(work) if (line["system"], line["fold"], line["part"]) == place)
    return next(found, None)


def run(given: Options) -> None:
    """The test answers that FOLDER does not hold yet."""
    for fold, system in ((fold, system) for fold in given.folds for system in given.systems):
        if any(
            line["part"] == "test" and (line["system"], line["fold"]) == (system, fold)
            for line in read_lines(given.work)
        ):
            continue
        line: dict[str, Any] = {"system": system, "fold": fold, "part": "test"}
        again: list[dict[str, Any]] = []
        if system in BASELINES:
            line["rows"] = list(baseline_rows(system, fold, given.work))
        else:
            train_part, val, test = split(read_examples(), fold)
            line["settings"] = chosen(system, fold, given.work) or {}
            if system in SELECTING and not line["settings"]:
                raise SystemExit(f"{system}, fold {fold}: run `select` first")
            own, again = answers(system, line["settings"], [*train_part, *val], test, given)
            again = [line | other for other in again]
            line |= own
        append(given, line, *again)


def append(given: Options, *lines: dict[str, Any], name: str = OUTCOMES) -> None:
    """One write for all lines: several processes share the file."""
    text = "".join(json.dumps({"machine": machine()} | line) + "\n" for line in lines)
    file = os.open(given.work / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.write(file, text.encode())
    os.close(file)
    for line in lines:
        place = (line["system"], line["part"], line["fold"], line.get("settings", ""))
        print(*place, f"{line.get('train_s', 0):.0f} s", quick_scores(line["rows"]), flush=True)


def read_lines(work: Path, name: str = OUTCOMES) -> list[dict[str, Any]]:
    """All finished trainings."""
    path = work / name
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def quick_scores(rows: Sequence[dict[str, Any]]) -> str:
    """Accuracy and annotator mass of some rows, for the terminal."""
    known = {example.id: example for example in read_examples()}
    pairs = [(row, known[row["id"]]) for row in rows]
    dominant = [(row["emotion"] == e.dominant_emotion) for row, e in pairs if e.dominant_emotion]
    mass = [e.counts.get(row["emotion"], 0) / sum(e.counts.values()) for row, e in pairs]
    labelled = sum(row["emotion"] in LABELS for row in rows) / len(rows)
    return f"accuracy {sum(dominant) / len(dominant):.4f} mass {sum(mass) / len(mass):.4f} labelled {labelled:.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=("select", "run", "report"))
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--folds", default=",".join(map(str, range(FOLDS))))
    parser.add_argument("--systems", default=",".join((*BASELINES, *TRAINED)))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    said = parser.parse_args()
    torch.set_num_threads(said.threads)
    said.work.mkdir(parents=True, exist_ok=True)
    folds = [int(part) for part in said.folds.split(",")]
    given = Options(said.work, folds, said.systems.split(","), said.device)
    if said.action == "report":
        report(read_lines(given.work), read_examples())
    else:
        {"select": select, "run": run}[said.action](given)


if __name__ == "__main__":
    main()
