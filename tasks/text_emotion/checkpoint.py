"""Training a classifier into a folder, and reading it back with its record."""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.tasks.text_emotion.base import FloatArray, TextClassifier, accuracy
from harness.types import Annotation, UserError
from harness.yaml_file import check_settings

KINDS: Mapping[str, str] = {
    "tfidf": "harness.tasks.text_emotion.tfidf:TfidfClassifier",
    "lstm": "harness.tasks.text_emotion.lstm:LSTMClassifier",
    "encoder": "harness.tasks.text_emotion.encoder:EncoderClassifier",
}
VERSION = 1
RECORD = "classifier.json"


@dataclass(frozen=True)
class TrainedClassifier:
    """A classifier and what is known about it.

    Attributes:
        classifier: the model.
        record: `kind`, `labels`, `settings`, `seed`, `train_utterances`, `test_utterances`, `test_accuracy` (0..1, None
            without a test split), `sha256` of the weights.
    """

    classifier: TextClassifier
    record: Mapping[str, Any]

    @property
    def labels(self) -> tuple[str, ...]:
        """The emotions, in the order of the columns of `probabilities`."""
        return self.classifier.labels

    def probabilities(self, texts: Sequence[str]) -> FloatArray:
        """Probabilities (n, L) of the labels."""
        return self.classifier.probabilities(texts)


def find_kind(name: str) -> type[TextClassifier]:
    """The class of a kind.

    Raises:
        UserError: unknown kind.
    """
    if name not in KINDS:
        raise UserError(f"text-emotion: kind={name}: expected one of {', '.join(KINDS)}")
    module, _, attribute = KINDS[name].partition(":")
    found: type[TextClassifier] = getattr(importlib.import_module(module), attribute)
    return found


def train_classifier(
    labels: Sequence[str],
    train: Sequence[Annotation],
    val: Sequence[Annotation],
    test: Sequence[Annotation],
    settings: Mapping[str, Any] | None = None,
    *,
    seed: int = 0,
    device: str | None = None,
) -> TrainedClassifier:
    """Train a classifier and measure it.

    Args:
        labels: the label set.
        train, val, test: utterances of the three splits; `test` is only measured.
        settings: `kind` (default `tfidf`) and the settings of that kind.

    Raises:
        UserError: no training utterances, an unknown kind or setting, or training is impossible.
    """
    given = dict(settings or {})
    kind = find_kind(str(given.pop("kind", "tfidf")))
    chosen = check_settings(given, kind.settings_model, f"text-emotion kind={kind.kind}").model_dump()
    written = [u for u in train if u.explanation.strip()]
    if not written:
        raise UserError("text-emotion: the training split holds no explanations")
    classifier = kind.fit(tuple(labels), written, [u for u in val if u.explanation.strip()], chosen, seed, device)
    measured = [u for u in test if u.explanation.strip()]
    record = {
        "version": VERSION,
        "kind": kind.kind,
        "labels": list(labels),
        "settings": chosen | ({"encoder": Path(chosen["encoder"]).name} if "encoder" in chosen else {}),
        "seed": seed,
        "train_utterances": len(written),
        "test_utterances": len(measured),
        "test_accuracy": accuracy(classifier, measured),
    }
    with tempfile.TemporaryDirectory(prefix="text-emotion-") as folder:
        classifier.save(Path(folder))
        return TrainedClassifier(classifier, record | {"sha256": weights_hash(Path(folder))})


def save(trained: TrainedClassifier, out: Path) -> None:
    """Write a classifier to a folder; an existing one is replaced, and never seen half-written.

    Raises:
        UserError: `out` holds something else.
    """
    if out.exists() and not (out / RECORD).is_file() and any(out.iterdir()):
        raise UserError(f"{out} is not empty and holds no text-emotion classifier; choose another --out")
    out.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        trained.classifier.save(made)
        text = json.dumps(dict(trained.record), indent=1, ensure_ascii=False) + "\n"
        (made / RECORD).write_text(text, encoding="utf-8")
        if out.exists():
            shutil.rmtree(out)
        os.replace(made, out)
    finally:
        shutil.rmtree(made, ignore_errors=True)


def load(folder: Path) -> TrainedClassifier:
    """Read a classifier.

    Raises:
        UserError: no classifier there, one of another version, or damaged files.
    """
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        if record["version"] != VERSION:
            raise UserError(f"{folder}: a text-emotion classifier of version {record['version']}, expected {VERSION}")
        if record["sha256"] != weights_hash(folder):
            raise UserError(f"{folder}: the weights do not belong to {RECORD}; train again")
        if record["test_accuracy"] is not None and not 0 <= record["test_accuracy"] <= 1:
            raise ValueError("test_accuracy is no share")
        classifier = find_kind(record["kind"]).load(folder, record["labels"], record["settings"])
    except (OSError, KeyError, ValueError, TypeError, AttributeError) as error:  # not there, or no object of that form
        raise UserError(f"{folder}: no text-emotion classifier can be read there ({error})") from error
    return TrainedClassifier(classifier, record)


def weights_hash(folder: Path) -> str:
    """SHA-256 over names and contents of a folder's files, the record apart."""
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and p.name != RECORD):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()
