"""The next token of growing captions: what `Decoder.forward` computes, on raw tensors and with caches.

What is faster changes nothing: keys and values of the image are computed once, the last block computes the last token
only, and decoding stops when every row has ended. Keys and values of the text are cached as far as no later token can
change them: all of them with a causal VAD encoder (or none), else those before the first token that VAD features are
fused into.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sevlm.config import FIXED_BOUNDARY, SEVLMConfig, SEVLMError
from sevlm.model import VAD_WIDTH, KeyValue, Network, explanation_mask
from sevlm.tokenization import because_id, encode_prompt, next_word, special_ids
from sevlm.vad import RowLookup, VADLookup, Values

_ONEDNN: Any = getattr(torch.ops.mkldnn, "_linear_pointwise", None)  # what torch.compile makes of a linear layer
_ONEDNN_PRODUCTS = 2**22  # multiply-adds from which its calls pay


@cache
def _is_intel() -> bool:
    """Whether MKL, which torch calls for matrix products, is on a processor of its maker: on others it is slower."""
    try:
        return "GenuineIntel" in Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False


class DecodingStep(NamedTuple):
    """Inputs and outputs of one step.

    Attributes:
        segment_ids: (B, T) int64, input of the decoder.
        vad: (B, T, 3) float, input of the VAD encoder; None if the model has none.
        vad_features: (B, T, 3) float, its output.
        logits: (B, V) float, scores of the next token.
        next_vad: (B, 3) float, VAD values of the next token as the VAD head predicts them; None without that head.
    """

    segment_ids: Tensor
    vad: Tensor | None
    vad_features: Tensor | None
    logits: Tensor
    next_vad: Tensor | None = None


class CaptionDecoder:
    """The growing captions of one batch of images.

    Caches have a fixed size and tensors are raw, because a step of a small model is mostly overhead.

    Args:
        model: in eval mode, with a tokenizer.
        image_grid: (B, P, encoder_dim) float; brought to the model's device and dtype.
        lookup: VAD look-up; None only for models without VAD features.
        image_prefix: (B, prefix_dim) float, for models with a prefix.

    Raises:
        SEVLMError: the model has no tokenizer, or needs a look-up that is missing.
    """

    @torch.no_grad()
    def __init__(
        self, model: Network, image_grid: Tensor, lookup: RowLookup | None, image_prefix: Tensor | None = None
    ) -> None:
        if model.vad_encoder is not None and lookup is None:
            raise SEVLMError("this model fuses VAD features: pass a VAD look-up (sevlm.VADLookup)")
        if model.tokenizer is None:
            raise SEVLMError("the model has no tokenizer: pass one to SEVLM(config, tokenizer)")
        config, weight = model.config, model.decoder.wte.weight
        self.model, self.lookup, self.tokenizer = model, lookup, model.tokenizer
        self.image_prefix = None if image_prefix is None else image_prefix.to(weight)
        memory = model.decoder.image_memory(image_grid.to(weight))
        self.image_memory = tuple((key.contiguous(), value.contiguous()) for key, value in memory)
        self.causal = config.causal_vad_encoder or model.vad_encoder is None
        self.cached = 0  # leading positions whose keys and values are kept
        self._because = because_id(self.tokenizer)
        prompt = encode_prompt(self.tokenizer, config)
        self.prompt_length = self.length = len(prompt.input_ids)
        rows, capacity = len(image_grid), self.length + config.max_new_tokens
        self._ids, self._segments = (
            F.pad(torch.tensor([part], device=weight.device), (0, config.max_new_tokens)).repeat(rows, 1)
            for part in (prompt.input_ids, prompt.segment_ids)
        )
        self._inside = torch.zeros(rows, capacity, dtype=torch.bool, device=weight.device)
        self._inside[:, : self.length] = explanation_mask(config, self.segment_ids)
        self._layers = [BlockWeights(block, config.n_head) for block in model.decoder.h]
        heads = (rows, config.n_head, capacity, config.n_embd // config.n_head)
        self._cache = [(weight.new_empty(heads), weight.new_empty(heads)) for _ in self._layers]
        self._base = weight.new_empty(rows, capacity, config.n_embd)  # embeddings before fusion
        self._fused = torch.empty_like(self._base)  # what fusion makes of them, without the VAD features' share
        self._embedded = 0
        self._vad = weight.new_zeros(rows, capacity, VAD_WIDTH)
        self._features = torch.empty_like(self._vad)
        self._vad_cache = None if model.vad_encoder is None else VADCache(model.vad_encoder, rows, capacity)
        self._words: list[list[str]] = [[] for _ in range(rows)]
        self._unfinished: list[tuple[int, ...]] = [()] * rows
        self._look_up([[token] * rows for token in prompt.input_ids])

    @property
    def input_ids(self) -> Tensor:
        """(B, T) int64, prompt included."""
        return self._ids[:, : self.length]

    @property
    def segment_ids(self) -> Tensor:
        """(B, T) int64."""
        return self._segments[:, : self.length]

    @property
    def generated(self) -> Tensor:
        """(B, N) int64 tokens so far."""
        return self._ids[:, self.prompt_length : self.length]

    @property
    def explained(self) -> Tensor:
        """(B, N) bool: which of them are explanation tokens."""
        return self._inside[:, self.prompt_length : self.length]

    @property
    def vad(self) -> Tensor | None:
        """(B, T, 3) float, input of the VAD encoder; None if the model has none."""
        return None if self.model.vad_encoder is None else self._vad[:, : self.length]

    @torch.no_grad()
    def next_step(self) -> DecodingStep:
        """Scores the next token of every row; keeps what no later token can change."""
        decoder, start, new, stop = self.model.decoder, self.cached, self._embedded, self.length
        if stop > self.model.config.n_positions:
            raise SEVLMError(f"{stop} tokens exceed the {self.model.config.n_positions} positions of the model")
        if new == 0:
            self._base[:, :stop] = decoder.embed(self.input_ids, self.segment_ids, None, self.image_prefix)
        else:
            words = decoder.wte.weight[self._ids[:, new:stop]] + decoder.wte.weight[self._segments[:, new:stop]]
            self._base[:, new:stop] = words + decoder.wpe.weight[new:stop]
        self._embedded = stop
        states = self._base[:, start:stop]  # (B, T - cached, D)
        if self._vad_cache is not None and decoder.vad_fusion is not None:
            width, fusion = states.shape[-1], decoder.vad_fusion
            self._fused[:, new:stop] = F.linear(self._base[:, new:stop], fusion.weight[:, :width], fusion.bias)
            first = start if self.causal else 0
            self._features[:, first:stop] = self._vad_cache.forward(self._vad[:, first:stop], first, stop)
            fused = self._fused[:, start:stop] + F.linear(self._features[:, start:stop], fusion.weight[:, width:])
            states = torch.where(self._inside[:, start:stop, None], fused, states)

        states, mask = states.flatten(0, 1), None  # (B * (T - cached), D)
        if stop - start > 1:
            mask = torch.ones(stop - start, stop, dtype=torch.bool, device=states.device).tril(start)
        for index, layer in enumerate(self._layers):
            last = index == len(self._layers) - 1
            states = layer.forward(states, self._cache[index], self.image_memory[index], start, stop, mask, last)
        norm = decoder.ln_f
        final = torch.layer_norm(states, states.shape[-1:], norm.weight, norm.bias, norm.eps)  # (B, D)
        self.cached = self.num_cacheable()
        predicted = None if self.model.vad_head is None else self.model.vad_head(final)
        features = None if self.vad is None else self._features[:, :stop]
        if not self.causal:  # the next step writes over them
            features = None if features is None else features.clone()
        vad = self.vad if self.vad is None or self.causal else self.vad.clone()
        return DecodingStep(self.segment_ids, vad, features, linear(final, None, decoder.wte.weight.t()), predicted)

    @torch.no_grad()
    def append(self, tokens: Tensor) -> list[int]:
        """Adds one token to every row, (B,) int64; returns them as Python numbers."""
        config, position = self.model.config, self.length
        before = self._segments[:, position - 1]
        self._ids[:, position] = tokens
        self._segments[:, position] = next_segments(config, self._because, before, tokens)
        if config.fusion_boundary == "fixed6":
            self._inside[:, position] = position >= config.prefix_length + FIXED_BOUNDARY
        else:
            self._inside[:, position] = before == config.explanation_token_id
        self.length += 1
        column: list[int] = tokens.tolist()
        self._look_up([column])
        return column

    @torch.no_grad()
    def keep(self, rows: Sequence[int]) -> None:
        """Drops all rows but these; a row that is named several times becomes as many."""
        index = torch.tensor(rows, device=self._ids.device)
        for name in ("_ids", "_segments", "_inside", "_base", "_fused", "_vad", "_features"):
            setattr(self, name, getattr(self, name)[index])
        self._cache = [(key[index], value[index]) for key, value in self._cache]
        self.image_memory = tuple((key[index], value[index]) for key, value in self.image_memory)
        self.image_prefix = None if self.image_prefix is None else self.image_prefix[index]
        self._words = [list(self._words[row]) for row in rows]
        self._unfinished = [self._unfinished[row] for row in rows]
        if self._vad_cache is not None:
            self._vad_cache.keep(index)

    def num_cacheable(self) -> int:
        """Leading positions whose states no later token changes, the same number for every row."""
        if self.causal:
            return self.length
        if self.model.config.fusion_boundary == "fixed6":
            return min(self.length, self.model.config.prefix_length + FIXED_BOUNDARY)
        return int((self._inside[:, : self.length].any(dim=0).cumsum(0) == 0).sum())

    def _look_up(self, columns: Sequence[Sequence[int]]) -> None:
        """Looks up the words of new tokens, each column one per row.

        A tagger gets whole rows and may change its mind about old words. With a causal encoder only its new value is
        taken: what is cached was computed with the first opinion.
        """
        if self.lookup is None or self.model.vad_encoder is None:
            return
        unit, first = self.model.config.vad_lookup, self.length - len(columns)
        word_lookup = self.lookup.word if isinstance(self.lookup, VADLookup) and not self.lookup.contextual else None
        values: list[Values] = []
        for tokens in columns:
            for row, token in enumerate(tokens):
                self._unfinished[row], word = next_word(self.tokenizer, unit, self._unfinished[row], token)
                if word_lookup is None:
                    self._words[row].append(word)
                else:
                    values.append(word_lookup(word))
        if word_lookup is None:
            whole = torch.stack([self.lookup(words) for words in self._words]).to(self._vad)
            first = first if self.causal else 0
            self._vad[:, first : self.length] = whole[:, first:]
        else:
            new = torch.tensor(values, dtype=self._vad.dtype, device=self._vad.device)
            self._vad[:, first : self.length] = new.view(len(columns), -1, VAD_WIDTH).transpose(0, 1)


def next_segments(config: SEVLMConfig, because: int, segments: Tensor, tokens: Tensor) -> Tensor:
    """Segment of each new token (B,): explanation from " because" on, emotion before it."""
    explanation = (tokens == because) | (segments == config.explanation_token_id)
    return torch.where(explanation, config.explanation_token_id, config.emotion_token_id)


def greedy_steps(captions: CaptionDecoder, stop_when_ended: bool = True) -> Iterator[DecodingStep]:
    """Decodes greedily, advancing the captions; rows go on after their end.

    Args:
        captions: the batch.
        stop_when_ended: stop once every row has a special token; no caption changes by it.

    Yields:
        Each step, at most `config.max_new_tokens`; `captions.generated` then holds the tokens up to it.
    """
    ends, open_rows = set(special_ids(captions.tokenizer)), set(range(len(captions.input_ids)))
    for _ in range(captions.model.config.max_new_tokens):
        step = captions.next_step()
        tokens = captions.append(step.logits.argmax(dim=-1))
        yield step
        open_rows -= {row for row, token in enumerate(tokens) if token in ends}
        if stop_when_ended and not open_rows:
            break


def greedy_tokens(captions: CaptionDecoder, stop_when_ended: bool = True) -> Tensor:
    """Decodes greedily; the (B, N) int64 generated tokens."""
    for _ in greedy_steps(captions, stop_when_ended):
        pass
    return captions.generated


# ------------------------------------------------------------------------------------------ blocks as raw tensors


class BlockWeights:
    """One decoder block as raw tensors: the arithmetic of `Block` in eval mode without its overhead."""

    def __init__(self, block: nn.Module, heads: int) -> None:
        own: Any = block
        self.heads = heads
        self.norms = [(norm.weight, norm.bias, norm.eps) for norm in (own.ln_1, own.ln_cross_attn, own.ln_2)]
        attn, cross, mlp = own.attn, own.crossattention, own.mlp
        layers = (attn.c_attn, attn.c_proj, cross.q_attn, cross.c_proj, mlp.c_fc, mlp.c_proj)
        self.qkv, self.proj, self.cross_q, self.cross_proj, self.fc, self.out = ((c.bias, c.weight) for c in layers)

    def forward(
        self, states: Tensor, cache: KeyValue, image: KeyValue, start: int, stop: int, mask: Tensor | None, last: bool
    ) -> Tensor:
        """(B * T, D) states of positions start..stop -> the same, or those of the last position alone, (B, D).

        Args:
            cache: keys and values, (B, heads, capacity, D / heads), filled up to `start`; brought up to `stop`.
            image: keys and values of the image patches.
            mask: (T, stop) bool, which positions a position sees; None if T is 1.
            last: return the last position only.
        """
        length, (keys, values) = stop - start, cache
        mixed = linear(self._norm(states, 0), *self.qkv).view(len(keys), length, 3, self.heads, -1)
        query, key, value = mixed.permute(2, 0, 3, 1, 4).unbind()  # (B, heads, T, D / heads)
        keys[:, :, start:stop], values[:, :, start:stop] = key, value
        if last and length > 1:
            states, query, mask = states.view(len(keys), length, -1)[:, -1], query[:, :, -1:], None
        states = states + linear(attended(query, keys[:, :, :stop], values[:, :, :stop], mask), *self.proj)
        query = linear(self._norm(states, 1), *self.cross_q)
        query = query.view(len(keys), -1, self.heads, keys.shape[-1]).transpose(1, 2)
        states += linear(attended(query, *image), *self.cross_proj)
        states += linear(linear(self._norm(states, 2), *self.fc, gelu=True), *self.out)
        return states

    def _norm(self, states: Tensor, which: int) -> Tensor:
        return torch.layer_norm(states, states.shape[-1:], *self.norms[which])


class VADCache:
    """The VAD encoder as raw tensors; a causal one keeps keys and values and computes new tokens only."""

    def __init__(self, encoder: nn.Module, rows: int, capacity: int) -> None:
        own: Any = encoder
        first = own.layers[0].self_attention
        self.causal, self.heads = first.causal, first.heads
        self.known, self.positions = own.known_dimensions, own.position_embedding.weight
        self.norm = own.norm.weight, own.norm.bias, own.norm.eps
        shape = (rows, self.heads, capacity, VAD_WIDTH // self.heads)
        empty = own.norm.weight.new_empty
        self.cache = [(empty(shape), empty(shape)) for _ in own.layers if self.causal]
        self.layers = []
        for layer in own.layers:
            parts = (layer.self_attention.query, layer.self_attention.key, layer.self_attention.value)
            qkv = torch.cat([part.bias for part in parts]), torch.cat([part.weight for part in parts]).t()
            fc, out = ((part.bias, part.weight.t()) for part in (layer.fc[0], layer.fc[2]))
            norms = [(norm.weight, norm.bias, norm.eps) for norm in (layer.norm1, layer.norm2)]
            self.layers.append((qkv, fc, out, norms))

    def keep(self, index: Tensor) -> None:
        """Drops all rows but these."""
        self.cache = [(key[index], value[index]) for key, value in self.cache]

    def forward(self, vad: Tensor, start: int, stop: int) -> Tensor:
        """(B, stop - start, 3) VAD values of these positions -> their features; start is 0 unless causal."""
        rows, length = vad.shape[:2]
        mask = None
        if self.causal and length > 1:
            mask = torch.ones(length, stop, dtype=torch.bool, device=vad.device).tril(start)
        shape = (VAD_WIDTH,)
        states = (vad * self.known + self.positions[start:stop]).flatten(0, 1)  # (B * T, 3)
        states = torch.layer_norm(states, shape, *self.norm)
        for index, (qkv, fc, out, norms) in enumerate(self.layers):
            mixed = torch.addmm(qkv[0], states, qkv[1]).view(rows, length, 3, self.heads, -1)
            query, key, value = mixed.permute(2, 0, 3, 1, 4).unbind()
            if self.causal:
                keys, values = self.cache[index]
                keys[:, :, start:stop], values[:, :, start:stop] = key, value
                key, value = keys[:, :, :stop], values[:, :, :stop]
            inner = torch.layer_norm(states + attended(query, key, value, mask), shape, *norms[0])
            hidden = torch.addmm(out[0], torch.addmm(fc[0], inner, fc[1]).relu_(), out[1])
            states = states + torch.layer_norm(hidden.add_(inner), shape, *norms[1])
        return states.view(rows, length, VAD_WIDTH)


def linear(states: Tensor, bias: Tensor | None, weight: Tensor, gelu: bool = False) -> Tensor:
    """(N, in) -> (N, out), by weights (in, out); with `gelu`, its activation, too.

    Of wide layers of few rows, as a step has them, oneDNN computes those with an activation in 0.9 of the time that
    torch's BLAS takes; on processors that are not Intel's, all of them, in down to half of it.
    """
    plain = states.dtype == torch.float32 and states.device.type == "cpu" and (gelu or not _is_intel())
    if plain and _ONEDNN is not None and states.numel() * weight.shape[1] >= _ONEDNN_PRODUCTS:
        return _ONEDNN(states, weight.t(), bias, "gelu" if gelu else "none", [], "tanh")  # type: ignore[no-any-return]
    found = states @ weight if bias is None else torch.addmm(bias, states, weight)
    return F.gelu(found, approximate="tanh") if gelu else found


def attended(query: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None = None) -> Tensor:
    """Attention of queries (B, heads, T, D / heads) to keys and values, heads joined: (B * T, D)."""
    mixed = F.scaled_dot_product_attention(query, keys, values, attn_mask=mask)
    return mixed.transpose(1, 2).reshape(query.shape[0] * query.shape[2], -1)
