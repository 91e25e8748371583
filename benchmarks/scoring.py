"""Scoring time and memory beside plain calls of pycocoevalcap on the same texts.

    python benchmarks/scoring.py [--sizes 1000,10000] [--plain 10000] [--out benchmarks/results/scoring.json]

Made-up examples with five references each and three models. `ours` is all offline metrics but BERTScore and
`lcs_novelty`, all emotion views, intervals of 1,000 replicates, all comparisons, with the training of the text
classifier and nothing cached; `novelty` is `lcs_novelty` alone; `plain` is what COCO's evaluation does for each of the
three models: PTB on references and candidates, then BLEU, METEOR, ROUGE-L and CIDEr. Each is a process of its own; peak
memory is that of the Python process, the Java programs' is given beside it. On a busy machine processor seconds (Java's
included) compare better than wall seconds.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import random
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from machine import RESULTS, machine, write_values

MODELS, REFERENCES, TRAINING = ("one", "two", "three"), 5, 4_000
EMOTIONS = ("amusement", "awe", "contentment", "excitement", "anger", "disgust", "fear", "sadness", "something else")
COMMON = "the a of and this sea light dark quiet storm woman colours sad calm it looks like reminds me feel"
LIMIT_RATIO, LIMIT_GB = 2.5, 2.0


def sentences(seed: int) -> Callable[[], str]:
    """A source of sentences of 6 to 16 words whose frequencies fall as those of English words do."""
    chance = random.Random(seed)
    stems = ["".join(chance.choices("bcdfghlmnprstvw", k=2)) + chance.choice("aeiou") + "n" for _ in range(6_000)]
    words = list(dict.fromkeys([*COMMON.split(), *stems]))
    weights = [1 / (rank + 3) for rank in range(len(words))]
    return lambda: " ".join(chance.choices(words, weights, k=chance.randint(6, 16))).capitalize() + "."


def made_up(n: int) -> tuple[list[Any], dict[str, dict[str, Any]], list[Any]]:
    """Examples, outcomes by model, and a training split."""
    from harness.types import Annotation, Answer, Example, histogram

    say, chance = sentences(1), random.Random(2)

    def example(i: int) -> Any:
        likely = chance.choice(EMOTIONS)
        votes = [likely if chance.random() < 0.55 else chance.choice(EMOTIONS) for _ in range(REFERENCES)]
        notes = tuple(Annotation(vote, say()) for vote in votes)
        return Example(f"p{i}", Path(f"p{i}.jpg"), notes, histogram(notes), meta={"style": f"style {i % 27}"})

    examples = [example(i) for i in range(n)]
    models: dict[str, dict[str, Any]] = {}
    for name in MODELS:
        found = {}
        for e in examples:
            weights = [chance.random() ** 2 for _ in EMOTIONS]
            probs = {label: w / sum(weights) for label, w in zip(EMOTIONS, weights, strict=True)}
            found[e.id] = Answer(max(probs, key=lambda label: probs[label]), say(), probs)
        models[name] = found
    return examples, models, [example(n + i) for i in range(TRAINING)]


def ours(n: int, *, novelty: bool = False) -> dict[str, float]:
    from harness.tasks.metrics.emotion_reader import EmotionReader

    from harness.score.resources import word_affect
    from harness.score.results import Resources, score_task
    from harness.store.run_folder import RowKey
    from harness.tasks.metrics import METRICS
    from harness.tasks.text_emotion.checkpoint import train_classifier
    from harness.types import Task

    examples, models, train = made_up(n)
    ratings = {f"{kind}_{d}" for kind in ("ccc", "pearson", "rmse") for d in ("valence", "arousal", "dominance")}
    names = [name for name in METRICS if name not in {"bert_score", "spice", "lcs_novelty"} | ratings]
    task = Task("made-up", "jsonl", EMOTIONS, polarity=dict.fromkeys(EMOTIONS, "other"),
                metrics=("lcs_novelty",) if novelty else tuple(names))  # fmt: skip
    started = time.perf_counter()

    def trained() -> Any:
        return train_classifier(EMOTIONS, [a for e in train for a in e.annotations], (), examples[0].annotations)

    resources = Resources(reader=EmotionReader(trained), lexicon=word_affect(None))
    rows = {RowKey(name): found for name, found in models.items()}
    scores = score_task(task, examples, train, rows, split="test", resources=resources)
    seconds = time.perf_counter() - started
    return {"seconds": round(seconds, 1), "cells": len(scores.cells), **resources_used()}


def plain(n: int) -> dict[str, float]:
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.meteor.meteor import Meteor
    from pycocoevalcap.rouge.rouge import Rouge
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

    examples, models, _ = made_up(n)
    programs: list[Meteor] = []
    started = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):
        for found in models.values():
            tokenizer = PTBTokenizer()
            gts = tokenizer.tokenize({e.id: [{"caption": a.explanation} for a in e.annotations] for e in examples})
            res = tokenizer.tokenize({e.id: [{"caption": found[e.id].explanation}] for e in examples})
            programs.append(Meteor())
            for scorer in (Bleu(4), programs[-1], Rouge(), Cider()):
                scorer.compute_score(gts, res)
        for program in programs:
            program.__del__()  # ends METEOR, so that its processor time is counted
    return {"seconds": round(time.perf_counter() - started, 1), **resources_used()}


def resources_used() -> dict[str, float]:
    """Processor seconds in all, peak resident gigabytes of this process and of the largest program it started."""
    own, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    processor = sum(usage.ru_utime + usage.ru_stime for usage in (own, children))
    memory = {"python_gb": round(own.ru_maxrss / 1e6, 2), "java_gb": round(children.ru_maxrss / 1e6, 2)}
    return {"processor_seconds": round(processor, 1), **memory}


PARTS: Mapping[str, Callable[[int], dict[str, float]]] = {
    "ours": ours,
    "novelty": lambda n: ours(n, novelty=True),
    "plain": plain,
}


def apart(part: str, n: int) -> dict[str, float]:
    """Run a part in a process of its own."""
    done = subprocess.run([sys.executable, __file__, "--part", part, "--size", str(n)], capture_output=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.decode().splitlines()[-1])
    print(part, n, found, flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="1000,10000", help="numbers of examples to score")
    parser.add_argument("--plain", type=int, default=10_000, help="number of examples for the plain calls")
    parser.add_argument("--out", type=Path, default=RESULTS / "scoring.json")
    parser.add_argument("--part", choices=tuple(PARTS), help=argparse.SUPPRESS)
    parser.add_argument("--size", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.part:
        print(json.dumps(PARTS[given.part](given.size)))
        return
    values: dict[str, Any] = {
        "machine": machine(),
        "models": len(MODELS),
        "references": REFERENCES,
        "limits": {"ratio": LIMIT_RATIO, "python_gb": LIMIT_GB},
        "plain": {str(given.plain): apart("plain", given.plain)},
        "ours": {size: apart("ours", int(size)) for size in given.sizes.split(",")},
        "novelty": {str(given.plain): apart("novelty", given.plain)},
    }
    ours_there = values["ours"].get(str(given.plain))
    if ours_there is not None:
        for kind in ("seconds", "processor_seconds"):
            values[f"ratio_of_{kind}"] = round(ours_there[kind] / values["plain"][str(given.plain)][kind], 2)
    for kind in ("seconds", "processor_seconds"):
        found = {size: round(1000 * used[kind] / int(size), 2) for size, used in values["ours"].items()}
        values[f"{kind}_per_1000_examples"] = found
    write_values(given.out, values)


if __name__ == "__main__":
    main()
