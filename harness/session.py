"""The stages of `harness run`: prepare the folder, ask the models, score, report. Other verbs reuse them."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from harness.infer.local import check_executor
from harness.plan.controls import parse_controls
from harness.plan.estimates import check_prices, describe_requests
from harness.plan.id_set import Recorded
from harness.plan.manifest import check_resumable, new_manifest
from harness.plan.models import keep_model_secrets, parse_models
from harness.plan.plan import Options, Plan, make_plan
from harness.plan.registry import adapter_registry
from harness.plan.tasks import data_root
from harness.store.run_folder import RowKey, RunFolder
from harness.types import Failed, UserError


def prepare(options: Mapping[str, Any], command: list[str]) -> tuple[Plan, RunFolder]:
    """Check everything that can be checked before writing: names, data, settings, checkpoints, the run folder.

    Raises:
        UserError: see `make_plan`, `Plan.build` and `check_resumable`.
    """
    check_executor(options["executor"])
    registry = adapter_registry(options["adapter"] or ())
    models = parse_models(options["models"])
    keep_model_secrets(models)
    tasks = [name.strip() for name in options["tasks"].split(",") if name.strip()]
    plan = make_plan(tasks, models, registry, _plan_options(options))
    for task in plan.tasks:
        for spec in plan.models:
            if "train" in plan.build(task, spec).needs:
                plan.check_training(task, spec)
    if options["max_cost"] is not None:
        check_prices(plan)
    folder = RunFolder(options["out"] or plan.default_folder())
    if folder.path.exists() and not folder.path.is_dir():
        raise UserError(f"--out {folder.path}: is a file, expected a folder")
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
        lines.append(f"task {name}: {len(task.examples)} of {task.examples.available} examples of split {task.split!r}")
        lines += [f"  note: {note}" for note in task.reader.notes()]
        for spec in plan.models:
            for control in (None, *plan.options.controls):
                row = RowKey(spec.name, control)
                pending = Recorded(folder.each_outcome(name, row)).to_ask(task.examples.ids, retry_failed=False)
                done = len(task.examples) - len(pending)
                lines.append(f"  {row.stem} ({spec.adapter}): {done} done, {len(pending)} to ask")
                examples = (e for e in task.examples if e.id in pending)
                requests = describe_requests(plan, task, spec, examples, len(pending))
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
    """Run every row that has unanswered examples; the caller holds the folder's lock. See `asking.ask`."""
    from harness.infer.run import ask as ask_every_row

    return ask_every_row(plan, folder, options)


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
    from harness.score.results import score_run

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
