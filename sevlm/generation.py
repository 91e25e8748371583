"""Captions, "<emotion> because <explanation>": the greedy one or the best of several; and what a model thinks of given
emotions and explanations.

Greedy decoding follows the released rules (artEmisX_train.py, `sample_sequences`): at most `config.max_new_tokens`
tokens, the segment switches at the piece " because", the first special token ends a caption.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from sevlm.config import SEVLMConfig, SEVLMError
from sevlm.decoding import CaptionDecoder, DecodingStep
from sevlm.model import Network, counted_vad, explanation_mask, one_hot_meta
from sevlm.tokenization import (
    IGNORE_INDEX,
    Tokenizer,
    decode,
    encode_caption,
    encode_label,
    special_ids,
    split_caption,
)
from sevlm.vad import RowLookup

SAMPLED_FROM = 100
"""A token is drawn from at most so many, the most probable: sorting a whole vocabulary costs more than scoring it."""

KEPT_SHARE = 0.75
"""Rows that ended are dropped once at most this share of the batch still runs: dropping some copies the others."""

_NO_SPREAD = 1e-6
"""Least standard deviation that opinions are divided by: differences by rounding are no opinion."""

Captions: TypeAlias = Sequence[Sequence[tuple[str, str]]]
"""For each of B images the same number K of pairs of emotion and explanation."""


@dataclass(frozen=True, slots=True)
class Generated:
    """One generated caption.

    Attributes:
        text: the caption before its end.
        emotion: what stands before "because"; any string, not only one of the labels.
        explanation: what stands after it; may be empty.
        ended: whether the model ended the caption itself.
        label_probs: probability of each requested label, summing to 1; None if none was requested.
        token_ids: the generated tokens, the end token included.
        vad: valence, arousal and dominance, each about -1..1, as the VAD head predicts them: the mean over the
            explanation's tokens; without explanation, what a model that was trained on ratings of images predicts at
            the end (`TrainingExample.vad`). None for a model without that head, and for any other caption without
            explanation.
    """

    text: str
    emotion: str
    explanation: str
    ended: bool
    label_probs: Mapping[str, float] | None
    token_ids: tuple[int, ...]
    vad: tuple[float, ...] | None = None


@torch.no_grad()
def generate(
    model: Network,
    image_grid: Tensor,
    labels: Sequence[str] | None = None,
    lookup: RowLookup | None = None,
    image_prefix: Tensor | None = None,
    meta: Sequence[str] | None = None,
    n_best: int | None = None,
) -> list[Generated]:
    """Generates one caption per image; see `SEVLM.generate`. Dropout is off during the call."""
    training = model.training
    model.eval()
    try:
        count = model.config.n_best if n_best is None else n_best
        written = candidates(model, image_grid, count, labels, lookup, image_prefix, meta)
        if count == 1:
            return [row[0] for row in written]
        pairs = [[(one.emotion, one.explanation) for one in row] for row in written]
        best = preferred(opinions(model, image_grid, pairs, lookup, image_prefix), model.config)
    finally:
        model.train(training)
    return [row[place] for row, place in zip(written, best, strict=True)]


def candidates(
    model: Network,
    image_grid: Tensor,
    count: int,
    labels: Sequence[str] | None = None,
    lookup: RowLookup | None = None,
    image_prefix: Tensor | None = None,
    meta: Sequence[str] | None = None,
) -> list[list[Generated]]:
    """`count` captions per image, of the same emotion, the greedy one first; see `generate`.

    The other explanations are drawn token by token, from the same random numbers for every image, so that an answer
    depends on neither the batch nor the order of images.
    """
    config = model.config
    captions = CaptionDecoder(model, image_grid, lookup, image_prefix)
    probabilities: Sequence[Mapping[str, float] | None] = [None] * len(image_grid)
    begun: list[Sequence[int]] = [()] * len(image_grid)
    chooses = model.label_head is not None and config.explain_best_label
    if labels is not None or chooses:
        found = emotion_probabilities(captions, image_grid, labels or config.labels, meta)
        if labels is not None:
            probabilities = found
        if chooses:
            encoded = {label: encode_label(captions.tokenizer, config, label) for label in config.labels}
            begins = {label: one.input_ids[captions.prompt_length :] for label, one in encoded.items()}
            begun = [begins.get(max(row, key=row.__getitem__), ()) for row in found]
    drawn = None
    if count > 1:
        drawn = torch.rand(count, config.max_new_tokens, generator=torch.Generator().manual_seed(config.sampling_seed))
        drawn[0] = 0.0
        drawn = drawn.repeat(len(image_grid), 1)
        captions.keep([row for row in range(len(image_grid)) for _ in range(count)])
    tokens, vad = _decode(captions, [row for row in begun for _ in range(count)], drawn)
    said = [
        finish_caption(captions.tokenizer, config, row, probabilities[place // count], vad[place] if vad else None)
        for place, row in enumerate(tokens)
    ]
    return [said[start : start + count] for start in range(0, len(said), count)]


def sampled(logits: Tensor, drawn: Tensor, temperature: float, top_p: float) -> Tensor:
    """Tokens (B,) at given places of each row's distribution, which is ordered from its most probable token on.

    Args:
        logits: (B, V) float.
        drawn: (B,) float in [0, 1): the share of the probability that stands before the token; 0 is the argmax.
        temperature: what the logits are divided by.
        top_p: only the fewest tokens that have this share of the probability can be drawn (nucleus sampling, Holtzman
            et al. 2020), at most `SAMPLED_FROM`.
    """
    logits = logits.float() / temperature
    scores, tokens = logits.topk(min(SAMPLED_FROM, logits.shape[1]), dim=1)
    shares = (scores - logits.logsumexp(dim=1, keepdim=True)).double().exp()
    before = shares.cumsum(dim=1) - shares  # of the tokens in front
    nucleus = shares * (before < top_p)
    places = (nucleus.cumsum(dim=1) <= drawn[:, None] * nucleus.sum(dim=1, keepdim=True)).sum(dim=1, keepdim=True)
    return tokens.gather(1, places)[:, 0]


def repeating(tokens: Sequence[int], size: int) -> list[int]:
    """Tokens with which a row's last `size` tokens would be a sequence that it has already; none if `size` is 0.

    >>> repeating([5, 6, 7, 5, 6], 3)
    [7]
    """
    if size < 1:
        return []
    end = list(tokens[len(tokens) - size + 1 :])
    starts = range(len(tokens) - size + 1)
    return [tokens[start + size - 1] for start in starts if list(tokens[start : start + size - 1]) == end]


def _next_tokens(
    step: DecodingStep,
    config: SEVLMConfig,
    rows: Sequence[Sequence[int]],
    begun: Sequence[Sequence[int]],
    drawn: Tensor | None,
) -> Tensor:
    """The next token of each row (B,): the one that it still has to begin with, the drawn or the most probable one."""
    logits = step.logits
    if banned := [(place, token) for place, row in enumerate(rows) for token in repeating(row, config.no_repeat_ngram)]:
        places, repeats = torch.tensor(banned, device=logits.device).T
        logits[places, repeats] = -torch.inf
    tokens = logits.argmax(dim=-1)
    if drawn is not None:
        explaining = step.segment_ids[:, -1] == config.explanation_token_id
        others = sampled(logits, drawn.to(logits.device), config.sampling_temperature, config.top_p)
        tokens = torch.where(explaining & (drawn > 0).to(logits.device), others, tokens)
    for place, rest in enumerate(begun):
        if rest:
            tokens[place] = rest[0]
    return tokens


def _decode(
    captions: CaptionDecoder, begun: Sequence[Sequence[int]], drawn: Tensor | None = None
) -> tuple[list[list[int]], list[tuple[Tensor, Tensor]]]:
    """Decodes every row to its end; rows that have ended leave the batch in groups.

    Args:
        captions: the batch.
        begun: the tokens that each row begins with, whatever the model would choose.
        drawn: (B, max_new_tokens) float in [0, 1), which tokens the explanations are made of, see `sampled`; None
            makes them of the most probable ones, as 0 does.

    Returns:
        For each row its N tokens; and the VAD head's values (N, 3) with the mask (N,) of its explanation tokens.
    """
    count, ends = len(captions.input_ids), set(special_ids(captions.tokenizer))
    tokens: list[list[int]] = [[] for _ in range(count)]
    steps: list[tuple[Tensor, Tensor, dict[int, int]]] = []  # values, mask, row -> place in the batch
    rows = list(range(count))  # those in the batch
    open_rows = set(rows)
    for number in range(captions.model.config.max_new_tokens):
        step = captions.next_step()
        said, rest = [tokens[row] for row in rows], [begun[row][number:] for row in rows]
        chance = None if drawn is None else drawn[rows, number]
        column = captions.append(_next_tokens(step, captions.model.config, said, rest, chance))
        if step.next_vad is not None:
            places = {row: place for place, row in enumerate(rows)}
            steps.append((step.next_vad, captions.explained[:, -1], places))
        for row, token in zip(rows, column, strict=True):
            if row in open_rows:
                tokens[row].append(token)
                if token in ends:
                    open_rows.discard(row)
        if not open_rows:
            break
        if len(open_rows) <= KEPT_SHARE * len(rows):
            kept = [place for place, row in enumerate(rows) if row in open_rows]
            captions.keep(kept)
            rows = [rows[place] for place in kept]
    vad = []
    for row in range(count if steps else 0):
        own = [(values[places[row]], mask[places[row]]) for values, mask, places in steps[: len(tokens[row])]]
        vad.append((torch.stack([v for v, _ in own]).float(), torch.stack([m for _, m in own])))
    return tokens, vad


def finish_caption(
    tokenizer: Tokenizer,
    config: SEVLMConfig,
    tokens: Sequence[int],
    label_probs: Mapping[str, float] | None = None,
    vad: tuple[Tensor, Tensor] | None = None,
) -> Generated:
    """Turns the N generated tokens of one row into a caption: cut at its end, decoded, split at "because".

    Args:
        tokenizer, config: the model's.
        tokens: end tokens included.
        label_probs: passed on.
        vad: the VAD head's values (N, 3), and which tokens (N,) explain.
    """
    ends = set(special_ids(tokenizer))
    length = next((index for index, token in enumerate(tokens) if token in ends), None)
    ended = length is not None
    if length is None:
        length = len(tokens) if config.keep_last_token else min(len(tokens), config.max_new_tokens - 1)
    text = decode(tokenizer, tokens[:length], skip_special_tokens=True).lstrip()
    emotion, explanation = split_caption(text)
    mean = None
    if vad is not None:
        values, explains = vad
        chosen = values[:length][explains[:length]]
        if not explanation:  # an image's rating stands where the caption ends
            chosen = values[length : length + (ended and config.rates_pictures)]
        mean = tuple(chosen.mean(dim=0).tolist()) if len(chosen) else None
    return Generated(text, emotion, explanation, ended, label_probs, tuple(tokens[: length + ended]), mean)


# ------------------------------------------------------------------------------------------- probabilities of emotions


def mixed(head: Tensor, decoder: Tensor, blend: float, temperature: float) -> Tensor:
    """Probabilities (B, L) of head and decoder as one: `blend` of the head, flattened by a temperature above 1."""
    both = (blend * head + (1 - blend) * decoder).clamp_min(1e-12).log() / temperature
    return both.softmax(dim=1)


def label_opinions(
    model: Network, image_grid: Tensor, lookup: RowLookup | None, meta: Sequence[str] | None = None
) -> tuple[Tensor, Tensor]:
    """How probable the head and the decoder find each of the head's labels, two (B, labels)."""
    captions = CaptionDecoder(model, image_grid, lookup)
    decoder = label_probabilities(captions, model.config.labels)
    return _head_opinion(model, image_grid, meta), torch.tensor([list(row.values()) for row in decoder])


def _head_opinion(model: Network, image_grid: Tensor, meta: Sequence[str] | None) -> Tensor:
    assert model.label_head is not None
    weight = model.decoder.wte.weight
    told = one_hot_meta(model.config, meta or [""] * len(image_grid)).to(weight)
    scores: Tensor = model.label_head(image_grid.to(weight), told)
    return scores.double().softmax(dim=1).cpu()


def emotion_probabilities(
    captions: CaptionDecoder, image_grid: Tensor, labels: Sequence[str], meta: Sequence[str] | None
) -> list[dict[str, float]]:
    """The probability of each label for each image: the decoder's, or head and decoder as one.

    A label that the head has not learned keeps the decoder's; without any that it has, all do.
    """
    found, model = label_probabilities(captions, labels), captions.model
    known = [label for label in labels if label in model.config.labels]
    if model.label_head is None or not known:
        return found
    head = _head_opinion(model, image_grid, meta)[:, [model.config.labels.index(label) for label in known]]
    decoder = torch.tensor([[row[label] for label in known] for row in found], dtype=torch.float64)
    share = decoder.sum(dim=1, keepdim=True)  # of what the head does not know, the rest
    head, decoder = (part / part.sum(dim=1, keepdim=True).clamp_min(1e-12) for part in (head, decoder))
    both = share * mixed(head, decoder, model.config.label_blend, model.config.label_temperature)
    new = [dict(zip(known, row, strict=True)) for row in both.tolist()]
    return [old | changed for old, changed in zip(found, new, strict=True)]


@torch.no_grad()
def label_probabilities(captions: CaptionDecoder, labels: Sequence[str]) -> list[dict[str, float]]:
    """How probable the model finds each emotion of a closed set, for each image of a batch that is not yet decoded.

    P(label) is proportional to exp(sum of log p(token)) over the tokens of the label and the " because" that follows
    it, given image and prompt. "because" belongs to the score, else a label that begins another one ("content",
    "contentment") would get its share. One pass over all images and labels; a non-causal VAD encoder sees the whole
    label, as in training.

    Args:
        captions: the batch; it is not advanced.
        labels: distinct, non-empty emotions.

    Returns:
        One dict label -> probability per image, in the order of `labels`, summing to 1.

    Raises:
        SEVLMError: no labels, or a label twice.
    """
    if not labels or len(set(labels)) != len(labels):
        raise SEVLMError(f"labels must be distinct and at least one, got {list(labels)}")
    model, images, count = captions.model, len(captions.input_ids), len(labels)
    config, weight = model.config, model.decoder.wte.weight
    encoded = [encode_label(captions.tokenizer, config, label) for label in labels]

    def padded(rows: Sequence[Sequence[int]], fill: int) -> Tensor:
        tensors = [torch.tensor(row) for row in rows]
        return pad_sequence(tensors, batch_first=True, padding_value=fill).to(weight.device)  # (L, T)

    input_ids = padded([one.input_ids for one in encoded], config.pad_token_id)
    segment_ids = padded([one.segment_ids for one in encoded], config.explanation_token_id)
    targets = padded([one.labels for one in encoded], IGNORE_INDEX)
    features = None
    if model.vad_encoder is not None and captions.lookup is not None:  # each alone: an encoder must not see padding
        rows = [model.vad_encoder(captions.lookup(one.words)[None].to(weight))[0] for one in encoded]
        features = pad_sequence(rows, batch_first=True).repeat(images, 1, 1)  # (B * L, T, 3)
    prefix = captions.image_prefix
    embeddings = model.decoder.embed(
        input_ids.repeat(images, 1),
        segment_ids.repeat(images, 1),
        features,
        None if prefix is None else prefix.repeat_interleave(count, dim=0),
    )
    states = model.decoder(embeddings, captions.image_memory)
    scored = targets[:, 1:] != IGNORE_INDEX  # (L, T - 1)
    hidden = states[-1].unflatten(0, (images, count))[:, :, :-1][:, scored]  # (B, S, D)
    precise = torch.promote_types(weight.dtype, torch.float32)  # probabilities of bf16 have three digits
    log_probs = model.decoder.logits(hidden).log_softmax(dim=-1, dtype=precise)  # (B, S, V)
    picked = log_probs.gather(2, targets[:, 1:][scored].expand(images, -1)[..., None]).squeeze(2)  # (B, S)
    owner = torch.arange(count, device=weight.device)[:, None].expand_as(scored)[scored]  # (S,) label of each token
    scores = picked.new_zeros(images, count).index_add(1, owner, picked)  # (B, L)
    return [dict(zip(labels, row, strict=True)) for row in scores.double().softmax(dim=1).tolist()]


# --------------------------------------------------------------------------------------- opinions about explanations


class Opinions(NamedTuple):
    """What a model thinks of K explanations for each of B images; more is better.

    Attributes:
        log_prob: (B, K) mean log p(token | image, emotion, tokens before it) of the explanation and its end, in nats.
        match: (B, K) score of the contrastive head; None without that head.
        affect: (B, K) minus the mean squared distance of the words' VAD values, about -1..1, from those that the VAD
            head foresaw, NaN for an explanation without known words; None without that head.
    """

    log_prob: Tensor
    match: Tensor | None
    affect: Tensor | None


@torch.inference_mode()
def opinions(
    model: Network,
    image_grid: Tensor,
    captions: Captions,
    lookup: RowLookup | None = None,
    image_prefix: Tensor | None = None,
) -> Opinions:
    """Opinions of a model about explanations, in one pass that reads them as in training.

    Args:
        model: in eval mode, with a tokenizer.
        image_grid: (B, P, encoder_dim) float.
        captions: K pairs of emotion and explanation for each image.
        lookup: VAD look-up; None only for models without VAD features.
        image_prefix: (B, prefix_dim) float, for models with a prefix.

    Raises:
        SEVLMError: the model has no tokenizer.
    """
    if model.tokenizer is None:
        raise SEVLMError("the model has no tokenizer: pass one to SEVLM(config, tokenizer)")
    encoded = [encode_caption(model.tokenizer, model.config, *caption) for row in captions for caption in row]
    weight, shape = model.decoder.wte.weight, (len(captions), -1)
    columns = (tuple(getattr(one, name) for one in encoded) for name in ("input_ids", "labels", "segment_ids"))
    ids, labels, segments = (torch.tensor(column, device=weight.device) for column in columns)  # each (B * K, T)
    vad = None if lookup is None else torch.stack([lookup(one.words) for one in encoded]).to(weight)
    if model.vad_encoder is None or model.config.causal_vad_encoder:  # nothing depends on padding
        longest = int((ids != model.config.pad_token_id).sum(dim=1).max())
        ids, labels, segments = ids[:, :longest], labels[:, :longest], segments[:, :longest]
        vad = None if vad is None else vad[:, :longest]
    grid, repeats = image_grid.to(weight), len(ids) // len(image_grid)
    prefix = None if image_prefix is None else image_prefix.to(weight).repeat_interleave(repeats, dim=0)
    final = model(grid, ids, segments, vad, image_prefix=prefix).hidden_states[-1]  # (B * K, T, D)
    counted = (explanation_mask(model.config, segments) & (labels != IGNORE_INDEX))[:, 1:]
    means = []
    for states, tokens, mask in zip(final[:, :-1], ids[:, 1:], counted, strict=True):  # logits of all need gigabytes
        log_probs = model.decoder.logits(states[mask]).float().log_softmax(-1)
        means.append(log_probs.gather(1, tokens[mask][:, None]).sum() / mask.sum().clamp(min=1))
    log_prob = torch.stack(means).view(shape)
    match = affect = None
    if model.contrastive_head is not None:
        emotion, explanation = model.part_means(final, ids, segments)
        image = grid.mean(1).repeat_interleave(repeats, dim=0)  # (B * K, encoder_dim)
        match = model.contrastive_head(image, emotion, explanation).float().view(shape)
    if model.vad_head is not None and vad is not None:
        known = counted_vad(model.config, segments, vad)  # (B * K, T - 1, 3)
        error = (model.vad_head(final[:, :-1]) - vad[:, 1:]).float().square() * known
        affect = -(error.sum((1, 2)) / known.sum((1, 2))).view(shape)
    return Opinions(log_prob, match, affect)


def preferred(found: Opinions, config: SEVLMConfig) -> list[int]:
    """Which explanation of each image has the largest sum of weighted opinions.

    Each opinion is standardised among the K explanations, so that a weight means the same for every image and scale;
    where there is none it counts 0.
    """
    weights = (config.rank_by_log_prob, config.rank_by_match, config.rank_by_affect)  # in the order of `Opinions`
    total = torch.zeros(found.log_prob.shape, dtype=torch.float64)
    for opinion, weight in zip(found, weights, strict=True):
        if opinion is not None:
            values = opinion.double().cpu()
            centred = (values - values.nanmean(dim=1, keepdim=True)).nan_to_num(0.0)
            total += weight * centred / centred.square().mean(dim=1, keepdim=True).sqrt().clamp_min(_NO_SPREAD)
    return total.argmax(dim=1).tolist()
