"""The adapter contract as tests that anybody can run on an adapter of their own: `harness check-adapter`."""

from __future__ import annotations

import dataclasses
import inspect
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from harness.adapters import EndpointAdapter, LocalAdapter
from harness.check import Finding
from harness.infer.endpoint import drive
from harness.infer.local import predict
from harness.infer.run import checked
from harness.plan.models import ModelSpec, typed_settings
from harness.plan.registry import adapter_registry, data_root, find_task, open_reader
from harness.redact import redact
from harness.tasks.prompts import DEFAULT_PROMPT, render
from harness.types import Answer, Example, Failed, Item, Outcome, Refusal, Unparsed, UserError

SAMPLE = 5
BUILD_ELSEWHERE = (
    "import json, sys; from harness.check.adapter import build; "
    "print(json.dumps(build(sys.argv[1], json.loads(sys.argv[2])).fingerprint(), sort_keys=True))"
)


def build(target: str, settings: Mapping[str, str]) -> LocalAdapter | EndpointAdapter:
    """Construct an adapter as `harness run` does.

    Args:
        target: `FILE.py:Class`, or the name of a registered model.
        settings: as typed after the model's name.

    Raises:
        UserError: no such class, or settings that it does not take.
    """
    is_file = ":" in target
    registry = adapter_registry([f"checked={target}"] if is_file else [])
    name = "checked" if is_file else target
    cls = registry.load(name)
    adapter: LocalAdapter | EndpointAdapter = cls(**typed_settings(cls, ModelSpec(name, name, settings), {"seed": 0}))
    return adapter


def check_adapter(target: str, settings: Mapping[str, str], folder: Path) -> Iterator[Finding]:
    """Build the adapter and ask it about a few embedded examples; one finding per rule of the contract.

    Args:
        folder: an empty folder for a corrupt image.

    Raises:
        UserError: it cannot be built, or says itself what the user has to fix.
    """
    adapter = build(target, settings)
    fingerprint = adapter.fingerprint()
    yield from _check_fingerprint(target, settings, fingerprint)
    yield from _check_settings(target, settings, fingerprint)
    items, examples, training = sample(folder)
    prepare(adapter, examples, training)
    try:
        outcomes = answers(adapter, items)
        yield from _check_outcomes(outcomes, items)
        yield _check_order(adapter, outcomes, items)
    finally:
        adapter.close()
    same = adapter.fingerprint() == fingerprint
    yield Finding(same, "the fingerprint is the same after loading and answering (a resumed run compares it)")
    fresh = build(target, settings)
    prepare(fresh, examples, training)
    try:
        rest = [_content(o) for o in answers(fresh, items[2:])]
        again = [_content(o) for o in answers(fresh, items[2:])]
    finally:
        fresh.close()
    if rest != again:
        yield Finding(True, "note: asked twice, it answers differently, so a resumed run is another sample")
        return
    same = rest == [_content(o) for o in outcomes[2:]]
    yield Finding(same, "built anew, it answers the remaining items as before (a resumed run equals a whole one)")


def sample(folder: Path) -> tuple[list[Item], list[Example], list[Example]]:
    """Items about embedded examples, one of them corrupt; their examples; and training examples."""
    task = find_task("demo")
    reader = open_reader(task, data_root())
    examples = list(reader.examples("test"))[:SAMPLE]
    corrupt = folder / "corrupt.jpg"
    corrupt.write_bytes(examples[1].image.read_bytes()[:1000])
    examples[1] = dataclasses.replace(examples[1], image=corrupt)
    prompt = render(DEFAULT_PROMPT, task.emotions)
    items = [Item(example.id, example.image, task.emotions, prompt) for example in examples]
    return items, examples, list(reader.examples("train"))


def prepare(adapter: LocalAdapter | EndpointAdapter, examples: Sequence[Example], training: Sequence[Example]) -> None:
    """Give what the adapter needs, and load it."""
    if "train" in adapter.needs:
        adapter.fit(training)
    if "references" in adapter.needs:
        adapter.attach(examples)
    adapter.load()


def answers(adapter: LocalAdapter | EndpointAdapter, items: Sequence[Item]) -> list[Outcome | None]:
    """What the runner records for each item; None where nothing was recorded."""
    if not isinstance(adapter, EndpointAdapter):
        return list(predict(adapter, items))
    recorded: dict[str, Outcome] = {}
    with tqdm(disable=True) as progress:
        drive(adapter, items, 4, lambda item, outcome: recorded.update({item.id: outcome}), progress)
    return [recorded.get(item.id) for item in items]


def _check_fingerprint(target: str, settings: Mapping[str, str], fingerprint: Any) -> Iterator[Finding]:
    again = build(target, settings).fingerprint()
    try:
        json.dumps(fingerprint, allow_nan=False)
        plain = isinstance(fingerprint, dict) and bool(fingerprint)
    except (TypeError, ValueError):
        plain = False
    yield Finding(plain, "fingerprint() is a non-empty dict of plain JSON values")
    yield Finding(fingerprint == again, "two adapters built alike have the same fingerprint")
    yield Finding(not plain or redact(fingerprint) == fingerprint, "the fingerprint holds nothing that looks secret")
    # distributed runs build the adapter in other processes
    command = [sys.executable, "-c", BUILD_ELSEWHERE, target, json.dumps(dict(settings))]
    done = subprocess.run(command, capture_output=True, text=True)
    rule = "another process builds it from name and settings alone, with the same fingerprint"
    if done.returncode != 0:
        yield Finding(False, f"{rule}: {(done.stderr.strip().splitlines() or ['no output'])[-1]}")
    else:
        yield Finding(json.loads(done.stdout.splitlines()[-1]) == json.loads(json.dumps(fingerprint)), rule)


def _check_settings(target: str, settings: Mapping[str, str], fingerprint: Mapping[str, Any]) -> Iterator[Finding]:
    """A note on numbers among the settings that leave the fingerprint unchanged; time-outs may, thresholds may not."""
    parameters = inspect.signature(type(build(target, settings))).parameters
    silent = []
    for name, parameter in parameters.items():
        default = parameter.default
        if isinstance(default, int | float) and not isinstance(default, bool) and name != "seed":
            try:
                other = build(target, {**settings, name: str(default + 1)}).fingerprint()
            except UserError:
                continue  # that value is not allowed
            silent += [name] if other == fingerprint else []
    if silent:
        names = ", ".join(silent)
        yield Finding(True, f"note: not in the fingerprint: {names}; right only where answers do not depend on it")


def _check_outcomes(outcomes: Sequence[Outcome | None], items: Sequence[Item]) -> Iterator[Finding]:
    kinds = all(isinstance(outcome, Answer | Refusal | Unparsed | Failed) for outcome in outcomes)
    yield Finding(kinds and len(outcomes) == len(items), "one outcome per item: Answer, Refusal, Unparsed or Failed")
    if not kinds:
        return
    corrupt = outcomes[1]
    shown = f"got {type(corrupt).__name__}" if not isinstance(corrupt, Failed) else "got Failed"
    needs_none = "a corrupt image gets no answer"
    yield Finding(isinstance(corrupt, Failed), f"{needs_none} ({shown})")
    sound = [outcome for outcome in outcomes if outcome is not None]
    changed = [item.id for item, o in zip(items, sound, strict=True) if type(checked(o, item.labels)) is not type(o)]
    yield Finding(not changed, "labels are the task's and probabilities a distribution over them")
    failed = [o for i, o in enumerate(sound) if i != 1 and isinstance(o, Failed)]
    first = f", e.g. {failed[0].error_type}: {failed[0].message}" if failed else ""
    yield Finding(not failed, f"sound images are not failures{first}")


def _check_order(
    adapter: LocalAdapter | EndpointAdapter, outcomes: Sequence[Outcome | None], items: Sequence[Item]
) -> Finding:
    """One batch asked forwards and in reverse agrees with items asked before; a model that varies is noted.

    The corrupt image stays out, because a batch that raises is asked again item by item.
    """
    items = [*items[:1], *items[2:]]
    forwards = [_content(o) for o in answers(adapter, items)]
    reverse = [_content(o) for o in reversed(answers(adapter, list(reversed(items))))]
    first = [_content(o) for o in (*outcomes[:1], *outcomes[2:])]
    if reverse == forwards == first:
        return Finding(True, "outcomes follow the order of the items")
    if [_content(o) for o in answers(adapter, items)] != forwards:
        return Finding(True, "note: asked twice, it answers differently; order and resuming cannot be checked")
    return Finding(False, "outcomes follow the order of the items (asked in reverse, other images got the answers)")


def _content(outcome: Outcome | None) -> object:
    """What two runs compare: never latency, and probabilities to four digits."""
    match outcome:
        case Answer():
            rounded = {label: round(p, 4) for label, p in (outcome.emotion_probs or {}).items()}
            return "answer", outcome.emotion, outcome.explanation, rounded
        case Failed():
            return "failed", outcome.error_type
        case Refusal() | Unparsed():
            return type(outcome).__name__, outcome.raw
    return None
