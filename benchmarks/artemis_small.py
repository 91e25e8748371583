"""SEVLM, its parts and its mends on real annotations, at a size that two CPU cores train in three minutes.

    python benchmarks/artemis_small.py run --work FOLDER [--folds 0,1] [--systems nlx_gpt,improved] [--epochs 8]
    python benchmarks/artemis_small.py report --work FOLDER

Five folds by painting over the pictured paintings of the development data (`HARNESS_DEV_DATA`), frozen
EfficientNet-Lite0 features, the Glasgow norms, a GPT-2 of about three million parameters from scratch. `run` appends
one line per training to FOLDER/outcomes.jsonl and leaves out what is already there; `report` pools the folds and
writes aggregates to results/artemis_small.json. FOLDER holds texts and must lie outside the repository.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from machine import machine

from sevlm.examples import TrainingExample
from sevlm.features import FeatureCache, FeatureStore
from sevlm.image_encoder import load_image_encoder
from sevlm.lexicon import load_lexicon
from sevlm.model import SEVLM
from sevlm.train import train
from sevlm.training_config import Recipe, load_recipe
from sevlm.vad_lookup import VADLookup

DATA = Path(os.environ.get("HARNESS_DEV_DATA", Path(__file__).parents[2] / "shared" / "data"))
FOLDS, SEED, VALIDATION_SHARE = 5, 2021, 0.25
LABELS = ("amusement", "awe", "contentment", "excitement", "anger", "disgust", "fear", "sadness", "something else")
SIZES: dict[str, Any] = {"n_layer": 3, "n_head": 4, "n_embd": 128, "tokenizer": "train:3000"}
TRAINING: dict[str, Any] = {
    **{"epochs": 6, "batch_pictures": 16, "dropout": 0.3, "weight_decay": 0.2, "contrastive_loss_weight": 0.05},
}
OFF = {"use_vad_features": False, "use_vad_head": False, "use_contrastive_head": False}
OFFICIAL = {"mode": "official", "lemmatizer": "simplemma", "max_length": 30, "max_new_tokens": 25}
TRAINED: dict[str, dict[str, Any]] = {
    "nlx_gpt": OFFICIAL | OFF,
    "vad_features": OFFICIAL | OFF | {"use_vad_features": True},
    "vad_head": OFFICIAL | OFF | {"use_vad_head": True},
    "contrastive_head": OFFICIAL | OFF | {"use_contrastive_head": True},
    "official": OFFICIAL,
    "improved": {"image_dropout": 0.75},
    "improved_image_dropout_0.5": {"image_dropout": 0.5},
}
BASELINES = ("majority", "nearest")


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
            examples.append(TrainingExample(f"{style}/{painting}", picture, lowered))
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


def answers(system: str, fold: int, work: Path, settings: dict[str, Any], part: str, device: str) -> dict[str, Any]:
    """Train and answer the paintings of `part` (val or test)."""
    train_part, val, test = split(read_examples(), fold)
    out = work / "trainings" / f"{system}-{fold}-{random.randrange(10**9)}"
    chosen = recipe(system, settings | {"feature_cache": str(work / "features")})
    started = time.perf_counter()
    known = train_part if part == "val" else [*train_part, *val]  # settings are chosen once, on the first fold's val
    summary = train(chosen, known, [], out, device=device, progress=False)
    seconds = time.perf_counter() - started
    model = SEVLM.from_pretrained(out).to(device)
    asked = test if part == "test" else val
    lookup = VADLookup.from_config(model.config, load_lexicon(chosen.training.lexicon))
    store = features(model, work, asked)
    said = []
    for start in range(0, len(asked), 64):
        said += model.generate(store.grid([e.image_path for e in asked[start : start + 64]]), LABELS, lookup)
    rows = [
        {"id": e.id, "emotion": g.emotion, "text": g.explanation, "ended": g.ended, "probs": g.label_probs}
        for e, g in zip(asked, said, strict=True)
    ]
    keys = ("parameters", "updates", "truncated", "lexicon")
    return {"train_s": seconds, "summary": {key: summary[key] for key in keys}, "rows": rows}


def features(model: SEVLM, work: Path, examples: Sequence[TrainingExample]) -> FeatureStore:
    encoder = load_image_encoder(model.config)
    return FeatureCache(work / "features", progress=False).build(encoder, [e.image_path for e in examples])


def baseline_rows(name: str, fold: int, work: Path) -> Iterator[dict[str, Any]]:
    """The commonest emotion of the training paintings, or the answer of the most similar one."""
    train_part, val, test = split(read_examples(), fold)
    known = [*train_part, *val]
    commonest = Counter(emotion for example in known for emotion, _ in example.captions).most_common(1)[0][0]
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


def run(options: argparse.Namespace) -> None:
    """Everything asked for that FOLDER does not hold yet."""
    options.work.mkdir(parents=True, exist_ok=True)
    path = options.work / f"outcomes{options.suffix}.jsonl"
    done = {(line["system"], line["fold"]) for line in read_lines(options.work)} if options.part == "test" else set()
    settings = dict(pair.split("=", 1) for pair in options.settings)
    import yaml

    values = {key: yaml.safe_load(value) for key, value in settings.items()}
    for fold in (int(part) for part in options.folds.split(",")):
        for system in options.systems.split(","):
            if (system, fold) in done:
                continue
            if system in BASELINES:
                result: dict[str, Any] = {"rows": list(baseline_rows(system, fold, options.work))}
            else:
                result = answers(system, fold, options.work, values, options.part, options.device)
            line = {"system": system, "fold": fold, "part": options.part, "settings": values, "machine": machine()}
            with path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line | result) + "\n")
            print(system, fold, values, f"{result.get('train_s', 0):.0f} s", quick_scores(result["rows"]), flush=True)


def read_lines(work: Path) -> list[dict[str, Any]]:
    """All finished trainings, from every file of outcomes."""
    files = sorted(work.glob("outcomes*.jsonl"))
    return [json.loads(line) for file in files for line in file.read_text(encoding="utf-8").splitlines()]


def quick_scores(rows: Sequence[dict[str, Any]]) -> str:
    """Accuracy and annotator mass of some rows, for the terminal."""
    known = {example.id: example for example in read_examples()}
    pairs = [(row, known[row["id"]]) for row in rows]
    dominant = [(row["emotion"] == e.dominant_emotion) for row, e in pairs if e.dominant_emotion]
    mass = [e.counts.get(row["emotion"], 0) / sum(e.counts.values()) for row, e in pairs]
    labelled = sum(row["emotion"] in LABELS for row in rows) / len(rows)
    return f"accuracy {sum(dominant) / len(dominant):.4f} mass {sum(mass) / len(mass):.4f} labelled {labelled:.3f}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=("run", "report"))
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--folds", default=",".join(map(str, range(FOLDS))))
    parser.add_argument("--systems", default=",".join((*BASELINES, *TRAINED)))
    parser.add_argument("--part", choices=("val", "test"), default="test", help="val: for choosing settings")
    parser.add_argument("--suffix", default="", help="of the outcomes file, so that several runs can write at once")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--set", nargs="*", default=[], dest="settings", metavar="key=value", help="training settings")
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    if chosen.action == "run":
        run(chosen)
    else:
        from artemis_small_report import report

        report(read_lines(chosen.work), read_examples())
