"""`harness train sevlm`: from a task's examples and the command line's settings to a training of the library."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from harness.adapters.base import TrainRequest
from harness.types import Example, Task, UserError
from sevlm.config import VAD_DIMENSIONS
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
        examples, validation = (_examples(part, request.task) for part in (request.train, request.val))
        train(recipe, examples, validation, request.out, request.device)
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


def _examples(examples: Sequence[Example], task: Task) -> list[TrainingExample]:
    """Pictures with at least one annotation, in the library's own terms; ratings come with labels alone."""
    from sevlm.examples import TrainingExample

    return [
        TrainingExample(
            example.id,
            example.image,
            tuple((annotation.emotion, annotation.explanation) for annotation in example.annotations),
            dict(example.emotion_histogram),
            None if task.explanations else _bipolar(example.ratings, task.ratings),
        )
        for example in examples
        if example.annotations
    ]


def _bipolar(
    ratings: Mapping[str, float], scales: Mapping[str, tuple[float, float]]
) -> tuple[float, float, float] | None:
    """Ratings brought from the task's scales to -1..1, 0 where there is none; None where there are none at all."""
    if not ratings:
        return None
    placed = {
        name: 2 * (value - scales[name][0]) / (scales[name][1] - scales[name][0]) - 1 for name, value in ratings.items()
    }
    valence, arousal, dominance = (placed.get(name, 0.0) for name in VAD_DIMENSIONS)
    return valence, arousal, dominance
