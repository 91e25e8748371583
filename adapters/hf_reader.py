"""From prompts and pictures to model inputs, and from label names to the tokens that would follow them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from harness.types import UserError

if TYPE_CHECKING:
    from PIL.Image import Image

CONTEXT_TOKENS = 8
"""Tokens before the answer that decide how its first token is written (with a leading space or not)."""


class PromptReader:
    """A processor used one way: one picture and one prompt per row, padded on the left.

    Args:
        processor: the checkpoint's.
        shots: worked examples, a picture and an answer each, shown with the prompt before every question.

    Attributes:
        form: `chat template`, or `image token` (the picture's token and then the prompt) where the checkpoint has none.
    """

    def __init__(self, processor: Any, shots: Sequence[tuple[Image, str]] = ()) -> None:
        self.processor = processor
        self.shots = tuple(shots)
        self.tokenizer = processor.tokenizer
        self.tokenizer.padding_side = "left"
        if self.tokenizer.pad_token is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        self.template: str | None = getattr(processor, "chat_template", None)
        self.form = "chat template" if self.template else "image token"
        if self.shots and not self.template:
            raise UserError("shots: this checkpoint has no chat template that could show examples first")

    def render(self, prompt: str) -> str:
        """The text that the tokenizer sees, with its place for the picture."""
        if not self.template:
            return f"{getattr(self.processor, 'image_token', '')}{prompt}"
        question = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": prompt}]}
        messages: list[dict[str, Any]] = []
        for _, answer in self.shots:
            messages += [question, {"role": "assistant", "content": [{"type": "text", "text": answer}]}]
        messages.append(question)
        return str(self.processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False))

    def encode(self, prompts: Sequence[str], pictures: Sequence[Image]) -> Any:
        """Model inputs on the CPU: `input_ids`, `attention_mask` (B, P) and whatever the pictures need.

        Raises:
            ValueError: the rows do not end in real tokens, so that generation would continue padding.
        """
        texts = [self.render(prompt) for prompt in prompts]
        before = [picture for picture, _ in self.shots]
        images = [[*before, picture] for picture in pictures] if before else list(pictures)
        inputs = self.processor(images=images, text=texts, padding=True, return_tensors="pt")
        inputs.pop("labels", None)  # PaliGemma's processor adds them even for generation
        if not bool(inputs["attention_mask"][:, -1].all()):
            raise ValueError("the processor pads on the right, which breaks batched generation")
        return inputs

    def image_tokens(self, inputs: Any) -> list[int] | None:
        """How many tokens of each row stand for the picture; None for processors that do not tell their image token."""
        token = getattr(self.processor, "image_token_id", None)
        return None if token is None else (inputs["input_ids"] == token).sum(dim=1).tolist()

    def decode(self, answers: Any) -> list[str]:
        """Generated token ids (B, T) -> text without special tokens."""
        return [text.strip() for text in self.tokenizer.batch_decode(answers, skip_special_tokens=True)]

    def continuations(self, prompts: Sequence[Sequence[int]], labels: Sequence[str]) -> list[list[int]]:
        """The tokens of each label as an answer right after prompts, given as rows of token ids.

        Raises:
            UserError: the tokenizer joins a label with the end of the prompt, so that it has no tokens of its own.
            ValueError: the prompts end so differently that a label's tokens depend on the row; ask row by row.
        """
        ends = {tuple(row[-CONTEXT_TOKENS:]) for row in prompts}
        first, *others = [[self._continuation(end, label) for label in labels] for end in sorted(ends)]
        if any(other != first for other in others):
            raise ValueError("labels are written differently after the prompts of this batch")
        return first

    def _continuation(self, end: Sequence[int], label: str) -> list[int]:
        context = self.tokenizer.decode(list(end), skip_special_tokens=False)
        before = self._tokens(context)
        whole = self._tokens(f"{context}{'' if context[-1:].isspace() else ' '}{label}")
        if whole[: len(before)] != before or len(whole) == len(before):
            raise UserError(
                f"label {label!r} has no tokens of its own after this prompt; type llava:probabilities=false"
            )
        return whole[len(before) :]

    def _tokens(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])
