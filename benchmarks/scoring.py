"""Scoring time and memory beside plain calls of pycocoevalcap on the same texts, and beside another version.

    python benchmarks/scoring.py [--cases 1000x1,10000x1,10000x3] [--cheap 100000x1] [--beside TREE] [--out FILE]

Made-up examples with five references each. `ours` is all offline metrics but BERTScore, SPICE and `lcs_novelty`, all
emotion views, intervals of 1,000 replicates, all comparisons, with the training of the text classifier and nothing
cached; `plain` is what COCO's evaluation does for each of the models: PTB on references and candidates, then BLEU,
METEOR, ROUGE-L and CIDEr; `cheap` is nine metrics without a Java program, of as many examples as memory holds (a
million take 2.3 GB and a minute to make up). `--beside` names a checkout of another version, whose own
`benchmarks/scoring.py` is run in turns (three models). Each is a process of its own; peak memory is that of the Python
process, the Java programs' is given beside it. On a busy machine processor seconds (Java's included) compare better
than wall seconds. `kb_per_row` is what memory grows by per example and model from the first case to the others, beside
the made-up examples and answers themselves (`examples_gb`), which a run folder streams.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import io
import json
import os
import random
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from itertools import accumulate
from pathlib import Path
from typing import Any

from machine import RESULTS, machine, write_values

from harness.cli import COLLECT_EVERY, share_cores

REFERENCES, TRAINING = 5, 4_000
CHEAP = ("accuracy", "annotator_mass", "macro_f1", "polarity_accuracy", "cross_entropy", "brier", "ece", "unique",
         "mean_length")  # fmt: skip
EMOTIONS = ("amusement", "awe", "contentment", "excitement", "anger", "disgust", "fear", "sadness", "something else")
COMMON = "the a of and this sea light dark quiet storm woman colours sad calm it looks like reminds me feel"
LIMIT_RATIO, LIMIT_KB_PER_ROW = 0.7, 6.0


def sentences(seed: int) -> Callable[[], str]:
    """A source of sentences of 6 to 16 words whose frequencies fall as those of English words do."""
    chance = random.Random(seed)
    stems = ["".join(chance.choices("bcdfghlmnprstvw", k=2)) + chance.choice("aeiou") + "n" for _ in range(6_000)]
    words = list(dict.fromkeys([*COMMON.split(), *stems]))
    sums = list(accumulate(1 / (rank + 3) for rank in range(len(words))))
    return lambda: " ".join(chance.choices(words, cum_weights=sums, k=chance.randint(6, 16))).capitalize() + "."


def made_up(n: int, count: int) -> tuple[list[Any], dict[str, dict[str, Any]], list[Any]]:
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
    for name in (f"model {i}" for i in range(count)):
        found = {}
        for e in examples:
            weights = [chance.random() ** 2 for _ in EMOTIONS]
            probs = {label: w / sum(weights) for label, w in zip(EMOTIONS, weights, strict=True)}
            found[e.id] = Answer(max(probs, key=lambda label: probs[label]), say(), probs)
        models[name] = found
    return examples, models, [example(n + i) for i in range(TRAINING)]


def ours(n: int, count: int, *, cheap: bool = False) -> dict[str, float]:
    from harness.score.resources import word_affect
    from harness.score.results import Resources, score_task
    from harness.store.run_folder import RowKey
    from harness.tasks.metrics import METRICS
    from harness.tasks.metrics.alignment import EmotionReader
    from harness.tasks.text_emotion.checkpoint import train_classifier
    from harness.types import Task

    examples, models, train = made_up(n, count)
    ratings = {name for name in METRICS if name.endswith(("_valence", "_arousal", "_dominance"))}
    names = [name for name in METRICS if name not in {"bert_score", "spice", "lcs_novelty"} | ratings]
    protocol = "artemis-plain" if cheap else "coco-ptb"
    task = Task("made-up", "jsonl", EMOTIONS, polarity=dict.fromkeys(EMOTIONS, "other"), protocol=protocol,
                metrics=CHEAP if cheap else tuple(names))  # fmt: skip
    held = peak_gb()
    started = time.perf_counter()

    def trained() -> Any:
        return train_classifier(EMOTIONS, [a for e in train for a in e.annotations], (), examples[0].annotations)

    resources = Resources() if cheap else Resources(reader=EmotionReader(trained), lexicon=word_affect(None))
    rows = {RowKey(name): found for name, found in models.items()}
    scores = score_task(task, examples, train, rows, split="test", resources=resources)
    seconds = time.perf_counter() - started
    return {"seconds": round(seconds, 1), "cells": len(scores.cells), "examples_gb": held, **resources_used()}


def plain(n: int, count: int) -> dict[str, float]:
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.meteor.meteor import Meteor
    from pycocoevalcap.rouge.rouge import Rouge
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

    examples, models, _ = made_up(n, count)
    held = peak_gb()
    started = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):
        for found in models.values():
            tokenizer = PTBTokenizer()
            gts = tokenizer.tokenize({e.id: [{"caption": a.explanation} for a in e.annotations] for e in examples})
            res = tokenizer.tokenize({e.id: [{"caption": found[e.id].explanation}] for e in examples})
            program = Meteor()
            for scorer in (Bleu(4), program, Rouge(), Cider()):
                scorer.compute_score(gts, res)
            program.__del__()  # ends METEOR, so that its memory is free and its processor time is counted
    return {"seconds": round(time.perf_counter() - started, 1), "examples_gb": held, **resources_used()}


def resources_used() -> dict[str, float]:
    """Processor seconds in all, peak resident gigabytes of this process and of the largest program it started."""
    own, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    processor = sum(usage.ru_utime + usage.ru_stime for usage in (own, children))
    memory = {"python_gb": peak_gb(), "java_gb": round(children.ru_maxrss / 1e6, 2)}
    return {"processor_seconds": round(processor, 1), **memory}


def peak_gb() -> float:
    """Peak resident gigabytes of this process so far."""
    # getrusage would count what the process had before it became this program, a copy of the one that started it
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return round(next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:")) / 1e6, 3)


def scoring_gb(used: Mapping[str, float]) -> float:
    """What scoring took beside the examples and answers that it was given."""
    return used["python_gb"] - used["examples_gb"]


PARTS: Mapping[str, Callable[[int, int], dict[str, float]]] = {
    "ours": ours,
    "cheap": lambda n, count: ours(n, count, cheap=True),
    "plain": plain,
}


def apart(part: str, n: int, count: int, tree: Path | None = None) -> dict[str, float]:
    """Run a part in a process of its own, of another version if a tree is given."""
    command = [sys.executable, __file__, "--part", part, "--size", str(n), "--models", str(count)]
    environment = dict(os.environ)
    if tree is not None:
        command = [sys.executable, str(tree / "benchmarks" / "scoring.py"), "--part", part, "--size", str(n)]
        environment["PYTHONPATH"] = str(tree)
    done = subprocess.run(command, capture_output=True, check=True, env=environment)
    found: dict[str, float] = json.loads(done.stdout.decode().splitlines()[-1])
    print("other" if tree else part, n, count, found, flush=True)
    return found


def cases_of(text: str) -> list[tuple[int, int]]:
    """(examples, models) of `1000x1,10000x3`; none of an empty text."""
    found = []
    for case in filter(None, text.split(",")):
        size, _, count = case.partition("x")
        found.append((int(size), int(count)))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--cases", default="1000x1,10000x1,10000x3", help="EXAMPLESxMODELS of all metrics; empty for none"
    )
    parser.add_argument("--cheap", default="10000x1,100000x1", help="the same of the cheap metrics; empty for none")
    parser.add_argument("--beside", type=Path, help="a checkout of another version, for cases of three models")
    parser.add_argument("--out", type=Path, default=RESULTS / "scoring.json")
    parser.add_argument("--part", choices=tuple(PARTS), help=argparse.SUPPRESS)
    parser.add_argument("--size", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--models", type=int, default=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    share_cores()  # as the command `harness` does; the processes started below inherit it
    gc.set_threshold(COLLECT_EVERY)
    if given.part:
        print(json.dumps(PARTS[given.part](given.size, given.models)))
        return
    cases = cases_of(given.cases)
    values: dict[str, Any] = {
        "machine": machine(),
        "references": REFERENCES,
        "limits": {"ratio": LIMIT_RATIO, "kb_per_row": LIMIT_KB_PER_ROW},
        "cases": {},
        "cheap": {},
    }
    for n, count in cases:
        found: dict[str, Any] = {part: apart(part, n, count) for part in ("ours", "plain")}
        if given.beside is not None and count == 3:
            found["other"] = apart("ours", n, count, given.beside)
        for kind in ("seconds", "processor_seconds"):
            found[f"ratio_of_{kind}"] = round(found["ours"][kind] / found["plain"][kind], 2)
        first = values["cases"].get("{}x{}".format(*cases[0]))
        if first is not None and n * count > cases[0][0] * cases[0][1]:
            grown = scoring_gb(found["ours"]) - scoring_gb(first["ours"])
            found["kb_per_row"] = round(1e6 * grown / (n * count - cases[0][0] * cases[0][1]), 2)
        values["cases"][f"{n}x{count}"] = found
        write_values(given.out, values)
    smallest: tuple[int, dict[str, float]] | None = None
    for n, count in cases_of(given.cheap):
        found = apart("cheap", n, count)
        smallest = smallest or (n * count, found)
        if n * count > smallest[0]:
            grown = scoring_gb(found) - scoring_gb(smallest[1])
            found["kb_per_row"] = round(1e6 * grown / (n * count - smallest[0]), 2)
        values["cheap"][f"{n}x{count}"] = found
        write_values(given.out, values)


if __name__ == "__main__":
    main()
