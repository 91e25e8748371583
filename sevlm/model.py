"""SEVLM: a GPT-2 decoder that sees image patches by cross-attention and the words' VAD values by fusion.

    VAD values (B, T, 3) -> VADEncoder -> features (B, T, 3) --+
    token + position + segment embeddings (B, T, D) -----------+-> vad_fusion, on explanation tokens -> blocks -> logits
    image patches (N, P, E) -> keys and values of every block -------------------------------------------^

Two heads are trained beside the decoder: next-token VAD values, and a score of how well image, emotion and explanation
match. Neither changes the next token's logits; both help to choose among candidate explanations, and the VAD head gives
`Generated.vad`. A third, of the improved mode, tells the emotion from the image alone.

Why not transformers' `GPT2Block`: the released (non-causal) VAD encoder changes the embedding of every earlier
explanation token at each decoding step while the image's keys and values stay, which its cache cannot express, and its
attention interface changes between minor releases. Parameter names and the (in, out) weight layout are GPT-2's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sevlm.config import FIXED_BOUNDARY, VAD_DIMENSIONS, SEVLMConfig, SEVLMError
from sevlm.tokenization import IGNORE_INDEX, Tokenizer

INITIALIZER_RANGE = 0.02
"""Standard deviation of GPT-2's initial weights."""
VAD_WIDTH = len(VAD_DIMENSIONS)
CONTRASTIVE_EPSILON = 1e-8
LABEL_GAIN, META_GAIN = 10.0, 3.0
"""Length of an image's features, and size of a known `meta` value, before the label head."""
ADAPTING = "adapting"
"""Module with the image encoder of a model that trains it; its weights are saved apart from the model's."""

KeyValue: TypeAlias = tuple[Tensor, Tensor]
"""Keys and values of one attention layer, each (B or N images, heads, K, D / heads)."""

# ---------------------------------------------------------------------------------------------- blocks


class Conv1D(nn.Module):
    """A linear layer whose weight is stored (in, out), as in GPT-2 checkpoints."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(inputs, outputs))
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, states: Tensor) -> Tensor:
        """(..., in) -> (..., out)."""
        return F.linear(states, self.weight.t(), self.bias)


class Attention(nn.Module):
    """What self- and cross-attention share: heads, dropout and the output projection."""

    def __init__(self, config: SEVLMConfig) -> None:
        super().__init__()
        self.heads, self.dropout = config.n_head, config.dropout
        self.c_proj = Conv1D(config.n_embd, config.n_embd)
        self.resid_dropout = nn.Dropout(config.dropout)

    def split_heads(self, states: Tensor) -> Tensor:
        """(B, T, D) -> (B, heads, T, D / heads)."""
        return states.view(*states.shape[:2], self.heads, -1).transpose(1, 2)

    def attend(self, query: Tensor, memory: KeyValue, causal: bool) -> Tensor:
        """(B, heads, T, D / heads) queries -> (B, T, D)."""
        dropout = self.dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(query, *memory, dropout_p=dropout, is_causal=causal)
        return self.resid_dropout(self.c_proj(mixed.transpose(1, 2).flatten(2)))  # type: ignore[no-any-return]


class SelfAttention(Attention):
    """Causal self-attention."""

    def __init__(self, config: SEVLMConfig) -> None:
        super().__init__(config)
        self.c_attn = Conv1D(config.n_embd, 3 * config.n_embd)

    def forward(self, states: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        query, key, value = (self.split_heads(part) for part in self.c_attn(states).chunk(3, dim=-1))
        return self.attend(query, (key, value), causal=True)


class CrossAttention(Attention):
    """Attention from text to image patches."""

    def __init__(self, config: SEVLMConfig) -> None:
        super().__init__(config)
        self.q_attn = Conv1D(config.n_embd, config.n_embd)
        self.c_attn = Conv1D(config.n_embd, 2 * config.n_embd)

    def memory(self, image_states: Tensor) -> KeyValue:
        """Keys and values of (N, P, D) patch states: constant per image, so computed once."""
        key, value = (self.split_heads(part) for part in self.c_attn(image_states).chunk(2, dim=-1))
        return key, value

    def forward(self, states: Tensor, memory: KeyValue) -> Tensor:
        """(B, T, D) -> (B, T, D); the B / N rows of one image follow each other and share its keys and values."""
        images, width = len(memory[0]), states.shape[-1]
        query = self.split_heads(self.q_attn(states).view(images, -1, width))  # (N, heads, B / N * T, D / heads)
        return self.attend(query, memory, causal=False).view(states.shape)


class MLP(nn.Module):
    """GPT-2's feed-forward layer: four times as wide, tanh-approximated GELU."""

    def __init__(self, config: SEVLMConfig) -> None:
        super().__init__()
        self.c_fc = Conv1D(config.n_embd, 4 * config.n_embd)
        self.c_proj = Conv1D(4 * config.n_embd, config.n_embd)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, states: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        hidden = F.gelu(self.c_fc(states), approximate="tanh")
        return self.dropout(self.c_proj(hidden))  # type: ignore[no-any-return]


class Block(nn.Module):
    """Pre-norm block: self-attention, cross-attention, feed-forward, each with a residual."""

    def __init__(self, config: SEVLMConfig) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(config.n_embd, eps=config.layer_norm_epsilon)
        self.attn = SelfAttention(config)
        self.ln_cross_attn = nn.LayerNorm(config.n_embd, eps=config.layer_norm_epsilon)
        self.crossattention = CrossAttention(config)
        self.ln_2 = nn.LayerNorm(config.n_embd, eps=config.layer_norm_epsilon)
        self.mlp = MLP(config)

    def forward(self, states: Tensor, image_memory: KeyValue) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        states = states + self.attn(self.ln_1(states))
        states = states + self.crossattention(self.ln_cross_attn(states), image_memory)
        return states + self.mlp(self.ln_2(states))  # type: ignore[no-any-return]


# ----------------------------------------------------------------------------------------- VAD encoder


class VADSelfAttention(nn.Module):
    """Multi-head self-attention without an output projection; `causal` hides later tokens."""

    def __init__(self, heads: int, dropout: float, causal: bool) -> None:
        super().__init__()
        self.heads, self.dropout, self.causal = heads, dropout, causal
        self.query = nn.Linear(VAD_WIDTH, VAD_WIDTH)
        self.key = nn.Linear(VAD_WIDTH, VAD_WIDTH)
        self.value = nn.Linear(VAD_WIDTH, VAD_WIDTH)

    def forward(self, states: Tensor) -> Tensor:
        """(B, T, 3) -> (B, T, 3)."""
        query, key, value = (
            project(states).view(*states.shape[:2], self.heads, -1).transpose(1, 2)  # (B, heads, T, 3 / heads)
            for project in (self.query, self.key, self.value)
        )
        dropout = self.dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(query, key, value, dropout_p=dropout, is_causal=self.causal)
        return mixed.transpose(1, 2).flatten(2)


class VADLayer(nn.Module):
    """One post-norm transformer layer."""

    def __init__(self, config: SEVLMConfig) -> None:
        super().__init__()
        hidden = config.vad_feedforward
        self.self_attention = VADSelfAttention(config.vad_heads, config.dropout, config.causal_vad_encoder)
        self.fc = nn.Sequential(nn.Linear(VAD_WIDTH, hidden), nn.ReLU(), nn.Linear(hidden, VAD_WIDTH))
        self.norm1 = nn.LayerNorm(VAD_WIDTH)
        self.norm2 = nn.LayerNorm(VAD_WIDTH)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, states: Tensor) -> Tensor:
        """(B, T, 3) -> (B, T, 3)."""
        states = self.norm1(states + self.dropout(self.self_attention(states)))
        return self.norm2(states + self.dropout(self.fc(states)))  # type: ignore[no-any-return]


class VADEncoder(nn.Module):
    """A three-wide transformer over the words' valence, arousal and dominance (released models/vad_encoder.py)."""

    known_dimensions: Tensor  # (3,) 1 where the lexicon has the dimension, else 0

    def __init__(self, config: SEVLMConfig) -> None:
        super().__init__()
        self.position_embedding = nn.Embedding(config.vad_positions, VAD_WIDTH)
        self.norm = nn.LayerNorm(VAD_WIDTH)
        self.layers = nn.ModuleList(VADLayer(config) for _ in range(config.vad_layers))
        self.scalar_head = nn.Linear(VAD_WIDTH, 1)  # unused; official checkpoints hold it
        self.register_buffer("known_dimensions", torch.ones(VAD_WIDTH), persistent=False)
        self.know(config.vad_dimensions)

    def know(self, dimensions: Sequence[str]) -> None:
        """See these dimensions of a lexicon, no others."""
        known = [float(name in dimensions) for name in VAD_DIMENSIONS]
        self.known_dimensions.copy_(torch.tensor(known))

    def forward(self, vad: Tensor) -> Tensor:
        """(B, T, 3) values in -1..1, zeros for unknown words -> (B, T, 3) features."""
        if vad.dim() != 3 or vad.shape[-1] != VAD_WIDTH:
            raise SEVLMError(f"VAD values must have shape (B, T, {VAD_WIDTH}), got {tuple(vad.shape)}")
        states = self.norm(vad * self.known_dimensions + self.position_embedding.weight[: vad.shape[1]])
        for layer in self.layers:
            states = states + layer(states)
        return states  # type: ignore[no-any-return]

    def scalars(self, features: Tensor) -> Tensor:
        """The official encoder's unused second output: (B, T, 3) features to (B, T, 1)."""
        return self.scalar_head(features)  # type: ignore[no-any-return]


# --------------------------------------------------------------------------------------------- decoder


def explanation_mask(config: SEVLMConfig, segment_ids: Tensor) -> Tensor:
    """Which positions (B, T) hold explanation tokens, "because" itself excluded; padding counts as explanation.

    `fixed6` (official): every position from the sixth after the prefix on. `token_type`: positions of segment
    `<explanation>` whose predecessor is one too. T counts prefix positions.
    """
    if config.fusion_boundary == "fixed6":
        positions = torch.arange(segment_ids.shape[1], device=segment_ids.device)
        return (positions >= config.prefix_length + FIXED_BOUNDARY).expand_as(segment_ids)
    inside = segment_ids == config.explanation_token_id
    return inside & F.pad(inside[:, :-1], (1, 0), value=False)


class PrefixProjection(nn.Module):
    """Maps one image vector to `prefix_length` pseudo-token embeddings (a ClipCap MLP; a released option)."""

    def __init__(self, config: SEVLMConfig) -> None:
        super().__init__()
        self.length = config.prefix_length
        wide = config.prefix_length * config.n_embd
        self.model = nn.Sequential(nn.Linear(config.prefix_dim, wide // 2), nn.Tanh(), nn.Linear(wide // 2, wide))

    def forward(self, image_prefix: Tensor) -> Tensor:
        """(B, prefix_dim) -> (B, prefix_length, D)."""
        return self.model(image_prefix).view(len(image_prefix), self.length, -1)  # type: ignore[no-any-return]


class Decoder(nn.Module):
    """GPT-2 decoder. The output head is tied to the word embedding `wte`, which also embeds segment ids."""

    def __init__(self, config: SEVLMConfig) -> None:
        super().__init__()
        self.config, width = config, config.n_embd
        self.wte = nn.Embedding(config.vocab_size, width)
        self.wpe = nn.Embedding(config.n_positions, width)
        self.drop = nn.Dropout(config.dropout)
        self.h = nn.ModuleList(Block(config) for _ in range(config.n_layer))
        self.ln_f = nn.LayerNorm(width, eps=config.layer_norm_epsilon)
        self.vad_fusion = nn.Linear(width + VAD_WIDTH, width) if config.use_vad_features else None
        self.prefix_projection = PrefixProjection(config) if config.prefix_length else None
        self.image_projection = nn.Linear(config.encoder_dim, width) if config.encoder_dim != width else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """GPT-2's initialisation: N(0, 0.02), residual projections divided by sqrt(2 n_layer), biases 0."""
        for name, module in self.named_modules():
            if isinstance(module, (nn.Linear, nn.Embedding, Conv1D)):
                scale = (2 * self.config.n_layer) ** 0.5 if name.endswith("c_proj") else 1
                nn.init.normal_(module.weight, std=INITIALIZER_RANGE / scale)
            if isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)
        if self.vad_fusion is not None and self.config.fusion_identity_init:
            with torch.no_grad():
                self.vad_fusion.weight[:, : self.config.n_embd] = torch.eye(self.config.n_embd)

    def embed(
        self,
        input_ids: Tensor,
        segment_ids: Tensor,
        vad_features: Tensor | None,
        image_prefix: Tensor | None = None,
    ) -> Tensor:
        """Word + position + segment embedding, with VAD features fused into explanation tokens.

        Args:
            input_ids: (B, T) int64; the first `prefix_length` ids are placeholders.
            segment_ids: (B, T) int64.
            vad_features: (B, T, 3) float from the VAD encoder; None fuses nothing.
            image_prefix: (B, prefix_dim) float, needed if there is a prefix.

        Returns:
            (B, T, D) float.
        """
        if input_ids.shape[1] > self.config.n_positions:
            raise SEVLMError(f"{input_ids.shape[1]} tokens exceed the {self.config.n_positions} positions of the model")
        if self.prefix_projection is None:
            words = self.wte(input_ids)
        elif image_prefix is None:
            raise SEVLMError("this model has a prefix: pass image_prefix of shape (B, prefix_dim)")
        else:
            text = self.wte(input_ids[:, self.config.prefix_length :])
            words = torch.cat((self.prefix_projection(image_prefix), text), dim=1)
        positions = self.wpe.weight[: input_ids.shape[1]]
        states: Tensor = self.drop(words + positions + self.wte(segment_ids))
        if vad_features is None or self.vad_fusion is None:
            return states
        fused = self.vad_fusion(torch.cat((states, vad_features), dim=-1))
        return torch.where(explanation_mask(self.config, segment_ids)[..., None], fused, states)

    def image_memory(self, image_grid: Tensor) -> tuple[KeyValue, ...]:
        """Cross-attention keys and values of every layer for (N, P, encoder_dim) patch features."""
        if image_grid.dim() != 3 or image_grid.shape[-1] != self.config.encoder_dim:
            raise SEVLMError(
                f"image features must have shape (N, P, {self.config.encoder_dim}), got {tuple(image_grid.shape)}"
            )
        # One channel is dropped from all patches of an image, as dropout1d does: (N, P, E) -> (N, E, P) and back.
        kept = F.dropout1d(image_grid.transpose(1, 2), self.config.image_dropout, self.training).transpose(1, 2)
        states = kept if self.image_projection is None else self.image_projection(kept)
        return tuple(block.crossattention.memory(states) for block in self.h)  # type: ignore[union-attr, operator]

    def forward(self, embeddings: Tensor, image_memory: Sequence[KeyValue]) -> tuple[Tensor, ...]:
        """Runs the blocks over (B, T, D) embeddings of B / N captions per image, next to each other.

        Returns:
            The embeddings, then each block's output, (B, T, D), the last one normed.
        """
        if len(embeddings) % len(image_memory[0][0]):
            raise SEVLMError(f"{len(embeddings)} captions cannot be shared out over {len(image_memory[0][0])} images")
        states = [embeddings]
        for block, memory in zip(self.h, image_memory, strict=True):
            states.append(block(states[-1], memory))
        return (*states[:-1], self.ln_f(states[-1]))

    def logits(self, hidden_states: Tensor) -> Tensor:
        """Next-token scores: (..., D) -> (..., V)."""
        return F.linear(hidden_states, self.wte.weight)


# ----------------------------------------------------------------------------------------------- heads


class LabelHead(nn.Module):
    """Which emotion an image evokes: a regression on its patches, weighed by attention, and on its `meta` value.

    It starts as the regression on the mean patch with equal chances for all labels. Features get one length, since the
    norm of an encoder's features says little about emotions.
    """

    def __init__(self, config: SEVLMConfig) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.zeros(config.encoder_dim))
        self.labels = nn.Linear(config.encoder_dim, len(config.labels))
        self.told = nn.Linear(len(config.meta_values), len(config.labels), bias=False) if config.label_meta else None
        for parameter in self.parameters():
            nn.init.zeros_(parameter)

    def forward(self, image_grid: Tensor, meta: Tensor | None = None) -> Tensor:
        """(N, P, encoder_dim) patches, (N, values) one-hot `meta` -> (N, labels) scores."""
        attention = (image_grid @ self.query / image_grid.shape[-1] ** 0.5).softmax(dim=1)  # (N, P)
        pooled = torch.einsum("np,npe->ne", attention, image_grid)
        scores: Tensor = self.labels(LABEL_GAIN * F.normalize(pooled, dim=1))
        return scores if self.told is None or meta is None else scores + META_GAIN * self.told(meta.to(scores))


def one_hot_meta(config: SEVLMConfig, values: Sequence[str]) -> Tensor:
    """`meta` values of N images, (N, values); a row of zeros where it is unknown."""
    rows = [[float(value == known) for known in config.meta_values] for value in values]
    return torch.tensor(rows).view(len(values), len(config.meta_values))


class ContrastiveHead(nn.Module):
    """Scores how well image, emotion and explanation belong together: a five-layer ReLU MLP."""

    def __init__(self, config: SEVLMConfig) -> None:
        super().__init__()
        width = config.n_embd
        layers: list[nn.Module] = [nn.Linear(config.encoder_dim + 2 * width, width), nn.ReLU()]
        for _ in range(3):
            layers += [nn.Linear(width, width), nn.ReLU()]
        self.mlp = nn.Sequential(*layers, nn.Linear(width, 1))
        for layer in self.mlp:
            if isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, std=INITIALIZER_RANGE)
                nn.init.zeros_(layer.bias)

    def forward(self, image: Tensor, emotion: Tensor, explanation: Tensor) -> Tensor:
        """(B, encoder_dim), (B, D), (B, D) means -> (B,) scores; higher means a better match."""
        return self.mlp(torch.cat((image, emotion, explanation), dim=-1)).squeeze(-1)  # type: ignore[no-any-return]


class LabelTargets(NamedTuple):
    """What the label head learns of N images: (N, labels) shares of annotators, and (N, values) one-hot `meta`."""

    shares: Tensor
    meta: Tensor


class Negatives(NamedTuple):
    """Rows (B,) whose explanation is wrong for each row: same image but another emotion; another image."""

    swap: Tensor
    semantic: Tensor


class SoftLabels(NamedTuple):
    """Labels that are distributions: S entries; `share` of one position sum to its weight in the loss, 1 as a rule."""

    row: Tensor
    position: Tensor
    token: Tensor
    share: Tensor


class LossCounts(NamedTuple):
    """What the losses are divided by: labelled tokens, captions, known VAD values, images.

    With several processes or accumulated batches all of them divide by the counts of the whole update, so that its
    gradient is the gradient of one large batch.
    """

    lm: Tensor
    contrastive: Tensor
    vad: Tensor
    label: Tensor


def masked_mean(states: Tensor, mask: Tensor) -> Tensor:
    """Mean of (B, T, D) over the positions where (B, T) `mask` holds; zeros for a row without any."""
    weights = mask.to(states.dtype)[..., None]  # (B, T, 1)
    return (states * weights).sum(1) / weights.sum(1).clamp_min(1)


def count_labels(labels: Tensor) -> Tensor:
    """Tokens of (B, T) labels that a loss is computed on."""
    return (labels[:, 1:] != IGNORE_INDEX).sum()


def lm_loss(logits: Tensor, labels: Tensor, soft: SoftLabels | None = None, count: Tensor | None = None) -> Tensor:
    """Cross-entropy of (B, T, V) logits at t against unshifted (B, T) labels at t + 1; `soft` replaces some."""
    places = label_places(labels)
    return lm_loss_where_labelled(take_rows(logits.flatten(0, 1), places), labels, places, soft, count)


def before_labels(labels: Tensor) -> Tensor:
    """Which positions (B, T) have a labelled token next."""
    return F.pad(labels[:, 1:] != IGNORE_INDEX, (0, 1))


def label_places(labels: Tensor) -> Tensor:
    """Where among the B * T positions a labelled token comes next, (S,); to count them, a GPU's host waits for it."""
    return before_labels(labels).flatten().nonzero().squeeze(1)


def lm_loss_where_labelled(
    logits: Tensor, labels: Tensor, places: Tensor, soft: SoftLabels | None = None, count: Tensor | None = None
) -> Tensor:
    """The same of (S, V) logits, those at the (S,) `label_places`."""
    count = count_labels(labels) if count is None else count
    targets = labels.roll(-1, dims=1).flatten()[places]  # (S,)
    if soft is None:
        return F.cross_entropy(logits, targets, reduction="sum") / count.clamp_min(1)
    scored = before_labels(labels)
    place = (scored.flatten().cumsum(0) - 1).view_as(scored)[soft.row, soft.position - 1]
    log_probs = take_rows(logits, place).log_softmax(dim=-1)
    total = F.cross_entropy(logits, targets.index_fill(0, place, IGNORE_INDEX), reduction="sum")
    return (total - (soft.share * log_probs.gather(1, soft.token[:, None]).squeeze(1)).sum()) / count.clamp_min(1)


def take_rows(table: Tensor, rows: Tensor) -> Tensor:
    """`table[rows]`; indexing adds gradients of repeated rows in an order that depends on which thread is first."""
    return F.embedding(rows, table)


def contrastive_loss(positive: Tensor, negatives: Tensor, count: Tensor | None = None) -> Tensor:
    """How little the matching triple stands out from its mismatched ones, mean over captions.

    Of the released `models/gpt.py`: -log(e + exp(p) / (e + exp(p) + sum exp(n))) with e = 1e-8, computed as
    -log(e + softmax([p, n..., log e])[p]): the released form overflows for large scores, and a plain softmax is off by
    1e-4 where scores are near -11.

    Args:
        positive: (B,) float scores of matching triples.
        negatives: (B, N) float scores of mismatched ones.
        count: divisor instead of B.
    """
    scores = torch.cat((positive[:, None], negatives), dim=1)  # (B, 1 + N)
    scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
    floor = scores.new_full((len(scores), 1), math.log(CONTRASTIVE_EPSILON))
    share = torch.cat((scores, floor), dim=1).softmax(dim=1)[:, 0]  # (B,)
    return -(CONTRASTIVE_EPSILON + share).log().sum() / (len(positive) if count is None else count)


def vad_loss(predicted: Tensor, target: Tensor, counted: Tensor, count: Tensor | None = None) -> Tensor:
    """Squared error of (B, T, 3) over the `counted` values; 0 when none counts (the official mean is NaN)."""
    count = counted.sum() if count is None else count
    return ((predicted - target).square() * counted).sum() / count.clamp_min(1)


def counted_values(target: Tensor, mask: Tensor, known: Tensor) -> Tensor:
    """(B, T, 3) bool: VAD values of masked (B, T) tokens with a known word, in the (3,) `known` dimensions."""
    return (mask & ((target != 0) & known).any(dim=-1))[..., None] & known


def counted_vad(config: SEVLMConfig, segment_ids: Tensor, vad: Tensor) -> Tensor:
    """Which values of `vad[:, 1:]` the VAD loss counts: (B, T - 1, 3) bool."""
    mask = explanation_mask(config, segment_ids)[:, 1:]
    return counted_values(vad[:, 1:], mask, _known_dimensions(config.vad_dimensions, vad.device))


def _known_dimensions(names: Sequence[str], device: torch.device) -> Tensor:
    """(3,) bool: which dimensions a lexicon has; filled on the device, since sending them would wait for it."""
    return torch.stack([torch.full((), name in names, device=device) for name in VAD_DIMENSIONS])


def count_losses(
    config: SEVLMConfig,
    labels: Tensor,
    segment_ids: Tensor,
    vad: Tensor,
    negatives: Negatives | None,
    images: int = 0,
) -> LossCounts:
    """What a model divides the losses of these arguments by; add them up to form the counts of an update."""
    captions = torch.tensor(0 if negatives is None else len(labels), device=labels.device)
    tokens = count_labels(labels[:, config.prefix_length :])
    counted = counted_vad(config, segment_ids, vad).sum()
    return LossCounts(tokens, captions, counted, torch.tensor(images, device=labels.device))


# ----------------------------------------------------------------------------------------------- model


@dataclass(frozen=True, slots=True)
class SEVLMOutput:
    """What one forward pass yields; losses are scalars already weighted, None if not computed.

    Attributes:
        hidden_states: n_layer + 1 tensors (B, T, D) float, prefix included; see `Decoder.forward`.
        decoder: what computed them.
        loss: sum of the parts below.
        lm_loss, contrastive_loss, vad_loss: see the functions of these names.
        label_loss: cross-entropy of the label head with the annotators' shares, mean over images.
    """

    hidden_states: tuple[Tensor, ...]
    decoder: Decoder
    loss: Tensor | None = None
    lm_loss: Tensor | None = None
    contrastive_loss: Tensor | None = None
    vad_loss: Tensor | None = None
    label_loss: Tensor | None = None

    @property
    def logits(self) -> Tensor:
        """(B, T, V) float, T without prefix positions; computed when asked for: losses need those of labels alone."""
        return self.decoder.logits(self.hidden_states[-1][:, self.decoder.config.prefix_length :])


class Network(nn.Module):
    """The whole model without its image encoder; `sevlm.SEVLM` adds loading, saving and generating.

    Attributes:
        config: everything that decides what the model computes.
        tokenizer: needed for generating and saving only.
    """

    def __init__(self, config: SEVLMConfig, tokenizer: Tokenizer | None = None) -> None:
        super().__init__()
        self.config, self.tokenizer = config, tokenizer
        self.vad_encoder = VADEncoder(config) if config.use_vad_features else None
        self.decoder = Decoder(config)
        self.label_head = LabelHead(config) if config.labels else None
        self.vad_head = nn.Linear(config.n_embd, VAD_WIDTH) if config.use_vad_head else None
        self.contrastive_head = ContrastiveHead(config) if config.use_contrastive_head else None
        if self.vad_head is not None:
            nn.init.normal_(self.vad_head.weight, std=INITIALIZER_RANGE)
            nn.init.zeros_(self.vad_head.bias)

    def forward(
        self,
        image_grid: Tensor,
        input_ids: Tensor,
        segment_ids: Tensor,
        vad: Tensor | None = None,
        labels: Tensor | None = None,
        negatives: Negatives | None = None,
        image_prefix: Tensor | None = None,
        soft_labels: SoftLabels | None = None,
        counts: LossCounts | None = None,
        label_targets: LabelTargets | None = None,
        places: Tensor | None = None,
    ) -> SEVLMOutput:
        """Scores captions, and computes the losses if labels are given.

        Args:
            image_grid: (N, P, encoder_dim) float patch features; B / N captions per image, next to each other.
            input_ids: (B, T) int64, T prefix placeholders included.
            segment_ids: (B, T) int64, ids of the segment tokens.
            vad: (B, T, 3) float in -1..1, zeros where unknown; required unless VAD features and head are off.
            labels: (B, T) int64, unshifted, IGNORE_INDEX where no loss is wanted.
            negatives: without them the contrastive loss is None.
            image_prefix: (B, prefix_dim) float, required if `config.prefix_length` > 0.
            soft_labels: distributions instead of some labels; positions count the prefix.
            counts: divisors of the losses, for a batch that is part of a larger update; None takes its own.
            label_targets: without them the label loss is None.
            places: `label_places` of the labels without prefix, if they are known.

        Raises:
            SEVLMError: a needed input is missing or has the wrong shape.
        """
        config, decoder, prefix = self.config, self.decoder, self.config.prefix_length
        embeddings = decoder.embed(input_ids, segment_ids, self.encode_vad(vad), image_prefix)
        states = decoder(embeddings, decoder.image_memory(image_grid))
        if labels is None:
            return SEVLMOutput(states, decoder)
        final, labels = states[-1], labels[:, prefix:]  # (B, T, D), (B, T without prefix)
        if soft_labels is not None:
            soft_labels = soft_labels._replace(position=soft_labels.position - prefix)
        tokens, captions, known_values, images = (None, None, None, None) if counts is None else counts
        places = label_places(labels) if places is None else places
        logits = decoder.logits(take_rows(final[:, prefix:].flatten(0, 1), places))  # (S, V)
        lm = config.lm_loss_weight * lm_loss_where_labelled(logits, labels, places, soft_labels, tokens)
        contrastive = affect = label = None
        if self.contrastive_head is not None and negatives is not None:
            emotion, explanation = self.part_means(final, input_ids, segment_ids)
            image = image_grid.mean(1).repeat_interleave(len(final) // len(image_grid), dim=0)  # (B, encoder_dim)
            positive = self.contrastive_head(image, emotion, explanation)
            wrong = [self.contrastive_head(image, emotion, take_rows(explanation, rows)) for rows in negatives]
            loss = contrastive_loss(positive, torch.stack(wrong, dim=1), captions)
            contrastive = config.contrastive_loss_weight * loss
        if self.vad_head is not None:
            if vad is None:
                raise SEVLMError("this model has a VAD head: pass vad of shape (B, T, 3) together with labels")
            predicted, counted = self.vad_head(final[:, :-1]), counted_vad(config, segment_ids, vad)
            affect = config.vad_loss_weight * vad_loss(predicted, vad[:, 1:], counted, known_values)
        if self.label_head is not None and label_targets is not None:
            log_probs = self.label_head(image_grid, label_targets.meta).float().log_softmax(dim=1)  # (N, labels)
            count = len(image_grid) if images is None else images
            label = -config.label_loss_weight * (label_targets.shares * log_probs).sum() / count
        total = lm + sum(part for part in (contrastive, affect, label) if part is not None)
        return SEVLMOutput(states, decoder, total, lm, contrastive, affect, label)

    def encode_vad(self, vad: Tensor | None) -> Tensor | None:
        """VAD features (B, T, 3) of VAD values (B, T, 3); None when the configuration uses none."""
        if self.vad_encoder is None:
            return None
        if vad is None:
            raise SEVLMError("this model fuses VAD features: pass vad of shape (B, T, 3)")
        return self.vad_encoder(vad)  # type: ignore[no-any-return]

    def part_means(self, hidden_states: Tensor, input_ids: Tensor, segment_ids: Tensor) -> tuple[Tensor, Tensor]:
        """Mean final state of the emotion part ("because" included) and of the explanation, each (B, D)."""
        explanation = explanation_mask(self.config, segment_ids)
        emotion = ~explanation
        emotion[:, : self.config.prefix_length].fill_(False)
        if self.config.mask_padding_in_means:
            explanation = explanation & (input_ids != self.config.pad_token_id)
        return masked_mean(hidden_states, emotion), masked_mean(hidden_states, explanation)

    def parameter_counts(self) -> dict[str, int]:
        """Trainable values by part: decoder, cross_attention, vad_fusion, vad_encoder, heads ..., and total."""
        counts = {"image_encoder": self.config.image_trained} if self.config.image_trained else {}
        for name, parameter in self.named_parameters():
            if name.startswith(f"{ADAPTING}."):
                continue
            cross = "crossattention" in name or "ln_cross_attn" in name
            inner = next(
                (part for part in ("vad_fusion", "prefix_projection", "image_projection") if part in name),
                name.split(".")[0],
            )
            part = "cross_attention" if cross else inner
            counts[part] = counts.get(part, 0) + parameter.numel()
        return counts | {"total": sum(counts.values())}
