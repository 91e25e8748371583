"""`harness judge RUN --judge MODEL`: what a judge is asked, asking it, and reading what it said.

    RUN/judgements/<judge>/<rubric>-<digest>/judge.json      who judged, by which rubric, how often
    RUN/judgements/<judge>/<rubric>-<digest>/replies.jsonl   one outcome per question, appended as it is answered

A question's id is a digest of everything the judge reads (rubric, label, explanation, image) and of the repeat, so
that repeating the command asks only what has no reply, and the same explanation in two rows is judged once. Verdicts
are read from the replies afterwards: a better reader needs no new question.
"""

from __future__ import annotations

import hashlib
import json
import random
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from harness.adapters import EndpointAdapter, LocalAdapter
from harness.atomic import write_atomically
from harness.infer.endpoint import Budget, drive
from harness.infer.local import Asked, InProcessModel
from harness.judge.rubric import PAIR_SCHEMA, Rubric, Unread, read_preference, read_scores
from harness.judge.study import explanations
from harness.judge.worth import PairVerdict, Verdict
from harness.redact import redact
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
            for i, answer, donor in self._shuffled(shown):
                yield self._score(i, row, answer.emotion, donor.explanation, "shuffled", 0)
        if self.options.pairs:
            yield from self._pairs()

    def _shuffled(self, shown: Mapping[str, Answer]) -> Iterator[tuple[str, Answer, Answer]]:
        """(example, its answer, the answer to another example with another label)."""
        ids = list(shown)[:SHUFFLED]
        for i in ids:
            donors = [j for j in shown if shown[j].emotion != shown[i].emotion]
            if donors:
                yield i, shown[i], shown[self.draw.choice(donors)]

    def _score(self, i: str, row: str, emotion: str, text: str, control: str | None, repeat: int) -> Question:
        prompt = self.rubric.prompt(emotion, text, _references(self.examples[i], text))
        key, item = self._item(i, prompt, self.rubric.verdict_schema(), repeat)
        return Question(key, item, self.task, i, row, None, control, repeat, len(text.split()))

    def _pairs(self) -> Iterator[Question]:
        names = list(self.rows)
        for a in names:
            for b in names:
                shared = [i for i in self.examples if i in self.rows[a] and i in self.rows[b]] if a != b else []
                for i in shared:
                    first, second = self.rows[a][i], self.rows[b][i]
                    if first.explanation == second.explanation:
                        continue
                    texts = (first.emotion, first.explanation), (second.emotion, second.explanation)
                    said = _references(self.examples[i], first.explanation, second.explanation)
                    key, item = self._item(i, self.rubric.pair_prompt(*texts, said), PAIR_SCHEMA, 0)
                    yield Question(key, item, self.task, i, a, b, None, 0, 0)

    def _item(self, i: str, prompt: str, schema: Mapping[str, Any], repeat: int) -> tuple[str, Item]:
        image = self.examples[i].image
        seen = self._image(image) if self.rubric.image else None
        read = json.dumps([self.rubric.digest, prompt, seen, repeat], ensure_ascii=False)
        key = hashlib.sha256(read.encode("utf-8", "surrogatepass")).hexdigest()[:24]
        return key, Item(key, image, (), prompt, explanations=False, schema=schema, shows_image=self.rubric.image)

    def _image(self, path: Path) -> str:
        if path not in self._images:
            try:
                self._images[path] = hashlib.sha256(path.read_bytes()).hexdigest()
            except OSError:
                self._images[path] = f"missing {path.name}"  # the adapter says so, question by question
        return self._images[path]


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
        if not path.exists():
            return None
        try:
            record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            return record | {key: record[key] for key in ("judge", "fingerprint", "rubric", "repeats", "pairs", "seed")}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path}: not as harness judge wrote it ({error})") from error


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


def judgements(run: RunFolder) -> list[tuple[Judgement, JudgeOptions, dict[str, Any]]]:
    """Every judgement of a run: the folder, its options and its record."""
    found = []
    for path in sorted(run.path.glob("judgements/*/*/judge.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        rubric = Rubric.model_validate(record["rubric"])
        judgement = Judgement(run, record["judge"], rubric)
        options = JudgeOptions(record["repeats"], record["pairs"], record["limit"], record["seed"])
        found.append((judgement, options, record))
    return found


def read_verdicts(judgement: Judgement, options: JudgeOptions) -> tuple[list[Verdict], list[PairVerdict]]:
    """The verdicts of a judgement; a reply that is missing, failed or unreadable has none, with its reason."""
    replies = judgement.replies()
    verdicts: list[Verdict] = []
    pairs: list[PairVerdict] = []
    for q in plan_questions(judgement.run, judgement.rubric, options):
        text, problem = _text_of(replies.get(q.key))
        if q.other is not None:
            better = None
            if not problem:
                better, problem = _read(lambda text=text: read_preference(text))
            pairs.append(PairVerdict(q.task, q.example, q.row, q.other, better, problem))
            continue
        scores = None
        if not problem:
            scores, problem = _read(lambda text=text: read_scores(text, judgement.rubric))
        verdicts.append(Verdict(q.task, q.example, q.row, q.control, q.repeat, scores, q.words, problem))
    key = lambda v: (v.task, v.example)  # noqa: E731
    return sorted(verdicts, key=key), sorted(pairs, key=key)


def _read(read: Any) -> tuple[Any, str]:
    try:
        return read(), ""
    except Unread as error:
        return None, error.reason


def _text_of(reply: Outcome | None) -> tuple[str, str]:
    """What a reply says after its thoughts, or why there is nothing."""
    match reply:
        case None:
            return "", "not asked"
        case Failed():
            return "", f"failed: {reply.error_type}"
        case Refusal():
            return "", "refused"
    return split_reply(reply.raw).answer, ""
