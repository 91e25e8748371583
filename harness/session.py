"""The stages of `harness run`: prepare the folder, ask the models, score, report. Other verbs reuse them."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from harness.budget import Budget, budget_of
from harness.cache import ResponseCache, cache_of
from harness.controls import parse_controls, pictures_under
from harness.environment import peak_gpu_memory_gb, reset_peak_gpu_memory
from harness.estimates import check_prices, describe_requests
from harness.manifest import check_fingerprint, check_resumable, new_manifest, run_record, task_record
from harness.model_spec import ModelSpec, keep_model_secrets, parse_models
from harness.plan import Options, Plan, TaskPlan, make_plan
from harness.redact import redact
from harness.registry import adapter_registry
from harness.runner import Row, RowTimes, run_row
from harness.store import RowKey, RunFolder
from harness.task_source import data_root
from harness.types import Control, Example, Failed, UserError

if TYPE_CHECKING:
    from harness.adapters import EndpointAdapter, LocalAdapter


def prepare(options: Mapping[str, Any], command: list[str]) -> tuple[Plan, RunFolder]:
    """Check everything that can be checked before writing: names, data, settings, checkpoints, the run folder.

    Raises:
        UserError: see `make_plan`, `Plan.build` and `check_resumable`.
    """
    registry = adapter_registry(options["adapter"] or ())
    models = parse_models(options["models"])
    keep_model_secrets(models)
    tasks = [name.strip() for name in options["tasks"].split(",") if name.strip()]
    plan = make_plan(tasks, models, registry, _plan_options(options))
    for task in plan.tasks:
        for spec in plan.models:
            plan.build(task, spec)
    if options["max_cost"] is not None:
        check_prices(plan)
    folder = RunFolder(options["out"] or plan.default_folder())
    if (folder.path / "manifest.json").exists():
        check_resumable(folder, plan)
    elif folder.path.exists() and any(folder.path.iterdir()):
        raise UserError(f"{folder.path} is not empty and holds no run; choose another --out")
    plan_manifest = new_manifest(plan, command)
    if not options["dry_run"] and not (folder.path / "manifest.json").exists():
        folder.save_manifest(plan_manifest)
    return plan, folder


def _plan_options(options: Mapping[str, Any]) -> Options:
    if options["lexicon"] is not None and not options["lexicon"].is_file():
        raise UserError(f"--lexicon {options['lexicon']}: no such file")
    offered = {"device": options["device"], "dtype": options["dtype"]}
    offered["lexicon"] = str(options["lexicon"]) if options["lexicon"] else None
    offered["trust_remote_code"] = options["trust_remote_code"] or None
    return Options(
        data_root=data_root(options["data_root"]),
        split=options["split"],
        seed=options["seed"],
        limit=options["limit"],
        ids=_read_ids(options["ids_file"]) if options["ids_file"] else None,
        controls=tuple(parse_controls(options["controls"])),
        offered=offered,
    )


def _read_ids(path: Path) -> frozenset[str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--ids-file {path}: cannot be read ({error})") from error
    ids = frozenset(line.strip() for line in lines if line.strip())
    if not ids:
        raise UserError(f"--ids-file {path}: holds no id; expected one a line")
    return ids


def describe(plan: Plan, folder: RunFolder) -> str:
    """What `run` would do, for `--dry-run`."""
    lines = [f"run folder: {folder.path}"]
    for task in plan.tasks:
        name = task.task.name
        lines.append(f"task {name}: {len(task.examples)} of {task.available} examples of split {task.split!r}")
        lines += [f"  note: {note}" for note in task.reader.notes()]
        for spec in plan.models:
            for control in (None, *plan.options.controls):
                row = RowKey(spec.name, control)
                known = folder.outcomes(name, row)
                done = sum(e.id in known for e in task.examples)
                lines.append(f"  {row.stem} ({spec.adapter}): {done} done, {len(task.examples) - done} to ask")
                pending = [e for e in task.examples if e.id not in known]
                requests = describe_requests(plan, task, spec, pending)
                lines += [f"    {requests}"] if requests else []
    return "\n".join(lines)


@contextmanager
def locked(folder: RunFolder) -> Iterator[None]:
    """Keep other processes out of a run folder (the operating system frees the lock of a dead process).

    Raises:
        UserError: another process works in the folder.
    """
    lock = FileLock(folder.path / ".lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise UserError(f"{folder.path}: another harness process works in this run folder; wait for it") from None
    try:
        yield
    finally:
        lock.release()


def ask(plan: Plan, folder: RunFolder, options: Mapping[str, Any]) -> dict[str, float]:
    """Run every row that has unanswered examples; the share of failures per `task/row`.

    Raises:
        UserError: a model changed since the run was begun, or cannot work at all.
    """
    rates = {}
    with locked(folder):
        manifest = folder.manifest()
        budget = budget_of(folder, [t.task.name for t in plan.tasks], options["max_cost"])
        for task in plan.tasks:
            _snapshot(folder, manifest, task)
            for spec in plan.models:
                for control in (None, *plan.options.controls):
                    row = RowKey(spec.name, control)
                    _ask_row(plan, folder, manifest, task, spec, row, options, budget)
                    outcomes = folder.outcomes(task.task.name, row)
                    failed = sum(isinstance(o, Failed) for o in outcomes.values())
                    rates[f"{task.task.name}/{row.stem}"] = failed / len(outcomes)
    return rates


def _snapshot(folder: RunFolder, manifest: dict[str, Any], task: TaskPlan) -> None:
    """Keep the examples in the folder; a smaller `--limit` never shrinks what an earlier command selected."""
    name = task.task.name
    selected = {e.id for e in task.examples}
    known = {e.id for e in folder.examples(name)} if folder.has_examples(name) else set()
    if not selected <= known or not known:
        union = [e for e in task.reader.examples(task.split) if e.id in selected | known]
        folder.save_examples(name, union)
        record = next(t for t in manifest["tasks"] if t["name"] == name)
        record.update(redact(task_record(task)) | {"examples": len(union)})
        folder.save_manifest(manifest)


def _ask_row(
    plan: Plan,
    folder: RunFolder,
    manifest: dict[str, Any],
    task: TaskPlan,
    spec: ModelSpec,
    row: RowKey,
    options: Mapping[str, Any],
    budget: Budget | None,
) -> None:
    name = task.task.name
    adapter = plan.build(task, spec)
    record = run_record(manifest, name, row)
    fingerprint = adapter.fingerprint()
    check_fingerprint(record, fingerprint, folder.path)
    known = folder.outcomes(name, row)
    pending = [e for e in task.examples if _unanswered(known.get(e.id), options["retry_failed"])]
    if not pending:
        return
    if known:
        print(f"{name}/{row.stem}: {len(task.examples) - len(pending)} of {len(task.examples)} done", file=sys.stderr)
    record |= redact({"fingerprint": fingerprint, "prompt": task.prompt(spec), "needs": sorted(adapter.needs)})
    record |= {k: options[k] for k in ("batch_size", "concurrency", "device", "dtype")} | {"seed": plan.options.seed}
    folder.save_manifest(manifest)
    reset_peak_gpu_memory()
    _supply(adapter, task, spec, plan.options.data_root)
    try:
        with cache_of(adapter, plan.options.data_root, used=not options["no_cache"]) as cache:
            times = _answer(adapter, folder, task, spec, row, pending, plan.options.seed, options, cache, budget)
    finally:
        record["parameters"] = adapter.parameters()
        record["observed"] = redact(adapter.observed())
        folder.save_manifest(manifest)
        adapter.close()
    record["wall_s"] = round(record.get("wall_s", 0.0) + times.seconds, 3)
    record["asked"] = record.get("asked", 0) + len(pending) - times.cached
    record["cached"] = record.get("cached", 0) + times.cached
    record["peak_memory_gb"] = peak_gpu_memory_gb()
    folder.save_manifest(manifest)


def _unanswered(outcome: object, retry_failed: bool) -> bool:
    return outcome is None or (retry_failed and isinstance(outcome, Failed))


def _supply(adapter: LocalAdapter | EndpointAdapter, task: TaskPlan, spec: ModelSpec, root: Path) -> None:
    """Give an adapter what it declared to need, and let it load."""
    if "train" in adapter.needs:
        training = task.training(spec, root)
        if not training:
            source = spec.trained_on or task.task.name
            raise UserError(f"model {adapter.name!r} needs training examples; task {source!r} has no split 'train'")
        adapter.fit(training)
    if "references" in adapter.needs:
        adapter.attach(task.examples)
    adapter.load()


def _answer(
    adapter: LocalAdapter | EndpointAdapter,
    folder: RunFolder,
    task: TaskPlan,
    spec: ModelSpec,
    row: RowKey,
    pending: Sequence[Example],
    seed: int,
    options: Mapping[str, Any],
    cache: ResponseCache | None,
    budget: Budget | None,
) -> RowTimes:
    control: Control | None = row.control  # type: ignore[assignment]
    everything = list(folder.examples(task.task.name))
    pictures = pictures_under(control, everything, seed, folder.path / "controls")
    shown = Row(
        f"{task.task.name}/{row.stem}",
        task.labels(spec),
        task.prompt(spec),
        pictures,
        task.task.ratings,
        task.task.explanations,
        task.label_map(spec) if spec.trained_on else {},
    )
    with folder.open_log(task.task.name, row) as log:
        sizes = {"batch_size": options["batch_size"], "concurrency": options["concurrency"]}
        state = folder.path / "batches" / task.task.name / f"{row.stem}.json"
        return run_row(adapter, shown, pending, log, **sizes, cache=cache, budget=budget, batch_state=state)


def choose_for_scoring(folder: RunFolder, **chosen: str | None) -> None:
    """Record what the user chose for scoring (`lexicon`, `bert_score`); what was not given stays as it was.

    The manifest changes only where a choice does, so that results stay current otherwise.
    """
    manifest = folder.manifest()
    known = dict(manifest.get("scoring", {}))
    wanted = known | {name: value for name, value in chosen.items() if value is not None}
    if wanted != known:
        folder.save_manifest({**manifest, "scoring": wanted})


def score(folder: RunFolder, root: Path | None) -> dict[str, Any]:
    """Score a run and write results.json."""
    from harness.results import score_run

    results = score_run(folder, root=root)
    folder.save_results(results)
    return results


def report(folders: Sequence[RunFolder], out: Path, *, blur: bool = False, copies: bool = True) -> Path:
    """Write the HTML report; the path of its index.html."""
    from harness.reports.build import build_report

    page: Path = build_report(folders, out, blur=blur, copies=copies)
    return page


def print_summary(results: Mapping[str, Any], folder: RunFolder) -> None:
    """The compact leaderboard, and where to read more."""
    from harness.reports.terminal import leaderboard_table

    for record in results["manifest"]["tasks"]:
        print(leaderboard_table(dict(results), record["name"]))
    page = folder.path / "report" / "index.html"
    print(f"\nreport: {page}" if page.exists() else f"\nresults: {folder.path / 'results.json'}")


def print_failures(folder: RunFolder, rates: Mapping[str, float], limit: float) -> None:
    """Say which rows failed too often, and with what."""
    for name, rate in rates.items():
        if rate > limit:
            task, _, stem = name.partition("/")
            failed = [o for o in folder.outcomes(task, RowKey.from_stem(stem)).values() if isinstance(o, Failed)]
            first = f"{failed[0].error_type}: {failed[0].message}"
            print(f"harness: {name}: {len(failed)} failures ({rate:.1%} > {limit:.1%}), e.g. {first}", file=sys.stderr)
    print("harness: mend the cause and repeat the command with --retry-failed", file=sys.stderr)
