"""The Python API: `harness.evaluate` and `harness.score`, which the commands `run` and `score` call as well."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, TypedDict, Unpack

from harness.adapters.base import EndpointAdapter
from harness.errors import nearest
from harness.infer.local import Executor, check_executor
from harness.infer.run import InferenceOptions, run_inference
from harness.plan.models import keep_model_secrets, parse_models, typed_settings
from harness.plan.plan import Options, Plan, check_prices, check_resumable, make_plan, new_manifest, parse_controls
from harness.plan.registry import adapter_registry, data_root
from harness.store.run_folder import RunFolder, write_checksums
from harness.types import UserError

if TYPE_CHECKING:
    import pandas as pd

    from harness.store.prediction_files import Columns

    Predictions: TypeAlias = str | Path | pd.DataFrame | Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Evaluation:
    """A scored run.

    Attributes:
        folder: the run folder; gone after `score` without `out`.
        results: what results.json holds (docs/metrics.md).
        failure_rates: share of failures per `task/row`.
        page: the report's index.html, if one was written.
    """

    folder: Path
    results: Mapping[str, Any]
    failure_rates: Mapping[str, float] = field(default_factory=dict)
    page: Path | None = None

    @property
    def cells(self) -> pd.DataFrame:
        """Every score: `task`, `model`, `control`, `metric`, `emotion`, `slice`, `value`, `low`, `high`, `n`, …"""
        return self._table("cells")

    @property
    def coverage(self) -> pd.DataFrame:
        """Per row, how many examples were answered, refused, unparsed and failed."""
        return self._table("coverage")

    @property
    def comparisons(self) -> pd.DataFrame:
        """Paired differences between two rows, with interval and p-values."""
        return self._table("comparisons")

    def _table(self, key: str) -> pd.DataFrame:
        import pandas as pd

        return pd.DataFrame(self.results[key])


class RunOptions(TypedDict, total=False):
    """What `harness run` takes beside tasks and models, by the same names; each may be left out.

    Attributes:
        out: the run folder; default `runs/<tasks>-<identity>`, so that the same call resumes.
        data_root: folder of prepared data; default `$HARNESS_DATA`, else the user's cache folder.
        split: which examples; default `test`.
        limit: the first so many of them only.
        ids: only these of them.
        controls: `blank`, `shuffled`: ask also about images made useless.
        adapters: models of your own, as `NAME=FILE.py:Class`.
        batch_size, concurrency, device, dtype, executor, seed, lexicon, trust_remote_code: as on the command line;
            a batch size of 0 is found while answering.
        max_cost: US$ that the run may cost at most.
        retry_failed: ask again about examples that failed.
        cache: False asks even what the response cache knows.
    """

    out: str | Path | None
    data_root: str | Path | None
    split: str
    limit: int | None
    ids: Iterable[str] | None
    controls: str | Sequence[str] | None
    adapters: Sequence[str] | None
    batch_size: int
    concurrency: int
    device: str | None
    dtype: str | None
    executor: Executor
    seed: int
    lexicon: str | Path | None
    trust_remote_code: bool
    max_cost: float | None
    retry_failed: bool
    cache: bool


class Run(NamedTuple):
    """A run that may start: everything that can be checked before is."""

    plan: Plan
    folder: RunFolder
    inference: InferenceOptions


def evaluate(
    tasks: str | Sequence[str],
    models: str | Sequence[str],
    *,
    report: bool = False,
    blur: bool = False,
    copy_images: bool = True,
    command: Sequence[str] | None = None,
    **options: Unpack[RunOptions],
) -> Evaluation:
    """Ask models about tasks, score what they answer, and write the report if wanted.

    Every answer is on disk before the next question: the same call again resumes.

    Args:
        tasks: names, or paths of task YAML files; one text may hold several with commas between them.
        models: with settings, as in `"llava:checkpoint=PATH,dtype=bf16"`.
        report: write `report/index.html`, too.
        blur, copy_images: how the report shows images.
        command: recorded in the manifest.
        options: see `RunOptions`.

    Raises:
        UserError: an unknown name or setting, missing data, another run in the folder, a model that cannot work.
    """
    plan, folder, inference = prepare(tasks, models, command=command, **options)
    lexicon = options.get("lexicon")
    registry = plan.registry
    if all(issubclass(registry.load(model.adapter), EndpointAdapter) for model in plan.models):
        Thread(target=_preload_scoring).start()  # while the endpoint is waited for
    with folder.locked():  # to the end: another process would score what this one still writes
        failure_rates = run_inference(plan, folder, inference)
        _choose_for_scoring(folder, {"lexicon": None if lexicon is None else str(_existing(lexicon))})
        results = folder.results() if folder.results_are_current() else _score(folder, plan.options.data_root)
        page = write_report([folder], folder.path / "report", blur=blur, copy_images=copy_images) if report else None
        write_checksums(folder.path)
    return Evaluation(folder.path, results, failure_rates, page)


def prepare(
    tasks: str | Sequence[str],
    models: str | Sequence[str],
    *,
    command: Sequence[str] | None = None,
    dry_run: bool = False,
    **options: Unpack[RunOptions],
) -> Run:
    """Check everything that can be checked before asking: names, data, settings, checkpoints, the run folder.

    Args:
        tasks, models, command, options: see `evaluate`.
        dry_run: write nothing.

    Raises:
        UserError: see `evaluate`.
    """
    tasks, models = (given if isinstance(given, str) else ",".join(given) for given in (tasks, models))
    executor, adapters = options.get("executor", "local"), options.get("adapters") or ()
    check_executor(executor)
    specs = parse_models(models)
    keep_model_secrets(specs)
    names = [name.strip() for name in tasks.split(",") if name.strip()]
    plan = make_plan(names, specs, adapter_registry(adapters), _plan_options(options))
    for task in plan.tasks:
        for spec in plan.models:
            if "train" in plan.build(task, spec).needs:
                plan.check_training(task, spec)
    max_cost = options.get("max_cost")
    if max_cost is not None:
        check_prices(plan)
    folder = RunFolder(Path(options.get("out") or plan.default_folder()))
    if folder.path.exists() and not folder.path.is_dir():
        raise UserError(f"--out {folder.path}: is a file, expected a folder")
    begun = (folder.path / "manifest.json").exists()
    if begun:
        check_resumable(folder.manifest(), plan, folder.path)
    elif folder.path.exists() and any(folder.path.iterdir()):
        raise UserError(f"{folder.path} is not empty and holds no run; choose another --out")
    manifest = new_manifest(plan, list(command or ["harness", "run", "--tasks", tasks, "--models", models]))
    if not (dry_run or begun):
        folder.save_manifest(manifest)
    inference = InferenceOptions(
        batch_size=options.get("batch_size", 8),
        concurrency=options.get("concurrency", 8),
        device=options.get("device"),
        dtype=options.get("dtype"),
        trust_remote_code=options.get("trust_remote_code", False),
        executor=executor,
        adapters=adapters,
        retry_failed=options.get("retry_failed", False),
        cache=options.get("cache", True),
        max_cost=max_cost,
    )
    return Run(plan, folder, inference)


def _plan_options(options: RunOptions) -> Options:
    lexicon = _existing(options.get("lexicon"))
    offered = {"device": options.get("device"), "dtype": options.get("dtype")}
    offered["lexicon"] = str(options["lexicon"]) if lexicon else None
    controls, ids = options.get("controls"), options.get("ids")
    return Options(
        data_root=data_root(options.get("data_root")),
        split=options.get("split", "test"),
        seed=options.get("seed", 0),
        limit=options.get("limit"),
        ids=None if ids is None else frozenset(ids),
        controls=tuple(parse_controls(controls if isinstance(controls, str) else ",".join(controls or ()))),
        offered=offered | {"trust_remote_code": options.get("trust_remote_code") or None},
    )


def _existing(lexicon: str | Path | None) -> Path | None:
    """The absolute path of a lexicon file.

    Raises:
        UserError: there is no such file.
    """
    if lexicon is None:
        return None
    from sevlm.vad import split_scale

    if not split_scale(lexicon)[0].is_file():
        raise UserError(f"--lexicon {lexicon}: no such file")
    return Path(lexicon).absolute()


# ------------------------------------------------------------------------------------------- scoring


def score(
    task: str,
    predictions: Predictions | Mapping[str, Predictions],
    *,
    columns: Mapping[str, str] | None = None,
    positions: bool = False,
    out: str | Path | None = None,
    split: str = "test",
    data_root: str | Path | None = None,
    lexicon: str | Path | None = None,
    bert_score: str | None = None,
    clip: str | None = None,
    sentence_encoder: str | None = None,
    report: bool = False,
) -> Evaluation:
    """Score predictions made by any other program.

    Args:
        task: a name, or the path of a task YAML file.
        predictions: a file in any form of docs/files.md, a table or a list of objects with `id`, `emotion`,
            `explanation` and whatever else an outcome holds; or several of these by the name of their row.
        columns: where the parts of a prediction stand, for example `{"id": "painting", "text": "answer"}`; also
            `emotion`, `explanation`, `probs`. None: a form that is recognised.
        positions: ids are row numbers of the split, counted from 0.
        out: folder for the run made of them; None: a temporary one.
        split: which examples they are about.
        data_root, lexicon, bert_score, clip, sentence_encoder, report: as for `evaluate` and on the command line.

    Raises:
        UserError: ids that the task lacks, labels or probabilities that are not the task's, a folder in use.
    """
    from harness.store.import_outcomes import import_outcomes  # with the parser: not before predictions are read

    named = predictions if isinstance(predictions, Mapping) else {"predictions": predictions}
    with tempfile.TemporaryDirectory() as scratch:
        files = [f"{name}={_outcomes_file(name, given, Path(scratch))}" for name, given in named.items()]
        folder = import_outcomes(
            task,
            files,
            Path(out) if out is not None else Path(scratch) / "run",
            split=split,
            root=None if data_root is None else str(data_root),
            command=["harness", "score", "--task", task],
            columns=None if columns is None else _columns(columns),
            positions=positions,
        )
        return score_folder(
            folder,
            data_root=data_root,
            lexicon=lexicon,
            bert_score=bert_score,
            clip=clip,
            sentence_encoder=sentence_encoder,
            report=report,
        )


def _columns(named: Mapping[str, str]) -> Columns:
    """The columns by name.

    Raises:
        UserError: another name.
    """
    from harness.store.prediction_files import Columns

    known = ("id", "text", "emotion", "explanation", "probs")
    for name in named:
        if name not in known:
            raise UserError(f"score: columns: unknown part {name!r}; {nearest(name, known)}")
    given: dict[str, Any] = dict(named)
    return Columns(**given)


def _outcomes_file(name: str, given: Predictions, scratch: Path) -> Path:
    """A file of outcomes: the given one, or a temporary one."""
    if isinstance(given, str | Path):
        return Path(given)
    lines: Any = given
    if not isinstance(given, Sequence):  # a DataFrame, whose empty cells are NaN
        lines = given.astype(object).where(given.notna(), None).to_dict("records")
    path = scratch / f"{name}.jsonl"
    path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")
    return path


def score_folder(
    folder: RunFolder,
    *,
    data_root: str | Path | None = None,
    lexicon: str | Path | None = None,
    bert_score: str | None = None,
    clip: str | None = None,
    sentence_encoder: str | None = None,
    report: bool = False,
    reparse: bool = False,
) -> Evaluation:
    """Score a run folder again; see `score`.

    Args:
        reparse: read the recorded texts again first, with the parser of this version.
    """
    from harness.plan.registry import data_root as root_of

    chosen = {
        "lexicon": None if lexicon is None else str(_existing(lexicon)),
        "bert_score": _absolute(bert_score),
        "clip": _absolute(clip),
        "sentence_encoder": _absolute(sentence_encoder),
    }
    with folder.locked():
        if reparse:
            from harness.store.reparse import reparse_run

            reparse_run(folder)
        _choose_for_scoring(folder, chosen)
        results = _score(folder, root_of(data_root) if data_root else None)
        page = write_report([folder], folder.path / "report") if report else None
        write_checksums(folder.path)
    return Evaluation(folder.path, results, page=page)


def _absolute(model: str | None) -> str | None:
    """A model's folder as it is found from everywhere, `:` and a setting after it kept; a hub id as it is."""
    if model is None:
        return None
    folder, colon, setting = (model, "", "") if Path(model).expanduser().is_dir() else model.rpartition(":")
    path = Path(folder).expanduser()
    return f"{path.resolve()}{colon}{setting}" if folder and path.is_dir() else model


def _choose_for_scoring(folder: RunFolder, chosen: Mapping[str, str | None]) -> None:
    """Record what the user chose for scoring; what was not given stays as it was.

    The manifest changes only if a choice does, so that results stay current otherwise.
    """
    manifest = folder.manifest()
    known = dict(manifest.get("scoring", {}))
    wanted = known | {name: value for name, value in chosen.items() if value is not None}
    if wanted != known:
        folder.save_manifest({**manifest, "scoring": wanted})


def _preload_scoring() -> None:
    with suppress(Exception):  # scoring itself will say what is wrong
        from harness.score.results import preload

        preload()


def _score(folder: RunFolder, root: Path | None) -> dict[str, Any]:
    """Score a run and write results.json."""
    from harness.score.results import score_run  # loads numpy and more: not before models have answered

    results = score_run(folder, root=root)
    if (folder.path / "judgements").exists() or (folder.path / "ratings").exists():
        from harness.judge.results import add_opinions

        add_opinions(results, folder)
    folder.save_results(results)
    return results


# ----------------------------------------------------------------------------------- judges and people


def judge(
    run: str | Path,
    model: str,
    *,
    rubric: str | Path | None = None,
    repeats: int = 1,
    pairs: bool = False,
    limit: int | None = None,
    seed: int = 0,
    max_cost: float | None = None,
    concurrency: int = 8,
    batch_size: int = 8,
    adapters: Sequence[str] = (),
    offered: Mapping[str, Any] | None = None,
    report: bool = False,
) -> Evaluation:
    """Let a model judge a run's explanations; repeating it asks only what has no reply.

    Args:
        run: a run folder.
        model: one model with settings, as in `--models`.
        rubric: path of a rubric, or the name of ours; None: `explanation`.
        repeats: how often each explanation is judged.
        pairs: compare each two rows as well, in both orders.
        limit: explanations of so many examples of each task at most.
        seed: of what is drawn.
        max_cost: US$ that this judge may cost at most, earlier calls included.
        concurrency, batch_size, adapters: as for `evaluate`.
        offered: `device`, `dtype` and the like, for judges that take them.
        report: write the report, too.

    Raises:
        UserError: an unknown model, setting or rubric; a judge that cannot work; the budget is reached.
    """
    from harness.judge.rubric import load_rubric
    from harness.judge.verdicts import Judgement, JudgeOptions, ask_judge

    folder = RunFolder.open(Path(run))
    specs = parse_models(model)
    if len(specs) != 1:
        raise UserError(f"--judge {model}: expected one model")
    keep_model_secrets(specs)
    cls = adapter_registry(adapters).load(specs[0].adapter)
    adapter = cls(**typed_settings(cls, specs[0], dict(offered or {}) | {"seed": seed}))
    judgement = Judgement(folder, specs[0].name, load_rubric(rubric))
    with folder.locked():
        ask_judge(
            judgement,
            adapter,
            JudgeOptions(repeats, pairs, limit, seed),
            concurrency=concurrency,
            batch_size=batch_size,
            max_cost=max_cost,
        )
        return _with_opinions(folder, report)


def import_ratings(run: str | Path, files: Sequence[Path], *, report: bool = False) -> Evaluation:
    """Add what people answered on pages of `harness rate` to a run.

    Raises:
        UserError: a file that no page of this run wrote.
    """
    from harness.judge.ratings import store_ratings

    folder = RunFolder.open(Path(run))
    with folder.locked():
        store_ratings(folder, files)
        return _with_opinions(folder, report)


def _with_opinions(folder: RunFolder, report: bool) -> Evaluation:
    """Bring what judges and people said into results.json."""
    from harness.judge.results import add_opinions

    results = folder.results() if folder.results_are_current() else _score(folder, None)
    folder.save_results(add_opinions(results, folder))
    page = write_report([folder], folder.path / "report") if report else None
    write_checksums(folder.path)
    return Evaluation(folder.path, results, page=page)


def write_report(folders: Sequence[RunFolder], out: Path, *, blur: bool = False, copy_images: bool = True) -> Path:
    """Write the HTML report of scored runs; the path of its index.html."""
    from harness.reports.build import build_report  # loads jinja2 and more: not before it is wanted

    return build_report(folders, out, blur=blur, copies=copy_images)
