"""`harness judge RUN --judge MODEL`: what a judge is asked, asking it, reading what it said, and what that is worth.

    RUN/judgements/<judge>/<rubric>-<digest>/judge.json      who judged, by which rubric, how often
    RUN/judgements/<judge>/<rubric>-<digest>/replies.jsonl   one outcome per question, appended as it is answered

A question's id is a digest of everything the judge reads (rubric, label, explanation, image) and of the repeat, so
that repeating the command asks only what has no reply, and the same explanation in two rows is judged once. Verdicts
are read from the replies afterwards: a better reader needs no new question.
"""

from __future__ import annotations

import hashlib
import json
import math
import random
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
from tqdm import tqdm

from harness.adapters import EndpointAdapter, LocalAdapter
from harness.atomic import write_atomically
from harness.errors import first_line
from harness.infer.endpoint import Budget, drive
from harness.infer.local import Asked, InProcessModel
from harness.judge.ratings import krippendorff_alpha
from harness.judge.rubric import PAIR_SCHEMA, Rubric, Unread, read_preference, read_scores
from harness.judge.study import explanations
from harness.redact import redact
from harness.score.statistics import wilson
from harness.store.outcomes import OutcomeLog, cut_torn_line, read_outcomes
from harness.store.run_folder import RunFolder, to_json
from harness.tasks.parser import split_reply
from harness.types import Answer, Example, Failed, Item, Outcome, Refusal, Usage, UserError

SHUFFLED = 100
"""At most so many explanations of each row are also judged before another image."""


@dataclass(frozen=True, slots=True)
class JudgeOptions:
    """How a run is judged.

    Attributes:
        repeats: how often each explanation is judged.
        pairs: also compare each pair of rows, in both orders.
        limit: judge the explanations of at most so many examples of each task; None: of all.
        seed: draws the examples, the shuffled explanations and the order of the questions.
    """

    repeats: int = 1
    pairs: bool = False
    limit: int | None = None
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Question:
    """One question to the judge.

    Attributes:
        key: digest of what the judge reads; the id of its reply.
        item: what the adapter is given.
        task, example, row: whose explanation it is about; `row` is A of a pair.
        other: B of a pair; None for a single explanation.
        control: `shuffled` if the explanation was written about another image.
        repeat: 0 for the first time.
        words: length of the explanation.
    """

    key: str
    item: Item
    task: str
    example: str
    row: str
    other: str | None
    control: str | None
    repeat: int
    words: int


def plan_questions(run: RunFolder, rubric: Rubric, options: JudgeOptions) -> list[Question]:
    """Everything a judge is asked about a run, in an order that says nothing about the rows.

    Raises:
        UserError: the run holds no explanation.
    """
    questions = [q for task, rows in explanations(run) for q in _Questions(run, task, rows, rubric, options).all()]
    if not questions:
        raise UserError(f"{run.path}: holds no explanation to judge")
    random.Random(f"{options.seed} order").shuffle(questions)
    return questions


class _Questions:
    """The questions about one task."""

    def __init__(
        self, run: RunFolder, task: str, rows: Mapping[str, Mapping[str, Answer]], rubric: Rubric, options: JudgeOptions
    ) -> None:
        self.task, self.rows, self.rubric, self.options = task, rows, rubric, options
        self.draw = random.Random(f"{options.seed} {task}")
        examples = list(run.examples(task))
        self.draw.shuffle(examples)
        self.examples = {e.id: e for e in examples[: options.limit]}
        self._images: dict[Path, str] = {}

    def all(self) -> Iterator[Question]:
        """Each explanation `repeats` times, some before another image, and pairs in both orders."""
        for row, answers in self.rows.items():
            shown = {i: answers[i] for i in self.examples if i in answers}
            for i, answer in shown.items():
                for repeat in range(self.options.repeats):
                    yield self._score(i, row, answer.emotion, answer.explanation, None, repeat)
            for i in list(shown)[:SHUFFLED]:
                donors = [j for j in shown if shown[j].emotion != shown[i].emotion]
                if donors:  # the explanation of another example with another label
                    other = shown[self.draw.choice(donors)]
                    yield self._score(i, row, shown[i].emotion, other.explanation, "shuffled", 0)
        for a, b in permutations(self.rows, 2) if self.options.pairs else ():
            for i in self.examples:
                first, second = self.rows[a].get(i), self.rows[b].get(i)
                if first is None or second is None or first.explanation == second.explanation:
                    continue
                texts = (first.emotion, first.explanation), (second.emotion, second.explanation)
                said = _references(self.examples[i], first.explanation, second.explanation)
                key, item = self._item(i, self.rubric.pair_prompt(*texts, said), PAIR_SCHEMA, 0)
                yield Question(key, item, self.task, i, a, b, None, 0, 0)

    def _score(self, i: str, row: str, emotion: str, text: str, control: str | None, repeat: int) -> Question:
        prompt = self.rubric.prompt(emotion, text, _references(self.examples[i], text))
        key, item = self._item(i, prompt, self.rubric.verdict_schema(), repeat)
        return Question(key, item, self.task, i, row, None, control, repeat, len(text.split()))

    def _item(self, i: str, prompt: str, schema: Mapping[str, Any], repeat: int) -> tuple[str, Item]:
        image = self.examples[i].image
        if self.rubric.image and image not in self._images:
            try:
                self._images[image] = hashlib.sha256(image.read_bytes()).hexdigest()
            except OSError:
                self._images[image] = f"missing {image.name}"  # the adapter says so, question by question
        seen = self._images.get(image)
        read = json.dumps([self.rubric.digest, prompt, seen, repeat], ensure_ascii=False)
        key = hashlib.sha256(read.encode("utf-8", "surrogatepass")).hexdigest()[:24]
        return key, Item(key, image, (), prompt, explanations=False, schema=schema, shows_image=self.rubric.image)


def _references(example: Example, *judged: str) -> tuple[str, ...]:
    """What people said of an example; a person's own words are no reference for themselves."""
    return tuple(a.explanation for a in example.annotations if a.explanation and a.explanation not in judged)


# --------------------------------------------------------------------------------------------- asking


class Judgement:
    """The folder of one judge with one rubric.

    Args:
        run: the judged run.
        judge: row name of the judge.
        rubric: what it judges by.
    """

    def __init__(self, run: RunFolder, judge: str, rubric: Rubric) -> None:
        self.run, self.judge, self.rubric = run, judge, rubric
        self.path = run.path / "judgements" / judge / f"{rubric.name}-{rubric.digest}"

    def replies(self) -> dict[str, Outcome]:
        """Question -> its last reply."""
        path = self.path / "replies.jsonl"
        return dict(read_outcomes(path)) if path.exists() else {}

    def spent(self) -> Usage:
        """Tokens and dollars of all replies, failed ones too; they are the judge's, apart from the models'."""
        path = self.path / "replies.jsonl"
        usages = [outcome.usage for _, outcome in (read_outcomes(path) if path.exists() else ())]
        return Usage(
            prompt_tokens=_total(u.prompt_tokens for u in usages),
            completion_tokens=_total(u.completion_tokens for u in usages),
            cost_usd=_total(u.cost_usd for u in usages),
            attempts=_total(u.attempts for u in usages),
            reserve_usd=_total(u.reserve_usd for u in usages),
        )

    def begin(self, fingerprint: Mapping[str, Any], options: JudgeOptions) -> None:
        """Record who judges and how.

        Raises:
            UserError: replies of another model, or drawn with another seed, are in the folder.
        """
        record = {
            "schema": 1,
            "judge": self.judge,
            "fingerprint": redact(dict(fingerprint)),
            "rubric": self.rubric.model_dump(),
            "repeats": options.repeats,
            "pairs": options.pairs,
            "limit": options.limit,
            "seed": options.seed,
        }
        before = self._record()
        if before is not None:
            for what in ("fingerprint", "seed"):
                if before[what] != json.loads(to_json(record[what])):
                    raise UserError(
                        f"{self.path}: was judged with another {what}; name this judge differently with as=NAME"
                    )
            record["repeats"] = max(options.repeats, before["repeats"])
            record["pairs"] = options.pairs or before["pairs"]
            record["opening_usd"] = before.get("opening_usd", 0.0)
        self.path.mkdir(parents=True, exist_ok=True)
        write_atomically(self.path / "judge.json", to_json(record))

    def opening_usd(self) -> float:
        """What checking the endpoint has cost so far."""
        return float((self._record() or {}).get("opening_usd", 0.0))

    def note_opening(self, usd: float) -> None:
        """Remember what checking the endpoint cost."""
        if usd:
            record = self._record() or {}
            write_atomically(self.path / "judge.json", to_json(record | {"opening_usd": self.opening_usd() + usd}))

    def _record(self) -> dict[str, Any] | None:
        path = self.path / "judge.json"
        return _read_record(path) if path.exists() else None


_RECORDED = ("judge", "fingerprint", "rubric", "repeats", "pairs", "limit", "seed")


def _read_record(path: Path) -> dict[str, Any]:
    """What a judge.json holds, with a rubric that is one.

    Raises:
        UserError: it is not as `harness judge` wrote it.
    """
    try:
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        Rubric.model_validate(record["rubric"])
        return record | {key: record[key] for key in _RECORDED}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: not as harness judge wrote it ({first_line(error)})") from error


def _total(values: Iterable[float | None]) -> Any:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def ask_judge(
    judgement: Judgement,
    adapter: LocalAdapter | EndpointAdapter,
    options: JudgeOptions,
    *,
    concurrency: int = 8,
    batch_size: int = 8,
    max_cost: float | None = None,
) -> None:
    """Ask every question that has no reply yet; questions that failed are asked again.

    Raises:
        UserError: the judge cannot be loaded or asked, or the budget is reached; replies so far are kept.
    """
    judgement.begin(adapter.fingerprint(), options)
    log_path = judgement.path / "replies.jsonl"
    if log_path.exists():
        cut_torn_line(log_path)
    answered = {key for key, reply in judgement.replies().items() if not isinstance(reply, Failed)}
    questions = plan_questions(judgement.run, judgement.rubric, options)
    pending = {q.key: q.item for q in questions if q.key not in answered}
    total = len({q.key for q in questions})
    if len(pending) < total:
        print(f"{judgement.judge}: {total - len(pending)} of {total} questions answered before", file=sys.stderr)
    if not pending:
        return
    spent = judgement.spent()
    paid = (spent.cost_usd or 0.0) + (spent.reserve_usd or 0.0) + judgement.opening_usd()
    budget = None if max_cost is None else Budget(max_cost, paid)
    label = f"judge {judgement.judge}"
    with OutcomeLog(log_path) as log, tqdm(total=len(pending), desc=label, unit="reply", dynamic_ncols=True) as bar:

        def record(item: Item, outcome: Outcome) -> None:
            log.append(item.id, outcome)

        adapter_items = iter(pending.values())
        if isinstance(adapter, EndpointAdapter):
            adapter.load()
            try:
                drive(adapter, adapter_items, concurrency, record, bar, budget)
            finally:
                adapter.close()
                judgement.note_opening(adapter.spent_usd)
            return
        model = InProcessModel(adapter, None)
        try:
            for item, outcome in model.answers(map(Asked, adapter_items), batch_size):
                record(item, outcome)
                bar.update()
        finally:
            model.close()


# ------------------------------------------------------------------------------------------- verdicts


@dataclass(frozen=True, slots=True)
class Verdict:
    """One reply of a judge.

    Attributes:
        task, example: whose image and label it was about.
        row: whose explanation.
        control: `shuffled` if the explanation belongs to another example, else None.
        repeat: 0 for the first time, 1 for the second ...
        scores: criterion -> 1..5; None if the reply could not be read or did not come.
        words: length of the explanation.
        problem: why there are no scores; empty if there are.
    """

    task: str
    example: str
    row: str
    control: str | None
    repeat: int
    scores: Mapping[str, int] | None
    words: int
    problem: str = ""


@dataclass(frozen=True, slots=True)
class PairVerdict:
    """A judge's preference in one order: `first` stood as A."""

    task: str
    example: str
    first: str
    second: str
    better: str | None
    problem: str = ""

    @property
    def winner(self) -> str | None:
        """The preferred row, `tie`, or None without a verdict."""
        return {"A": self.first, "B": self.second, "tie": "tie"}.get(self.better or "")


def judgements(run: RunFolder) -> list[tuple[Judgement, JudgeOptions, dict[str, Any]]]:
    """Every judgement of a run: the folder, its options and its record.

    Raises:
        UserError: a record is not as `harness judge` wrote it.
    """
    found = []
    for path in sorted(run.path.glob("judgements/*/*/judge.json")):
        record = _read_record(path)
        judgement = Judgement(run, record["judge"], Rubric.model_validate(record["rubric"]))
        options = JudgeOptions(record["repeats"], record["pairs"], record["limit"], record["seed"])
        found.append((judgement, options, record))
    return found


def read_verdicts(judgement: Judgement, options: JudgeOptions) -> tuple[list[Verdict], list[PairVerdict]]:
    """The verdicts of a judgement; a reply that is missing, failed or unreadable has none, with its reason."""
    replies = judgement.replies()
    verdicts: list[Verdict] = []
    pairs: list[PairVerdict] = []
    for q in plan_questions(judgement.run, judgement.rubric, options):
        found: Any = None
        problem = ""
        match replies.get(q.key):
            case None:
                problem = "not asked"
            case Failed() as failed:
                problem = f"failed: {failed.error_type}"
            case Refusal():
                problem = "refused"
            case reply:
                text = split_reply(reply.raw).answer
                try:
                    found = read_scores(text, judgement.rubric) if q.other is None else read_preference(text)
                except Unread as error:
                    problem = error.reason
        if q.other is None:
            verdicts.append(Verdict(q.task, q.example, q.row, q.control, q.repeat, found, q.words, problem))
        else:
            pairs.append(PairVerdict(q.task, q.example, q.row, q.other, found, problem))
    verdicts.sort(key=lambda v: (v.task, v.example))
    pairs.sort(key=lambda v: (v.task, v.example))
    return verdicts, pairs


# --------------------------------------------------------------------------------- what a judge is worth
# Shown beside its numbers, so that nobody has to take them on trust.


def repeatability(verdicts: Iterable[Verdict], criterion: str) -> dict[str, Any]:
    """Over answers judged more than once: the share whose repeats differ, and ordinal alpha over the repeats."""
    given: dict[tuple[str, ...], dict[int, int]] = defaultdict(dict)
    for v in verdicts:
        if v.scores is not None:
            given[v.task, v.example, v.row, v.control or ""][v.repeat] = v.scores[criterion]
    return disagreement([list(scores.values()) for scores in given.values()])


def disagreement(repeats: Sequence[Sequence[float]]) -> dict[str, Any]:
    """Of answers with several scores: how many have scores that differ, and Krippendorff's ordinal alpha.

    >>> disagreement([[1, 1], [3, 3], [5, 4], [2, 2]])["differ"]
    0.25
    """
    several = [scores for scores in repeats if len(scores) > 1]
    if not several:
        return {"differ": None, "alpha": None, "n": 0}
    width = max(map(len, several))
    table = np.array([[*scores, *[math.nan] * (width - len(scores))] for scores in several], dtype=float).T
    differ = sum(len(set(scores)) > 1 for scores in several)
    return {"differ": differ / len(several), "alpha": krippendorff_alpha(table, "ordinal"), "n": len(several)}


def order_consistency(pairs: Iterable[PairVerdict]) -> dict[str, Any]:
    """Of pairs judged in both orders: the share with the same winner, and how often A won of all decided verdicts."""
    both: dict[tuple[str, ...], list[PairVerdict]] = defaultdict(list)
    first = decided = 0
    for pair in pairs:
        if pair.winner is None:
            continue
        both[pair.task, pair.example, *sorted((pair.first, pair.second))].append(pair)
        first += pair.better == "A"
        decided += pair.better != "tie"
    complete = [two for two in both.values() if len(two) == 2]
    same = sum(two[0].winner == two[1].winner for two in complete)
    return {
        "consistent": same / len(complete) if complete else None,
        "n": len(complete),
        "first_wins": first / decided if decided else None,
    }


def settle(pairs: Iterable[PairVerdict]) -> dict[tuple[str, str, str, str], str]:
    """Winner per pair over both orders; a changed verdict is a tie, a pair without both verdicts is left out."""
    both: dict[tuple[str, str, str, str], list[str]] = defaultdict(list)
    for pair in pairs:
        if pair.winner is not None:
            a, b = sorted((pair.first, pair.second))
            both[pair.task, pair.example, a, b].append(pair.winner)
    return {key: w[0] if w[0] == w[1] else "tie" for key, w in both.items() if len(w) == 2}


def length_correlation(verdicts: Iterable[Verdict], criterion: str) -> dict[str, Any]:
    """Spearman's rank correlation of score and length in words, over true (not shuffled) explanations."""
    from scipy.stats import spearmanr

    pairs = [(v.words, v.scores[criterion]) for v in verdicts if v.scores is not None and v.control is None]
    if len(pairs) < 3 or len({w for w, _ in pairs}) < 2 or len({s for _, s in pairs}) < 2:
        return {"rho": None, "n": len(pairs)}
    words, scores = zip(*pairs, strict=True)
    return {"rho": float(spearmanr(words, scores).statistic), "n": len(pairs)}


def discrimination(verdicts: Iterable[Verdict], criterion: str) -> dict[str, Any]:
    """How often a true explanation beats the shuffled one before the same image, a tie counting half.

    0.5 is chance; the interval is Wilson's. `tells` is whether its lower end is above 0.5.
    """
    scores: dict[tuple[str, ...], dict[bool, list[int]]] = defaultdict(lambda: {True: [], False: []})
    for v in verdicts:
        if v.scores is not None:
            scores[v.task, v.example, v.row][v.control is None].append(v.scores[criterion])
    means = [(mean(s[True]), mean(s[False])) for s in scores.values() if s[True] and s[False]]
    wins = [1.0 if true > shuffled else 0.5 if true == shuffled else 0.0 for true, shuffled in means]
    if not wins:
        return {"prefers_true": None, "low": None, "high": None, "n": 0, "tells": None}
    share = float(np.mean(wins))
    interval = wilson(share * len(wins), len(wins))
    return {
        "prefers_true": share,
        "low": interval.low,
        "high": interval.high,
        "n": len(wins),
        "tells": interval.low > 0.5,
    }


def unscored(verdicts: Iterable[Verdict | PairVerdict]) -> dict[str, int]:
    """Why verdicts are missing, with how many of each; they count for nothing, never as low."""
    counts: dict[str, int] = defaultdict(int)
    for v in verdicts:
        if v.problem:
            counts[v.problem] += 1
    return dict(counts)
