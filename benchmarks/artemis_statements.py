"""Does looking help to tell statements about an image, and does the text alone give nothing away?

    python benchmarks/artemis_statements.py train --work FOLDER
    python benchmarks/artemis_statements.py report --work FOLDER [--draws 10]

`train` prepares the development subset of ArtEmis (`HARNESS_DEV_DATA`) and trains a small SEVLM on its training part:
frozen EfficientNet-Lite0 features, the Glasgow norms, six epochs. `report` draws the statements of the test images
several times, with other distractors each time, and asks SEVLM and the nearest training image, the latter before a grey
image, too, and rules that see the text alone: the longest statement, the shortest, the one that SEVLM finds likeliest
before a grey image, and a classifier of words that learns from the validation part which statements are right. An
image's draws are averaged first, so that n counts images; p is of a sign-flip test against chance. Aggregates go to
results/artemis_statements.json. FOLDER holds texts and must lie outside the repository.
"""

from __future__ import annotations

import argparse
import hashlib
import os
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from machine import machine, write_result
from PIL import Image
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from harness.adapters.nearest import Nearest
from harness.adapters.sevlm import SEVLMAdapter
from harness.cli import main as harness
from harness.images import open_image
from harness.plan.registry import find_task, open_reader
from harness.types import Answer, Example, Item
from sevlm.images import FeatureCache, FeatureStore

DATA = Path(os.environ.get("HARNESS_DEV_DATA", Path(__file__).parents[2] / "shared" / "data"))
LEXICON = DATA / "glasgow_norms" / "13428_2018_1099_MOESM2_ESM.csv"
SMALL = (
    "n_layer=3", "n_head=4", "n_embd=128", "tokenizer=train:3000", "epochs=6", "batch_pictures=16", "dropout=0.3",
    "weight_decay=0.2", "contrastive_loss_weight=0.05",
)  # fmt: skip
TASKS = {"artemis-statements": 0.25, "artemis-true-false": 0.5}
FLIPS, WORD_DRAWS, BATCH = 10_000, 20, 16

Answers = dict[str, str]
"""Example id -> label."""


def call(*arguments: str) -> None:
    if code := harness(arguments):
        raise SystemExit(code)


def train(work: Path) -> None:
    """Prepare the data and train the model, where FOLDER does not hold them yet."""
    root = str(work / "root")
    if not (work / "root" / "artemis").is_dir():
        folder = DATA / "artemis"
        table, images = folder / "artemis_dataset_release_v0.csv", folder / "images"
        call("data", "prepare", "artemis", "--annotations", str(table), "--images", str(images), "--data-root", root)
    if not checkpoint(work).is_dir():
        call("train", "sevlm", "--task", "artemis", "--config", "small", "--data-root", root,
             "--lexicon", str(LEXICON), *SMALL)  # fmt: skip


def checkpoint(work: Path) -> Path:
    return work / "root" / "artemis" / "checkpoints" / "sevlm"


def drawn(task: str, draw: int, work: Path, split: str = "test") -> list[Example]:
    """The examples of one draw of the statements; a split's wrong statements come from its own images."""
    found = find_task(task)
    again = replace(found, options={**found.options, "seed": draw})
    return list(open_reader(again, work / "root").examples(split))


def asked(example: Example, labels: Sequence[str], image: Path) -> Item:
    return Item(example.id, image, tuple(labels), "", statements=example.statements)


def answers(model: Any, examples: Sequence[Example], labels: Sequence[str], grey: Path | None) -> Answers:
    """What a model says before each image, or before a grey one."""
    items = [asked(example, labels, grey or example.image) for example in examples]
    outcomes = [o for start in range(0, len(items), BATCH) for o in model.predict(items[start : start + BATCH])]
    return {e.id: o.emotion for e, o in zip(examples, outcomes, strict=True) if isinstance(o, Answer)}


class Remembered:
    """An image encoder whose grids of the task's images lie in the cache that training filled."""

    def __init__(self, encoder: Any, store: FeatureStore, images: Sequence[Path]) -> None:
        self._encoder = encoder
        self._grids = {_pixels(open_image(path)): store.grid([path])[0].float() for path in images}

    def encode(self, images: Sequence[Image.Image]) -> torch.Tensor:
        keys = [_pixels(image) for image in images]
        for key, image in zip(keys, images, strict=True):
            if key not in self._grids:
                self._grids[key] = self._encoder.encode([image])[0]
        return torch.stack([self._grids[key] for key in keys])

    def to(self, *_: object) -> Remembered:
        return self


def _pixels(image: Image.Image) -> bytes:
    return hashlib.sha256(image.tobytes()).digest()


def models(work: Path) -> tuple[SEVLMAdapter, Nearest]:
    """SEVLM, and the nearest training image by the same features."""
    sevlm, nearest = SEVLMAdapter(str(checkpoint(work)), str(LEXICON)), Nearest()
    sevlm.load()
    network = sevlm._model
    assert network is not None
    data = open_reader(find_task("artemis"), work / "root")
    train, test = list(data.examples("train")), list(data.examples("test"))
    encoder = network.image_encoder()
    images = [example.image for example in (*train, *test)]
    store = FeatureCache(checkpoint(work).parent / "sevlm-features").build(encoder, images)
    network.keep_encoder(Remembered(encoder, store, [example.image for example in test]))  # type: ignore[arg-type]
    nearest.fit(train)
    means = torch.stack([store.grid([example.image])[0].float().mean(0) for example in train])
    nearest._features = torch.nn.functional.normalize(means, dim=1)
    nearest._network = network.image_encoder()
    return sevlm, nearest


def likeliest(model: SEVLMAdapter, examples: Sequence[Example], labels: Sequence[str], grey: Path) -> Answers:
    """The statement that SEVLM finds likeliest before a grey image: its text alone."""
    network, image = model._model, Image.open(grey).convert("RGB")
    assert network is not None
    found = {}
    for example in examples:
        captions = [[(s.emotion, s.explanation) for s in example.statements]]
        found[example.id] = labels[int(network.score_explanations([image], captions)[0].argmax())]
    return found


def by_words(
    known: Sequence[Sequence[Example]], draws: Sequence[Sequence[Example]], labels: Sequence[str]
) -> list[Answers]:
    """A classifier of words that learns which statements are right from draws that share no image with those asked."""
    texts, right = [], []
    for example in (e for draw in known for e in draw):
        for label, said in zip(labels, example.statements, strict=False):
            texts.append(said.explanation)
            right.append(example.annotations[0].emotion == label)
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2)
    learned = LogisticRegression(max_iter=1000).fit(words.fit_transform(texts), right)
    found: list[Answers] = []
    for draw in draws:
        own = {}
        for example in draw:
            scores = learned.decision_function(words.transform([s.explanation for s in example.statements]))
            one = labels[0] if scores[0] > 0 else labels[1]
            own[example.id] = labels[int(scores.argmax())] if len(scores) > 1 else one
        found.append(own)
    return found


def lengths(examples: Sequence[Example], labels: Sequence[str], best: Callable[..., Any]) -> Answers:
    """The longest or the shortest statement."""
    words = {e.id: [len(s.explanation.split()) for s in e.statements] for e in examples}
    return {id_: labels[best(range(len(own)), key=lambda i, own=own: own[i])] for id_, own in words.items()}


def score(draws: Sequence[Sequence[Example]], given: Sequence[Answers], chance: float) -> dict[str, Any]:
    """Accuracy over images, its 95 % interval by a bootstrap of images, and p against chance; of draw 0 beside it."""
    per_image: dict[str, list[bool]] = defaultdict(list)
    for examples, own in zip(draws, given, strict=True):
        for example in examples:
            per_image[example.id].append(own.get(example.id) == example.annotations[0].emotion)
    means = np.array([np.mean(values) for values in per_image.values()])
    random = np.random.default_rng(0)
    replicates = means[random.integers(0, len(means), (2000, len(means)))].mean(1)
    gained = means - chance
    flipped = (random.choice([-1.0, 1.0], (FLIPS, len(gained))) * gained).mean(1)
    p = (1 + int((np.abs(flipped) >= abs(gained.mean()) - 1e-12).sum())) / (1 + FLIPS)
    low, high = np.quantile(replicates, [0.025, 0.975])
    first = np.mean([given[0].get(e.id) == e.annotations[0].emotion for e in draws[0]])
    values = {"accuracy": means.mean(), "low": low, "high": high, "p_against_chance": p, "first_draw": first}
    said = [answer for own in given for answer in own.values()]
    rounded = {name: round(float(value), 4) for name, value in values.items()} | {"n": len(means)}
    return rounded | ({"said_true": round(said.count("true") / len(said), 3)} if chance == 0.5 else {})


def report(work: Path, count: int) -> None:
    grey = work / "grey.png"
    Image.new("RGB", (224, 224), (128, 128, 128)).save(grey)
    sevlm, nearest = models(work)
    found: dict[str, Mapping[str, Any]] = {}
    for task, chance in TASKS.items():
        labels = tuple(find_task(task).emotions)
        draws = [drawn(task, draw, work) for draw in range(count)]
        rows: dict[str, Callable[[list[Example], Sequence[str]], Answers]] = {
            "sevlm": lambda examples, labels: answers(sevlm, examples, labels, None),
            "nearest": lambda examples, labels: answers(nearest, examples, labels, None),
            "nearest, grey image": lambda examples, labels: answers(nearest, examples, labels, grey),
        }
        if chance < 0.5:
            rows |= {
                "text alone: likeliest": lambda examples, labels: likeliest(sevlm, examples, labels, grey),
                "text alone: longest": lambda examples, labels: lengths(examples, labels, max),
                "text alone: shortest": lambda examples, labels: lengths(examples, labels, min),
            }
        known = [drawn(task, draw, work, "val") for draw in range(WORD_DRAWS)]
        scores = {"text alone: words": score(draws, by_words(known, draws, labels), chance)}
        for name, answered in rows.items():
            scores[name] = score(draws, [answered(examples, labels) for examples in draws], chance)
            print(task, name, scores[name], flush=True)
        print(task, "words", scores["text alone: words"], flush=True)
        found[task] = {"chance": chance, "draws": count, "rows": scores}
    data = "ArtEmis v1 development subset, official split code: 1,945 pictured training and 229 test paintings"
    write_result("artemis_statements", {"machine": machine(), "data": data, "tasks": found})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=("train", "report"))
    parser.add_argument("--work", type=Path, required=True, help="folder outside the repository")
    parser.add_argument("--draws", type=int, default=10)
    given = parser.parse_args()
    if given.step == "train":
        train(given.work)
    else:
        report(given.work, given.draws)


if __name__ == "__main__":
    main()
