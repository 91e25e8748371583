"""`harness train sevlm`: from a task's examples and the command line's settings to a training of the library."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from harness.adapters.base import TrainRequest
from harness.types import Example, UserError
from sevlm.errors import SEVLMError

if TYPE_CHECKING:
    from sevlm.examples import TrainingExample
    from sevlm.training_config import Recipe


def train_on_task(request: TrainRequest) -> None:
    """Train and write the checkpoint; see `SEVLMAdapter.train`.

    Raises:
        UserError: no lexicon, or anything else that the user can mend.
    """
    from sevlm.train import train

    try:
        recipe = _recipe(request)
        if recipe.training.lexicon == "vader":
            print("sevlm: the lexicon measures valence only, so this is not the published SEVLM")
        train(recipe, _examples(request.train), _examples(request.val), request.out, request.device)
    except SEVLMError as error:
        raise UserError(f"sevlm: {error}") from error


def _recipe(request: TrainRequest) -> Recipe:
    from sevlm.training_config import load_recipe

    settings = dict(request.settings)
    recipe = load_recipe(settings.pop("config", "demo" if request.task.illustrative else "official"))
    if request.lexicon is not None:
        settings["lexicon"] = str(request.lexicon.resolve())
    elif "lexicon" not in settings and not request.task.illustrative:
        raise UserError(
            f"sevlm: training on {request.task.name} needs a VAD lexicon; add: --lexicon FILE "
            "(NRC-VAD, Glasgow or Warriner), or lexicon=vader (valence only, not the published SEVLM)"
        )
    if not request.task.explanations:  # nothing to compare texts with
        settings.setdefault("keep_best_by", "accuracy")
    if request.init_from is not None:
        settings["init_from"] = str(request.init_from)
    return recipe.updated({"seed": request.seed} | settings)


def _examples(examples: Sequence[Example]) -> list[TrainingExample]:
    """Pictures with at least one annotation, in the library's own terms."""
    from sevlm.examples import TrainingExample

    return [
        TrainingExample(
            example.id,
            example.image,
            tuple((annotation.emotion, annotation.explanation) for annotation in example.annotations),
            dict(example.emotion_histogram),
        )
        for example in examples
        if example.annotations
    ]
