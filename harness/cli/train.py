"""`harness train`: train a model on a task's training split."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from harness.adapters import TrainRequest
from harness.cli import EXIT_COMPLETE, add_data_root
from harness.images import max_pixels
from harness.plan.contamination import record_training
from harness.plan.models import parse_models
from harness.plan.registry import (
    TEXT_EMOTION,
    adapter_registry,
    checkpoint_folder,
    data_root,
    find_task,
    open_reader,
)
from harness.store.teacher import read_teachers
from harness.types import UserError
from sevlm.vad import split_scale


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `train`."""
    parser.add_argument("model", metavar="MODEL", help="sevlm, text-emotion, llava, qwen3-vl-8b, hf:CHECKPOINT, …")
    parser.add_argument("--task", required=True, metavar="T", help="task whose training split is used")
    parser.add_argument("--out", type=Path, metavar="DIR", help="default: <data root>/<task>/checkpoints/<model>")
    parser.add_argument("--config", metavar="YAML", help="a training configuration: a file, or a name the model ships")
    parser.add_argument("--init-from", type=Path, metavar="DIR", help="weights to start from")
    parser.add_argument("--lexicon", type=Path, metavar="FILE[:scale=S]", help="valence-arousal-dominance lexicon")
    parser.add_argument(
        "--teacher",
        action="append",
        metavar="[NAME=]OUTCOMES.jsonl",
        help="another model's outcomes on training images, also on some without annotations, to be learned from: "
        "its probabilities as soft labels, and its explanations (sevlm in the improved mode; repeatable)",
    )
    parser.add_argument("--device", metavar="D", help="cpu, cuda, … (default: cuda if there is one)")
    parser.add_argument("--seed", type=int, default=0, metavar="N")
    parser.add_argument("--trust-remote-code", action="store_true", help="let a checkpoint run its own code")
    add_data_root(parser)
    parser.add_argument("settings", nargs="*", metavar="key=value", help="override settings of the configuration")
    parser.add_argument("-h", "--help", action=_Help, nargs=0, help="show this help, behind MODEL with all its keys")


class _Help(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, *_: object) -> None:
        """Print the options and, if a model stands before, the keys that its training takes, with their defaults."""
        parser.print_help()
        if model := namespace.model:
            for settings in filter(None, _training_settings(model)):
                print(f"\nkey=value of {model}, with defaults:")
                for key, value in settings.items():
                    print(f"  {key}={value if isinstance(value, str) else json.dumps(value)}")
        parser.exit()


def _training_settings(model: str) -> Iterator[Mapping[str, Any]]:
    """The keys of a model's training with their defaults, for each kind of the model.

    Raises:
        UserError: no such model.
    """
    if model == TEXT_EMOTION:
        from harness.tasks.text_emotion.checkpoint import KINDS, find_kind

        for kind in KINDS:
            yield {"kind": kind} | find_kind(kind).settings_model().model_dump()
    else:
        (spec,) = parse_models(model)
        yield {**adapter_registry().load(spec.adapter).training_settings(), **spec.settings}


def execute(arguments: argparse.Namespace) -> int:
    """Train; the exit code."""
    if arguments.model == TEXT_EMOTION:
        return _train_text_emotion(arguments)
    (spec,) = parse_models(arguments.model)
    cls = adapter_registry().load(spec.adapter)
    max_pixels()  # a mistake in its variable ends here, not in the list of unreadable images
    for option, path in (("--lexicon", arguments.lexicon), ("--init-from", arguments.init_from)):
        if path is not None and not split_scale(path)[0].exists():
            raise UserError(f"{option} {path}: no such file or folder")
    settings = dict(spec.settings) | parse_settings(arguments.settings)
    if arguments.config:
        settings["config"] = arguments.config
    task, root = find_task(arguments.task), data_root(arguments.data_root)
    reader = open_reader(task, root)
    out = arguments.out or checkpoint_folder(root, task.name, spec.name)
    train = list(reader.examples("train"))
    if arguments.teacher and not cls.learns_from_teachers:
        raise UserError(f"train {arguments.model}: --teacher has no meaning here; sevlm learns from teachers")
    request = TrainRequest(
        task=task,
        train=train,
        val=list(reader.examples("val")),
        out=out,
        init_from=arguments.init_from,
        lexicon=arguments.lexicon,
        settings=settings,
        device=arguments.device,
        seed=arguments.seed,
        trust_remote_code=arguments.trust_remote_code,
        teachers=read_teachers(arguments.teacher, task, train, reader) if arguments.teacher else (),
    )
    with record_training(out, task.name, request.train, arguments.init_from):
        cls.train(request)
    print(f"checkpoint: {out}")
    return EXIT_COMPLETE


def _train_text_emotion(arguments: argparse.Namespace) -> int:
    """The classifier that reads emotions from explanations: no adapter, but trained by the same command."""
    from harness.score.resources import train_text_emotion

    for option in ("config", "init_from", "lexicon", "teacher"):
        if getattr(arguments, option) is not None:
            raise UserError(f"train {TEXT_EMOTION}: --{option.replace('_', '-')} has no meaning here; give key=value")
    task, root = find_task(arguments.task), data_root(arguments.data_root)
    out = arguments.out or checkpoint_folder(root, task.name, TEXT_EMOTION)
    settings = parse_settings(arguments.settings)
    record = train_text_emotion(task, root, out, settings, seed=arguments.seed, device=arguments.device)
    print(f"checkpoint: {out}")
    measured, n = record["test_accuracy"], record["test_utterances"]
    shown = "no test split to measure it on" if measured is None else f"reads {measured:.1%} of {n} test utterances"
    print(f"{record['kind']}, trained on {record['train_utterances']} utterances: {shown}")
    return EXIT_COMPLETE


def parse_settings(pieces: list[str]) -> dict[str, Any]:
    """Read `key=value` pairs; values are YAML scalars.

    Raises:
        UserError: a piece without `=`, or a value that is not YAML.
    """
    settings: dict[str, Any] = {}
    for piece in pieces:
        key, equals, value = piece.partition("=")
        if not equals or not key:
            raise UserError(f"train: expected key=value, got {piece!r}")
        try:
            settings[key] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise UserError(f"train: {piece!r}: the value is not a YAML scalar") from None
    return settings
