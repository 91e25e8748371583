"""Does a small model learn from another's answers about paintings that nobody annotated?

    python benchmarks/artemis_teacher.py run --work FOLDER [--folds 0,1]
    python benchmarks/artemis_teacher.py report --work FOLDER [--small FOLDER]

In each fold of artemis_small.py half of the paintings that are not tested on lose their annotations, the same half each
time. Three improved models of different seeds learn from the annotated half; together they are the teacher: the means
of their probabilities, and in turn the words of one that explains the most probable label. Their answers about the
hidden half are written to an outcomes file and read as `harness train sevlm --teacher` reads one. The student is an
improved model trained on the annotated half and on these. It is compared with the first of the three, which has its
seed and was trained on the annotated half alone, with the teacher, and with artemis_small's improved mode, trained on
the annotations of both halves. How much the label head counts, and its temperature, are chosen on a quarter of the
annotated half, for all of them. Each training appends a line to FOLDER/teacher.jsonl, and what is there is left out;
the features of artemis_small may be linked as FOLDER/features. `report` writes aggregates to
results/artemis_teacher.json. FOLDER holds texts and must lie outside the repository.
"""

from __future__ import annotations

import argparse
import random
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import artemis_small as small
import torch
from artemis_small_report import METRICS, describe, differences, pooled, sums, text_sums
from machine import write_result

from harness.adapters.sevlm import training_examples
from harness.plan.registry import find_task
from harness.store.outcomes import OutcomeLog
from harness.store.teacher import read_teacher
from harness.types import Annotation, Answer, Example
from sevlm.data import TrainingExample

LINES, SYSTEM, MEMBERS = "teacher.jsonl", "improved", 3
ALONE, TEACHER, STUDENT, CEILING = "annotated_half", "teacher", "student", "all_annotated"
PAIRS = ((STUDENT, ALONE), (TEACHER, ALONE), (STUDENT, TEACHER), (CEILING, ALONE), (CEILING, STUDENT))
TEXT_METRICS = ("bleu_4", "meteor", "rouge_l", "cider_d")


def parts(fold: int) -> tuple[list[TrainingExample], list[TrainingExample], list[TrainingExample]]:
    """Paintings that keep their annotations, those that lose them, and those tested on."""
    train_part, val, test = small.split(small.read_examples(), fold)
    known = [*train_part, *val]
    random.Random(f"hidden {fold}").shuffle(known)
    half = len(known) // 2
    return known[half:], known[:half], test


def run(given: small.Options) -> None:
    """The trainings that FOLDER does not hold yet."""
    for fold in given.folds:
        annotated, hidden, test = parts(fold)
        cut = round(small.VALIDATION_SHARE * len(annotated))
        val, rest = annotated[:cut], annotated[cut:]
        chosen = _once(given, "selection", fold, small.UNEVALUATED, rest, val, val)["found"]
        members = [
            _once(given, f"member_{seed}", fold, chosen | {"seed": seed}, annotated, [*test, *hidden])
            for seed in range(MEMBERS)
        ]
        file = given.work / f"ensemble-{fold}.jsonl"
        file.unlink(missing_ok=True)
        with OutcomeLog(file) as log:
            for row in ensemble([line["rows"] for line in members], [example.id for example in hidden]):
                answer = Answer(row["emotion"], row["text"], row["probs"], truncated=not row["ended"])
                log.append(row["id"], answer)
        task = find_task("artemis")
        train = [*(_example(e, "train") for e in annotated), *(_example(e, "train", hide=True) for e in hidden)]
        teacher = read_teacher(TEACHER, file, task, train, [_example(e, "test") for e in test])
        known = training_examples(train, task, [teacher])
        _once(given, STUDENT, fold, chosen, known, test, learned=len(teacher.answers))


def _once(
    given: small.Options, name: str, fold: int, settings: dict[str, Any], known: list[TrainingExample],
    asked: list[TrainingExample], validation: Sequence[TrainingExample] = (), **notes: Any,
) -> dict[str, Any]:  # fmt: skip
    """The line of a training: FOLDER's, or that of one made now."""
    place = (name, fold)
    for line in small.read_lines(given.work, LINES):
        if (line["system"], line["fold"]) == place:
            return line
    made = {"system": name, "fold": fold, "part": "val" if validation else "test", "settings": settings} | notes
    made |= small.answers(SYSTEM, settings, known, asked, given, validation, again=False)[0]
    small.append(given, made, name=LINES)
    return made


def _example(example: TrainingExample, split: str, hide: bool = False) -> Example:
    notes = () if hide else tuple(Annotation(*caption) for caption in example.captions)
    counts = {} if hide else {label: int(count) for label, count in example.counts.items()}
    return Example(example.id, example.image_path, notes, counts, split, dict(example.meta))


def ensemble(members: Sequence[Sequence[Mapping[str, Any]]], ids: Sequence[str]) -> Iterator[dict[str, Any]]:
    """What several models answer together about each of `ids`."""
    by_id = [{row["id"]: row for row in rows} for rows in members]
    for index, example_id in enumerate(ids):
        said = [by_id[(index + turn) % len(by_id)][example_id] for turn in range(len(by_id))]
        probs = {label: sum(row["probs"][label] for row in said) / len(said) for label in small.LABELS}
        best = max(small.LABELS, key=probs.__getitem__)
        speaker = next((row for row in said if row["emotion"] == best), said[0])
        yield {**speaker, "probs": probs}


def report(work: Path, whole: Path | None) -> None:
    """Write results/artemis_teacher.json of the folds that are complete: aggregates only."""
    known = {example.id: example for example in small.read_examples()}
    found: dict[str, dict[int, dict[str, Any]]] = defaultdict(dict)
    for line in small.read_lines(work, LINES):
        found[line["system"]][line["fold"]] = line
    folds = sorted(found[STUDENT])
    tested = {fold: [example.id for example in parts(fold)[2]] for fold in folds}
    by_system: dict[str, dict[int, dict[str, Any]]] = {name: {} for name in (ALONE, TEACHER, STUDENT)}
    for fold, ids in tested.items():
        members = [found[f"member_{seed}"][fold] for seed in range(MEMBERS)]
        rows = {row["id"]: row for row in members[0]["rows"]}
        by_system[ALONE][fold] = members[0] | {"rows": [rows[key] for key in ids]}
        by_system[TEACHER][fold] = {"rows": list(ensemble([line["rows"] for line in members], ids))}
        by_system[STUDENT][fold] = found[STUDENT][fold]
    ceiling = {
        line["fold"]: line
        for line in (small.read_lines(whole) if whole else [])
        if (line["system"], line["part"]) == (SYSTEM, "test") and line["fold"] in folds
    }
    if ceiling:  # of fewer folds perhaps; differences are of the paintings that both answered
        by_system[CEILING] = ceiling
    rows_of = {name: pooled(list(lines.values())) for name, lines in by_system.items()}
    statistics_of = {m: {name: sums(m, rows, known) for name, rows in rows_of.items()} for m in METRICS}
    statistics_of |= text_sums(by_system, known)
    values = {
        "data": f"{len(known)} pictured paintings; folds {folds} of artemis_small, test paintings pooled",
        "rule": "half of a fold's other paintings keep their annotations; the teacher is three improved models trained "
        "on these, the student learns from these and from the teacher's answers about the other half",
        "folds": {
            str(fold): {
                **{name: len(part) for name, part in zip(("annotated", "hidden", "tested"), parts(fold), strict=True)},
                "outcomes_learned": found[STUDENT][fold]["learned"],
                "chosen": found["selection"][fold]["found"],
            }
            for fold in folds
        },
        "systems": {
            name: describe(name, lines, rows_of[name], statistics_of, known) for name, lines in by_system.items()
        },
        "differences": differences(PAIRS, METRICS, statistics_of),
        "differences_of_explanations": differences(PAIRS, TEXT_METRICS, statistics_of),
    }
    write_result("artemis_teacher", values)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=("run", "report"))
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--folds", default=",".join(map(str, range(small.FOLDS))))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--small", type=Path, help="FOLDER of artemis_small.py, for what all annotations give")
    said = parser.parse_args()
    torch.set_num_threads(said.threads)
    said.work.mkdir(parents=True, exist_ok=True)
    if said.action == "report":
        report(said.work, said.small)
    else:
        run(small.Options(said.work, [int(fold) for fold in said.folds.split(",")], (), "cpu"))


if __name__ == "__main__":
    main()
