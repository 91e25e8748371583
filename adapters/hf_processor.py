"""From prompts and images to model inputs as a checkpoint's makers have them, and from labels to their tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from harness.types import UserError

if TYPE_CHECKING:
    from PIL.Image import Image

CONTEXT_TOKENS = 8
"""Tokens before the answer that decide how its first token is written (with a leading space or not)."""
IMAGE = {"type": "image"}
THOUGHT = "<think>"
"""What a prompt ends with if the model is made to think before it answers."""


class PromptReader:
    """A processor used one way, for answering and for training: one prompt and its images per row.

    Texts and tokens are those of the processor's own `apply_chat_template(tokenize=True)`. A checkpoint without a chat
    template gets the bare prompt if its processor places the image by itself, else the image token and the prompt.

    Args:
        processor: the checkpoint's.
        shots: worked examples, an image and an answer each, shown with the prompt before every question.
        thinking: let a model think that asks its template about it.

    Attributes:
        form: `chat template` (the processor's or its tokenizer's), `template of texts` (a tokenizer's that knows no
            images, so that the image token stands before the prompt), `bare prompt` or `image token`.
        separator: what stands between prompt and answer; None: what the prompt's end suggests.

    Raises:
        UserError: the checkpoint cannot show worked examples, or its template knows no `thinking`.
    """

    def __init__(self, processor: Any, shots: Sequence[tuple[Image, str]] = (), *, thinking: bool = False) -> None:
        self.processor = processor
        self.shots = tuple(shots)
        self.tokenizer = processor.tokenizer
        if self.tokenizer.pad_token is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        self._chat = processor if getattr(processor, "chat_template", None) else self.tokenizer
        self.form = self._find_form()
        self.template: str | None = self._chat.chat_template if "template" in self.form else None
        self._switches = {"enable_thinking": thinking} if "enable_thinking" in str(self.template) else {}
        if thinking and not self._switches:
            raise UserError("thinking=true: this checkpoint's chat template has no switch for it")
        if self.shots and not self.template:
            raise UserError("shots: this checkpoint has no chat template that could show examples first")
        self.separator = self._separator() if self.template else None

    def render(self, prompt: str) -> str:
        """The text that the tokenizer sees, with its place for the image."""
        if self.form == "bare prompt":
            return prompt
        if self.form == "image token":
            return f"{getattr(self.processor, 'image_token', '')}{prompt}"
        question = self._turn("user", prompt)
        messages: list[dict[str, Any]] = []
        for _, answer in self.shots:
            messages += [question, self._turn("assistant", answer)]
        return self._apply([*messages, question], add_generation_prompt=True)

    def render_answered(self, prompt: str, answer: str) -> tuple[str, str]:
        """A prompt's text, and the text that goes on with the answer to it."""
        text = self.render(prompt)
        return text, text + self._between(text) + answer

    @property
    def thinks_first(self) -> bool:
        """Whether a prompt's text ends in the opening of a thought, so that no answer can follow it directly."""
        return self.render("?").rstrip().endswith(THOUGHT)

    def encode(self, prompts: Sequence[str], images: Sequence[Image]) -> Any:
        """Inputs for answering, on the CPU: `input_ids`, `attention_mask` (B, P) and whatever the images need.

        Raises:
            ValueError: the rows do not end in real tokens, so that generation would continue padding.
        """
        inputs = self.encode_texts([self.render(prompt) for prompt in prompts], images, "left")
        if not bool(inputs["attention_mask"][:, -1].all()):
            raise ValueError("the processor pads on the right, which breaks batched generation")
        return inputs

    def encode_texts(self, texts: Sequence[str], images: Sequence[Image], padding_side: str) -> Any:
        """Rendered texts and the image each asks about as model inputs."""
        arguments: dict[str, Any] = {"padding": True, "padding_side": padding_side, "return_tensors": "pt"}
        self.tokenizer.padding_side = padding_side
        before = [image for image, _ in self.shots]
        rows: list[Any] = [[*before, image] for image in images] if self.template else list(images)
        bos = self.tokenizer.bos_token
        if self.template and bos and texts[0].startswith(bos):
            arguments["add_special_tokens"] = False  # the template has written it already
        inputs = self.processor(images=rows, text=list(texts), **arguments)
        inputs.pop("labels", None)  # some processors add them even for generation
        return inputs

    def decode(self, answers: Any) -> list[str]:
        """Generated token ids (B, T) -> text without special tokens."""
        return [text.strip() for text in self.tokenizer.batch_decode(answers, skip_special_tokens=True)]

    def continuations(self, prompts: Sequence[Sequence[int]], labels: Sequence[str]) -> list[list[int]]:
        """The tokens of each label as an answer right after prompts, given as rows of token ids.

        Empty rows ask for the labels as a text of its own, which is how a decoder beside an encoder begins.

        Raises:
            UserError: the tokenizer joins a label with the end of the prompt, so that it has no tokens of its own.
            ValueError: the prompts end so differently that a label's tokens depend on the row; ask row by row.
        """
        written = []
        for end in sorted({tuple(row[-CONTEXT_TOKENS:]) for row in prompts}):
            context = self.tokenizer.decode(list(end), skip_special_tokens=False) if end else ""
            before, tokens = self._tokens(context), []
            for label in labels:
                whole = self._tokens(f"{context}{self._between(context)}{label}")
                if whole[: len(before)] != before or len(whole) == len(before):
                    raise UserError(
                        f"label {label!r} has no tokens of its own after this prompt; type probabilities=false"
                    )
                tokens.append(whole[len(before) :])
            written.append(tokens)
        if any(tokens != written[0] for tokens in written):
            raise ValueError("labels are written differently after the prompts of this batch")
        return written[0]

    def _tokens(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"]) if text else []

    def _between(self, prompt: str) -> str:
        if self.separator is not None:
            return self.separator
        special = any(prompt.endswith(token) for token in self.tokenizer.all_special_tokens)
        return "" if not prompt or prompt[-1:].isspace() or special else " "

    def _separator(self) -> str | None:
        """What the template itself writes between a question and its answer, if it writes both as in `render`."""
        question, answer = self._turn("user", "?"), "awe"
        asked = self._apply([question], add_generation_prompt=True)
        try:
            whole = self._apply([question, self._turn("assistant", answer)])
        except Exception:  # somebody else's template may refuse a turn in any way
            return None
        between = whole[len(asked) :].partition(answer)[0]
        return between if whole.startswith(asked) and not between.strip() else None

    def _turn(self, role: str, text: str) -> dict[str, Any]:
        """What one side says; every question shows an image."""
        if self.form == "template of texts":
            return {"role": role, "content": f"{self.processor.image_token}{text}" if role == "user" else text}
        return {"role": role, "content": [*([IMAGE] if role == "user" else []), {"type": "text", "text": text}]}

    def _apply(self, messages: list[dict[str, Any]], **switches: Any) -> str:
        return str(self._chat.apply_chat_template(messages, tokenize=False, **switches, **self._switches))

    def _find_form(self) -> str:
        if self._chat is self.processor:
            return "chat template"
        token = getattr(self.processor, "image_token", None)
        bare, shown = self._token_ids("?"), self._token_ids(f"{token or ''}?")
        if bare is not None and bare != shown and len(bare) > len(self.tokenizer("?")["input_ids"]):
            return "bare prompt"  # the processor makes room for the image without being told where
        if token is None or not self._chat.chat_template:
            return "image token"
        question = {"role": "user", "content": [IMAGE, {"type": "text", "text": "?"}]}
        try:
            shows = token in self._chat.apply_chat_template([question], tokenize=False)
        except Exception:  # somebody else's template may refuse what it does not know in any way
            shows = False
        return "chat template" if shows else "template of texts"

    def _token_ids(self, text: str) -> list[int] | None:
        """What becomes of a text and an image; None if the processor refuses."""
        from PIL import Image

        try:
            inputs = self.processor(images=[Image.new("RGB", (64, 64))], text=[text], return_tensors="pt")
        except (ValueError, TypeError, IndexError, KeyError):
            return None
        ids: list[int] = inputs["input_ids"][0].tolist()
        return ids
