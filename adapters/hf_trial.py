"""What is tried with a checkpoint before anything is answered: that it sees images, and scores labels rightly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.adapters.hf_model import SCORERS, Generated, first_line, generate, opening_tokens
from harness.adapters.hf_processor import PromptReader
from harness.types import UserError

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

TRIAL_PROMPT = "Which emotion does this painting evoke, and why?"
TRIAL_TOKENS = 3
FURTHER = "Look closely at it. "


@dataclass(frozen=True)
class Trial:
    """A short generation about two images of different shapes.

    Attributes:
        prompt, images: what was asked about which.
        inputs: as given to the model, on its device.
        generated: with logits.
        image_tokens: tokens that stand for each image, if the checkpoint's configuration names them.
    """

    prompt: str
    images: Sequence[Image]
    inputs: Any
    generated: Generated
    image_tokens: list[int] | None


def check_image_is_seen(model: Any, reader: PromptReader, prompt: str = TRIAL_PROMPT) -> Trial:
    """Generate about a black and a noisy image.

    A text-only model, or a prompt without a place for the image, answers fluently about paintings it never saw.

    Raises:
        UserError: the model rejects one image and one prompt per row, or both images give the same logits.
    """
    import torch
    from PIL import Image

    images = [Image.new("RGB", (336, 336)), Image.effect_noise((448, 224), 120).convert("RGB")]
    try:
        inputs = reader.encode([prompt] * 2, images).to(model.device, model.dtype)
        generated = generate(model, inputs, TRIAL_TOKENS, min_new_tokens=TRIAL_TOKENS, logits=True)
    except UserError:
        raise
    except Exception as error:  # a processor and a model that do not fit each other fail in any way
        if isinstance(error, torch.OutOfMemoryError):
            raise UserError(f"two images do not fit into memory: {first_line(error)}") from error
        raise UserError(f"the checkpoint cannot take one image and one prompt: {first_line(error)}") from error
    assert generated.logits is not None  # asked for above
    first = generated.logits[0]  # (2, V)
    if torch.equal(first[0], first[1]):
        raise UserError(
            "a black and a noisy image give the same answer: this checkpoint's prompt has no place for the image, or "
            "the model does not look at it"
        )
    token = getattr(model.config, "image_token_id", None) or getattr(model.config, "image_token_index", None)
    counts = None if token is None else (inputs["input_ids"] == token).sum(dim=1).tolist()
    return Trial(prompt, images, inputs, generated, counts)


def score_error(model: Any, trial: Trial, scorer: str) -> float:
    """How far a scorer is from generation's own logits about the tokens just generated, in nats; inf if it raises.

    A label score read from a cache is wrong without any error if positions or masks differ from those of generation.
    """
    tokens = trial.generated.tokens[:, len(opening_tokens(model)) :].tolist()
    try:
        scored = SCORERS[scorer](model, trial.inputs, trial.generated.cache, tokens)  # (B, B)
    except (AttributeError, NotImplementedError, RuntimeError, TypeError, ValueError):
        return float("inf")
    return _largest(scored.diagonal() - _log_probs(model, trial.generated))


def batch_error(model: Any, reader: PromptReader, trial: Trial, *, further: str = "") -> float:
    """How far an image's answer alone is from its answer beside another image, in nats.

    Args:
        model, reader, trial: as loaded and tried.
        further: stands before one of the two prompts, which makes it the longer one.
    """
    import torch

    prompts = [trial.prompt, f"{further}{trial.prompt}"]
    inputs = reader.encode(prompts, trial.images).to(model.device, model.dtype)
    together = generate(model, inputs, TRIAL_TOKENS, min_new_tokens=TRIAL_TOKENS, logits=True)
    alone = []
    for prompt, image, tokens in zip(prompts, trial.images, together.tokens.tolist(), strict=True):
        inputs = reader.encode([prompt], [image]).to(model.device, model.dtype)
        alone.append(_log_probs(model, generate(model, inputs, len(tokens), logits=True, forced=tokens)))
    return _largest(torch.cat(alone) - _log_probs(model, together))


def _log_probs(model: Any, generated: Generated) -> Tensor:
    """Log-probability (B,) of what was generated, without the tokens that every answer begins with."""
    import torch

    begun = len(opening_tokens(model))
    log_probs = torch.stack(generated.logits or (), dim=1)[:, begun:].float().log_softmax(dim=-1)  # (B, T, V)
    return log_probs.gather(2, generated.tokens[:, begun:, None]).sum(dim=(1, 2)).cpu()


def _largest(differences: Tensor) -> float:
    largest = float(differences.abs().max())
    return largest if largest == largest else float("inf")  # not a number: no agreement
