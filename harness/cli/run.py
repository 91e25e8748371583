"""`harness run`: the options of `harness.evaluate`, and what is printed of it."""

from __future__ import annotations

import argparse
import sys
import webbrowser
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from harness.api import RunOptions, evaluate, prepare
from harness.cli import (
    EXIT_COMPLETE,
    EXIT_TOO_MANY_FAILURES,
    add_data_root,
    add_look,
    copies_images,
    dollars,
    positive,
    print_summary,
)
from harness.errors import nearest
from harness.plan.plan import Plan, describe_requests
from harness.store.outcomes import Recorded
from harness.store.run_folder import RunFolder
from harness.types import Failed, RowKey, UserError
from harness.yaml_file import YamlFile

if TYPE_CHECKING:
    import yaml

DEFAULTS: dict[str, Any] = {
    "split": "test",
    "batch_size": 8,
    "concurrency": 8,
    "executor": "local",
    "seed": 0,
    "max_error_rate": 0.05,
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `run`."""
    what = parser.add_argument_group("what to run")
    what.add_argument("--tasks", metavar="T[,T…]", help="task names, or paths of task YAML files")
    what.add_argument("--models", metavar="M[,M…]", help="models, with settings: qwen3-vl-8b:dtype=bf16,hf:PATH")
    what.add_argument("--adapter", metavar="NAME=FILE.py:Class", action="append", help="add a model of your own")
    what.add_argument("--split", help="split to answer (default: test)")
    what.add_argument("--limit", type=positive, metavar="N", help="only the first N examples")
    what.add_argument("--ids-file", type=Path, metavar="F", help="only the examples whose ids are in F, one a line")
    what.add_argument("--controls", metavar="C[,C]", help="also run on images made useless: blank, shuffled")
    where = parser.add_argument_group("where")
    where.add_argument("--out", type=Path, metavar="RUN", help="run folder (default: runs/<tasks>-<identity>)")
    add_data_root(where)
    where.add_argument("--config", type=Path, metavar="YAML", help="options of this command, by their long names")
    how = parser.add_argument_group("how")
    how.add_argument("--batch-size", type=size_or_auto, metavar="N|auto", help="images a local model gets at once (8)")
    how.add_argument("--device", metavar="D", help="cpu, cuda, cuda:1 … (default: the model's choice)")
    how.add_argument("--dtype", metavar="D", help="fp32, bf16 or fp16 (default: the model's choice)")
    how.add_argument("--concurrency", type=positive, metavar="N", help="requests to an endpoint at once (8)")
    how.add_argument(
        "--executor", metavar="E", help="where local models compute: local (default), or ray: on a Ray cluster's nodes"
    )
    how.add_argument("--seed", type=int, metavar="N", help="for whatever is drawn (default: 0)")
    how.add_argument("--lexicon", type=Path, metavar="FILE[:scale=S]", help="valence-arousal-dominance lexicon")
    how.add_argument("--trust-remote-code", action="store_true", help="let a hub checkpoint run its own code")
    how.add_argument(
        "--max-error-rate", type=_share, metavar="R", help="exit code 1 above this share of failures (0.05)"
    )
    how.add_argument("--retry-failed", action="store_true", help="ask again about examples that failed")
    how.add_argument(
        "--max-cost", type=dollars, metavar="USD", help="stop before a request could take the run's cost above this"
    )
    how.add_argument("--no-cache", action="store_true", help="ask even what the response cache knows, and keep nothing")
    how.add_argument(
        "--dry-run",
        action="store_true",
        help="say what would be done, with tokens and dollars; write nothing",
    )
    how.add_argument("--no-report", action="store_true", help="stop after results.json")
    add_look(how)
    how.add_argument("--open", action="store_true", help="open the report in a browser")


def size_or_auto(text: str) -> int:
    """A batch size, 0 if it is to be found while answering, for argparse."""
    return 0 if text == "auto" else positive(text)


def _share(text: str) -> float:
    share = float(text)
    if not 0 <= share <= 1:
        raise argparse.ArgumentTypeError(f"must be from 0 to 1, got {text}")
    return share


def execute(arguments: argparse.Namespace) -> int:
    """Run the plan, score it, report it; the exit code."""
    options = merge_config(arguments)
    for name in ("tasks", "models"):
        if not options[name]:
            raise UserError(f"--{name} is needed; for instance: harness run --tasks demo --models majority,nearest")
    copy_images = copies_images(options["pictures"])
    asked = run_options(options)
    command = ["harness", *sys.argv[1:]]
    if options["dry_run"]:
        run = prepare(options["tasks"], options["models"], command=command, dry_run=True, **asked)
        print(describe(run.plan, run.folder))
        return EXIT_COMPLETE
    done = evaluate(
        options["tasks"],
        options["models"],
        report=not options["no_report"],
        blur=options["blur"],
        copy_images=copy_images,
        command=command,
        **asked,
    )
    if options["open"] and done.page is not None:
        webbrowser.open(done.page.absolute().as_uri())
    print_summary(done.folder, done.results)
    limit = options["max_error_rate"]
    failing = {name: rate for name, rate in done.failure_rates.items() if rate > limit}
    if not failing:
        return EXIT_COMPLETE
    for name, rate in failing.items():
        task, _, stem = name.partition("/")
        outcomes = RunFolder(done.folder).outcomes(task, RowKey.from_stem(stem)).values()
        failed = [outcome for outcome in outcomes if isinstance(outcome, Failed)]
        first = f"{failed[0].error_type}: {failed[0].message}"
        print(f"harness: {name}: {len(failed)} failures ({rate:.1%} > {limit:.1%}), e.g. {first}", file=sys.stderr)
    print("harness: fix the cause and rerun the command with --retry-failed", file=sys.stderr)
    return EXIT_TOO_MANY_FAILURES


def run_options(options: Mapping[str, Any]) -> RunOptions:
    """The options of the command as `harness.evaluate` takes them.

    Raises:
        UserError: `--ids-file` cannot be read, or holds no id.
    """
    given = {name: options[name] for name in RunOptions.__annotations__ if name in options}
    ids, path = None, options["ids_file"]
    if path:
        try:
            lines = path.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"--ids-file {path}: cannot be read ({error})") from error
        ids = frozenset(line.strip() for line in lines if line.strip())
        if not ids:
            raise UserError(f"--ids-file {path}: holds no id; expected one a line")
    return cast(RunOptions, {**given, "adapters": options["adapter"], "ids": ids, "cache": not options["no_cache"]})


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


def merge_config(arguments: argparse.Namespace) -> dict[str, Any]:
    """Command line over `--config` over defaults, by long option name with underscores.

    Raises:
        UserError: see `read_config`.
    """
    given = {k: v for k, v in vars(arguments).items() if k not in ("verb", "execute", "parser")}
    from_file = read_config(arguments.config, arguments.parser) if arguments.config else {}
    return {
        name: value if value is not None and value is not False else from_file.get(name, DEFAULTS.get(name, value))
        for name, value in given.items()
    }


# ------------------------------------------- --config: a file that stands for options, and is checked like them

COMMA_LISTS = ("tasks", "models", "controls")
ONLY_TYPED = "trust_remote_code"
"""Never taken from a file: whoever wrote the file may not be who runs it."""


def read_config(path: Path, parser: argparse.ArgumentParser) -> dict[str, Any]:
    """Options by long name with underscores, of the types that `parser` gives them.

    Lists may stand for comma lists.

    Raises:
        UserError: no such file, not plain YAML, an unknown option or a value that the option does not take; the message
            names file, line and column.
    """
    document = YamlFile(path)
    known = {a.dest: a for a in parser._actions if a.option_strings and a.dest not in ("help", "config")}
    values: dict[str, Any] = {}
    for key, key_node, node in document.mapping(document.root):
        name = key.replace("-", "_")
        if name not in known:
            raise document.error(key_node, f"unknown option {key!r}; {nearest(name, known)}")
        values[name] = _value(document, node, known[name])
        if name == ONLY_TYPED or f"{ONLY_TYPED}=" in str(values[name]):
            raise document.error(key_node, f"{ONLY_TYPED} must be typed: --trust-remote-code on the command line")
    return values


def _value(document: YamlFile, node: yaml.Node, action: argparse.Action) -> Any:
    """A node as its option takes it on the command line."""
    plain = document.plain(node)
    if action.nargs == 0:  # a switch
        if not isinstance(plain, bool):
            raise document.error(node, f"expected true or false, got {plain!r}")
        return plain
    pieces = plain if isinstance(plain, list) else [plain]
    if any(isinstance(piece, dict | list | bool) or piece is None for piece in pieces):
        raise document.error(node, "expected text or a number")
    if isinstance(action, argparse._AppendAction):
        return [str(piece) for piece in pieces]
    if isinstance(plain, list) and action.dest not in COMMA_LISTS:
        raise document.error(node, "expected one value, got a list")
    text = ",".join(map(str, pieces))
    try:
        value = action.type(text) if callable(action.type) else text
    except (ValueError, argparse.ArgumentTypeError) as error:
        raise document.error(node, f"{action.option_strings[0]} does not take {text!r} ({error})") from None
    if action.choices is not None and value not in action.choices:
        raise document.error(node, f"{action.option_strings[0]}: expected one of {', '.join(action.choices)}")
    return value
