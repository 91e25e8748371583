"""What is checked on two made-up pictures before a vision-language model answers anything.

A text-only model, or a prompt without a place for the picture, answers fluently about paintings it never saw. And a
label score read from a cache is wrong without any error when positions or masks differ from those of generation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from harness.adapters.hf_generation import Generated, continuation_log_probs, generate
from harness.adapters.hf_reader import PromptReader
from harness.types import UserError

TRIAL_PROMPT = "Which emotion does this painting evoke, and why?"
TRIAL_TOKENS = 3
SCORE_TOLERANCE = {"float32": 1e-2, "bfloat16": 0.5, "float16": 0.2}
"""Largest difference in summed log-probability between generation and the cached pass that rounding explains."""


@dataclass(frozen=True)
class Trial:
    """A short generation about two pictures of different shapes.

    Attributes:
        inputs: as given to the model, on its device.
        generated: with logits.
        image_tokens: tokens that stand for each picture, where the processor tells them.
    """

    inputs: Any
    generated: Generated
    image_tokens: list[int] | None


def check_picture_is_seen(model: Any, reader: PromptReader) -> Trial:
    """Generate about a black and a noisy picture.

    Raises:
        UserError: the prompt has no place for the picture, the model rejects it, or both pictures give the same logits.
    """
    import torch
    from PIL import Image

    pictures = [Image.new("RGB", (336, 336)), Image.effect_noise((448, 224), 120).convert("RGB")]
    try:
        inputs = reader.encode([TRIAL_PROMPT] * 2, pictures).to(model.device, model.dtype)
        counts = reader.image_tokens(inputs)
        if counts is not None and not all(counts):
            raise UserError("the checkpoint's prompt has no place for the picture: it would answer blindly")
        generated = generate(model, inputs, TRIAL_TOKENS, min_new_tokens=TRIAL_TOKENS, logits=True)
    except (ValueError, TypeError, IndexError) as error:
        raise UserError(f"the checkpoint cannot take one picture and one prompt: {_first_line(error)}") from error
    assert generated.logits is not None  # asked for above
    first = generated.logits[0]  # (2, V)
    if torch.equal(first[0], first[1]):
        raise UserError("a black and a noisy picture give the same answer: this checkpoint does not look at pictures")
    return Trial(inputs, generated, counts)


def check_scoring(model: Any, trial: Trial) -> None:
    """Score the tokens that were just generated again from the cache, and compare with generation's own logits.

    Raises:
        UserError: the two differ, or this kind of model has no cache that can be cut back.
    """
    import torch

    turn_off = "type llava:probabilities=false"
    logits = trial.generated.logits or ()
    log_probs = torch.stack(logits, dim=1).float().log_softmax(dim=-1)  # (B, T, V)
    expected = log_probs.gather(2, trial.generated.tokens[:, :, None]).sum(dim=(1, 2)).cpu()
    try:
        scored = continuation_log_probs(model, trial.inputs, trial.generated.cache, [trial.generated.tokens])
    except (AttributeError, NotImplementedError, RuntimeError, TypeError, ValueError) as error:
        raise UserError(f"labels cannot be scored with this checkpoint ({_first_line(error)}); {turn_off}") from error
    difference = float((scored[:, 0] - expected).abs().max())
    if not difference <= SCORE_TOLERANCE[str(model.dtype).removeprefix("torch.")]:
        raise UserError(f"label scores are off by {difference:.3g} with this checkpoint; {turn_off}")


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)[:200]
