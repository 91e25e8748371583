"""What scoring uses besides outcomes: the text-emotion classifier, trained here, the lexicon, the user's encoders."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.plan.registry import TEXT_EMOTION, checkpoint_folder, metric_registry, open_reader
from harness.tasks.metrics.affect import WordAffect
from harness.tasks.metrics.alignment import EmotionReader
from harness.tasks.metrics.base import Context, Metric, Unavailable
from harness.types import Annotation, Task, UserError

if TYPE_CHECKING:
    from harness.tasks.metrics.similarity import TextSimilarity
    from harness.tasks.metrics.triggers import SentenceEncoder
    from harness.tasks.text_emotion.checkpoint import TrainedClassifier
    from sevlm.vad import VADLexicon

DEFAULT_LEXICON = "vader"


def word_affect(lexicon: str | None) -> WordAffect:
    """The lexicon of the metrics of valence, arousal and dominance.

    Args:
        lexicon: path of a file of any layout that `sevlm.vad` knows; None for VADER's words, which have a
            valence only.

    Raises:
        UserError: the file cannot be read.
    """
    if lexicon is None:
        return _default_word_affect()
    found = _loaded(lexicon)
    print(f"lexicon {lexicon}: {len(found):,} words, read as {found.name} ({found.recognised})", file=sys.stderr)
    return _word_affect(found)


@cache
def _default_word_affect() -> WordAffect:
    return _word_affect(_loaded(DEFAULT_LEXICON))


def _loaded(lexicon: str) -> VADLexicon:
    from sevlm.config import SEVLMError
    from sevlm.vad import load_lexicon

    try:
        return load_lexicon(lexicon)
    except SEVLMError as error:
        raise UserError(str(error)) from error


def _word_affect(found: VADLexicon) -> WordAffect:
    entries = {word.lower(): values for word, values in found.entries.items()}
    return WordAffect(found.name, cache(found.fingerprint), found.dimensions, entries)


def text_similarity(chosen: str | None) -> TextSimilarity | None:
    """The encoder of BERTScore from `MODEL` or `MODEL:LAYER`; None where none was chosen.

    Raises:
        UserError: the layer is no positive number.
    """
    if chosen is None:
        return None
    from harness.tasks.metrics.similarity import TextSimilarity

    model, colon, layer = chosen.rpartition(":")
    if not colon or "/" in layer:
        return TextSimilarity(chosen)
    if not layer.isdecimal() or int(layer) < 1:
        raise UserError(f"--bert-score {chosen}: expected MODEL or MODEL:LAYER, got layer {layer!r}")
    return TextSimilarity(model, int(layer))


def chosen_encoders(chosen: Mapping[str, str]) -> tuple[object, ...]:
    """The encoders that a manifest's `scoring` names: of BERTScore, CLIPScore and trigger recall.

    Raises:
        UserError: see `text_similarity` and `sentence_encoder`.
    """
    found: list[object] = [
        text_similarity(chosen.get("bert_score")),
        sentence_encoder(chosen.get("sentence_encoder")),
    ]
    if chosen.get("clip"):
        from harness.tasks.metrics.clip import ImageTextSimilarity

        found.append(ImageTextSimilarity(chosen["clip"]))
    return tuple(encoder for encoder in found if encoder is not None)


def sentence_encoder(chosen: str | None) -> SentenceEncoder | None:
    """The encoder of trigger recall from `MODEL` or `MODEL:COSINE`; None where none was chosen.

    Raises:
        UserError: the cosine is not between 0 and 1.
    """
    if chosen is None:
        return None
    from harness.tasks.metrics.triggers import SentenceEncoder

    model, colon, least = chosen.rpartition(":")
    if not colon or "/" in least:
        return SentenceEncoder(chosen)
    try:
        found_from = float(least)
    except ValueError:
        found_from = 0.0
    if not 0 < found_from < 1:
        raise UserError(f"--sentence-encoder {chosen}: expected MODEL or MODEL:COSINE, got cosine {least!r}")
    return SentenceEncoder(model, found_from)


def emotion_reader(task: Task, root: Path) -> EmotionReader:
    """The classifier of a task: the one made by `harness train text-emotion`, else a default one.

    A default one is trained when first needed and kept under the data root by the content of its training data.
    """

    def obtain() -> TrainedClassifier:
        from harness.tasks.text_emotion import checkpoint

        made = checkpoint_folder(root, task.name, TEXT_EMOTION)
        try:
            if made.is_dir():
                return checkpoint.load(made)
            train, test = (utterances(task, root, split) for split in ("train", "test"))
            if not train:
                raise Unavailable("the training split is not available, from which the text-emotion classifier learns")
            kept = root / task.name / TEXT_EMOTION / _content_hash(task, train, test)
            if kept.is_dir():
                return checkpoint.load(kept)
            print(f"{task.name}: training the text-emotion classifier", file=sys.stderr)
            trained = checkpoint.train_classifier(task.emotions, train, (), test)
            try:
                checkpoint.save(trained, kept)
            except OSError as error:
                lost = f"the classifier could not be kept ({error}); it is trained again next time"
                print(f"{task.name}: {lost}", file=sys.stderr)
            return trained
        except UserError as error:
            raise Unavailable(str(error)) from error

    return EmotionReader(obtain)


def utterances(task: Task, root: Path, split: str) -> Sequence[Annotation]:
    """Every annotation of a split, in file order; none where the data is not available."""
    try:
        return [a for example in open_reader(task, root).examples(split) for a in example.annotations]
    except UserError:
        return []


def _content_hash(task: Task, *parts: Sequence[Annotation]) -> str:
    from harness.tasks.text_emotion.checkpoint import VERSION

    digest = hashlib.sha256(json.dumps([VERSION, task.emotions]).encode())
    for part in parts:
        for note in part:
            digest.update(json.dumps([note.emotion, note.explanation]).encode())
        digest.update(b"\n")
    return digest.hexdigest()[:16]


def train_text_emotion(
    task: Task, root: Path, out: Path, settings: Mapping[str, Any], *, seed: int, device: str | None
) -> dict[str, Any]:
    """Train a classifier on a task's training utterances, write it to `out` and return its record.

    Args:
        task: its labels and data.
        root: data root.
        out: folder of the checkpoint.
        settings: `kind=tfidf|lstm|encoder` and the settings of that kind.
        seed: of initialisation and order.
        device: where `lstm` and `encoder` train, None for cuda where there is one.

    Raises:
        UserError: the task has no explanations or no training split available, or a setting is wrong.
    """
    from harness.tasks.text_emotion.checkpoint import save, train_classifier

    if not task.explanations:
        raise UserError(f"text-emotion: task {task.name!r} has labels without explanations; there is nothing to read")
    train, val, test = (utterances(task, root, split) for split in ("train", "val", "test"))
    if not train:
        raise UserError(f"text-emotion: no training split available; see: harness data check {task.name}")
    trained = train_classifier(task.emotions, train, val, test, settings, seed=seed, device=device)
    save(trained, out)
    return dict(trained.record)


def load_metrics(context: Context) -> list[Metric]:
    """The task's metrics, all registered ones that apply if it names none.

    Raises:
        UserError: unknown metric name.
    """
    registry = metric_registry()
    if context.task.metrics is not None:
        return [registry.load(name)(context) for name in context.task.metrics]
    return [metric(context) for metric in map(registry.load, registry.names()) if metric.applies(context.task)]
