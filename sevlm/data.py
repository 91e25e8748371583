"""Training data: images with captions, which captions stand side by side in a batch, and batches as tensors.

A batch holds pairs: rows 2i and 2i+1 are two captions of one image, of different emotions if it has two. The
contrastive loss asks of each row: is this the explanation of this image and this emotion? Wrong ones are taken from
the batch: the partner's (same image, other emotion) and another image's.
"""

from __future__ import annotations

import dataclasses
import random
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, lru_cache
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias, TypeVar

import torch
from torch import Tensor
from tqdm import tqdm

from sevlm.config import SEVLMConfig, SEVLMError
from sevlm.images import FeatureStore
from sevlm.model import LabelTargets, Negatives, SoftLabels, count_losses, label_places, one_hot_meta
from sevlm.tokenization import Tokenizer, encode_caption, encode_label, encode_prompt
from sevlm.vad import VADLookup

T = TypeVar("T")
Sampling: TypeAlias = Literal["every-caption", "last-caption"]
SoftToken: TypeAlias = tuple[int, int, float]
"""Position in the caption, token, share of annotators times weight."""

_MIDDLE = 1e-6
"""A rating in the middle of its scale: zeros mean a word that the lexicon does not know."""


@dataclass(frozen=True)
class Lesson:
    """What another model, a teacher, said of an image.

    Attributes:
        teacher: its name.
        caption: emotion and explanation.
        shares: probability of each emotion; they sum to 1.
    """

    teacher: str
    caption: tuple[str, str]
    shares: Mapping[str, float]


@dataclass(frozen=True)
class TrainingExample:
    """One image with its captions.

    Attributes:
        id: unique within the training.
        image_path: the image file.
        captions: (emotion, explanation) per annotation, in file order; empty only if there is a lesson.
        histogram: annotators per emotion, counted before any text filter; None counts the captions.
        vad: people's mean valence, arousal and dominance before the image, each in -1..1, 0 if it was not asked
            for; the VAD head learns it from captions without explanation, whose words tell it nothing.
        meta: what else is known of the image (`style`, say), for the label head.
        lessons: what teachers said of the image.
    """

    id: str
    image_path: Path
    captions: tuple[tuple[str, str], ...]
    histogram: Mapping[str, float] | None = None
    vad: tuple[float, float, float] | None = None
    meta: Mapping[str, str] = field(default_factory=dict)
    lessons: tuple[Lesson, ...] = ()

    def __post_init__(self) -> None:
        """Refuse an image that nobody described."""
        if not self.captions and not self.lessons:
            raise SEVLMError(f"training example {self.id!r} has no caption")

    @property
    def emotions(self) -> frozenset[str]:
        """The emotions that its captions name."""
        return frozenset(emotion for emotion, _ in self.captions)

    @property
    def is_unexplained(self) -> bool:
        """Whether no caption says why."""
        return not any(explanation for _, explanation in self.captions)

    def taught(self, weight: float) -> TrainingExample:
        """The example with its lessons among the captions, and their shares among the annotators.

        Args:
            weight: annotators that a teacher counts as beside people; with 0 it is not heard there. Of an image without
                captions teachers alone are heard, each as one annotator.
        """
        weight = weight if self.captions else 1.0
        if not self.lessons or not weight:
            return dataclasses.replace(self, lessons=())
        counts = dict(self.counts)
        for emotion, share in (entry for lesson in self.lessons for entry in lesson.shares.items()):
            counts[emotion] = counts.get(emotion, 0.0) + weight * share
        captions = (*self.captions, *(lesson.caption for lesson in self.lessons))
        return dataclasses.replace(self, captions=captions, histogram=counts)

    @property
    def counts(self) -> Mapping[str, float]:
        """Annotators per emotion."""
        return self.histogram if self.histogram is not None else Counter(emotion for emotion, _ in self.captions)

    @property
    def dominant_emotion(self) -> str | None:
        """The emotion of strictly more than half of the annotators, else None."""
        counts = self.counts
        total = sum(counts.values())
        return next((emotion for emotion, count in counts.items() if 2 * count > total), None)


# ------------------------------------------------------------------------------------------------- pairs


class CaptionRef(NamedTuple):
    """One caption: its index among the captions of an image, and the index of the image."""

    image: int
    caption: int


class PairSampler:
    """Draws the pairs of each epoch: one per image, a function of seed and epoch alone.

    * `every-caption`: the anchor walks through a shuffled order of the image's captions, so that each is anchor
      once in as many epochs as there are captions. Its partner has another emotion; if the image has one emotion
      only, any other caption (or, with one caption, the anchor again).
    * `last-caption`, what the published loader does in effect: the last caption is always the anchor, and images
      with one emotion are left out. (Its anchor index walks backwards, but every epoch's worker processes start anew.)
    """

    def __init__(self, examples: Sequence[TrainingExample], sampling: Sampling, seed: int) -> None:
        self.examples = examples
        self.sampling = sampling
        self.seed = seed
        keep_all = sampling == "every-caption"
        self.images = [i for i, example in enumerate(examples) if keep_all or len(example.emotions) > 1]

    def __len__(self) -> int:
        return len(self.images)

    def epoch(self, epoch: int) -> list[tuple[CaptionRef, CaptionRef]]:
        """The pairs of one epoch, shuffled."""
        order = list(self.images)
        random.Random(f"order {self.seed} {epoch}").shuffle(order)
        pairs = []
        for image in order:
            captions = self.examples[image].captions
            anchor = len(captions) - 1
            if self.sampling == "every-caption":
                lap, position = divmod(epoch, len(captions))
                walk = list(range(len(captions)))
                random.Random(f"anchor {self.seed} {image} {lap}").shuffle(walk)
                anchor = walk[position]
            others = [i for i, (emotion, _) in enumerate(captions) if emotion != captions[anchor][0]]
            others = others or [i for i in range(len(captions)) if i != anchor] or [anchor]
            partner = random.Random(f"partner {self.seed} {image} {epoch}").choice(others)
            pairs.append((CaptionRef(image, anchor), CaptionRef(image, partner)))
        return pairs

    def batches(self, epoch: int, images_per_batch: int) -> list[list[tuple[CaptionRef, CaptionRef]]]:
        """The pairs of one epoch in batches; a last batch of one image joins the batch before it.

        An image alone has no other image's explanation to be told from: in the published code it becomes its own
        negative.
        """
        pairs = self.epoch(epoch)
        batches = [pairs[i : i + images_per_batch] for i in range(0, len(pairs), images_per_batch)]
        if images_per_batch > 1 and len(batches) > 1 and len(batches[-1]) == 1:
            last = batches.pop()
            batches[-1] = batches[-1] + last
        return batches

    def batch_count(self, images_per_batch: int) -> int:
        """Batches of an epoch, the same for all epochs."""
        full, rest = divmod(len(self.images), images_per_batch)
        joined = rest == 1 and full > 0
        return full + (rest > 0 and not joined)


def draw_negatives(rows: Sequence[CaptionRef], emotions: Sequence[str], generator: random.Random) -> Negatives | None:
    """For each row of a batch, a row whose explanation is wrong for it.

    `swap` is the partner in the pair if its emotion differs, else a row of another image with another emotion
    if there is one, else of any other image. `semantic` is a row of another image.

    Args:
        rows: B rows, 2i and 2i+1 a pair.
        emotions: their emotions.
        generator: the source of chance.

    Returns:
        Indices into the batch, or None if the batch holds a single image.
    """
    images = {row.image for row in rows}
    if len(images) < 2:
        return None
    others = {image: [i for i, row in enumerate(rows) if row.image != image] for image in images}
    swap, semantic = [], []
    for index, (row, emotion) in enumerate(zip(rows, emotions, strict=True)):
        elsewhere = others[row.image]
        semantic.append(generator.choice(elsewhere))
        partner = index ^ 1
        if emotions[partner] != emotion:
            swap.append(partner)
        else:
            swap.append(generator.choice([i for i in elsewhere if emotions[i] != emotion] or elsewhere))
    return Negatives(torch.tensor(swap), torch.tensor(semantic))


# ---------------------------------------------------------------------------------------------- captions


class EmotionLabels:
    """Soft labels: the emotion of a caption as the shares of annotators who chose each, instead of one of them.

    A caption's emotion is one person's, and pairs are drawn with two different emotions, so that rare emotions are
    shown more often than people choose them. With soft labels each token of the emotion, and the "because" after it, is
    scored against the share of annotators whose emotion continues with it, given the tokens before, and counts
    `config.emotion_weight` times. Explanations stay as they are. Remembered by emotion and histogram.
    """

    def __init__(self, tokenizer: Tokenizer, config: SEVLMConfig) -> None:
        self._length, self._weight = config.max_length, config.emotion_weight
        self._start = start = len(encode_prompt(tokenizer, config).input_ids)
        # of the emotion and "because"; there are few emotions
        self._ids = cache(lambda emotion: encode_label(tokenizer, config, emotion).input_ids[start:])
        self._soft = lru_cache(maxsize=100_000)(self._compute)

    def __call__(self, emotion: str, histogram: Mapping[str, float]) -> tuple[SoftToken, ...]:
        """Soft tokens of a caption that names `emotion`; with weight 1, a position whose token is certain has none."""
        return self._soft(emotion, tuple(sorted(histogram.items())))

    def _compute(self, emotion: str, histogram: tuple[tuple[str, float], ...]) -> tuple[SoftToken, ...]:
        own = self._ids(emotion)
        found: list[SoftToken] = []
        for index in range(min(len(own), self._length - self._start)):
            shares: defaultdict[int, float] = defaultdict(float)
            for other, count in histogram:
                ids = self._ids(other)
                if count and ids[:index] == own[:index]:
                    shares[ids[index]] += count
            if len(shares) > 1 or (shares and self._weight != 1):
                scale = self._weight / sum(shares.values())
                found += [(self._start + index, token, scale * count) for token, count in sorted(shares.items())]
        return tuple(found)


def stack_soft(rows: Sequence[Sequence[SoftToken]]) -> SoftLabels | None:
    """The soft labels of a batch; None if no row has any."""
    entries = [(row, *entry) for row, soft in enumerate(rows) for entry in soft]
    if not entries:
        return None
    row, position, token, share = zip(*entries, strict=True)
    return SoftLabels(torch.tensor(row), torch.tensor(position), torch.tensor(token), torch.tensor(share))


@dataclass(frozen=True)
class Batch:
    """B = 2N captions of N images; rows 2i and 2i+1 are two captions of image i.

    Attributes:
        image_grid: (N, P, E), or what an adapting image encoder starts from; float16 as stored until `to` a device.
        input_ids, labels, segment_ids: (B, T) int64.
        vad: (B, T, 3) float32 in -1..1.
        negatives: rows with wrong explanations, None if the batch holds a single image.
        soft_labels: the annotators' emotions, None if the model is trained on each caption's own.
        label_targets: of the label head; without columns if the model has none.
        counts: (4,) int64 `LossCounts` of this batch.
        places: (S,) int64 `label_places`.
    """

    image_grid: Tensor
    input_ids: Tensor
    labels: Tensor
    segment_ids: Tensor
    vad: Tensor
    negatives: Negatives | None
    soft_labels: SoftLabels | None
    label_targets: LabelTargets
    counts: Tensor
    places: Tensor

    def pinned(self) -> Batch:
        """The batch in memory from which a GPU copies by itself."""
        return self._each(lambda part: part.pin_memory())

    def to(self, device: torch.device | str) -> Batch:
        """The batch on the device that computes, features as float32; nothing waits for copies of a pinned one."""
        moved = self._each(lambda part: part.to(device, non_blocking=True))
        return dataclasses.replace(moved, image_grid=moved.image_grid.float())

    def _each(self, change: Callable[[Tensor], Tensor]) -> Batch:
        def changed(part: Any) -> Any:
            if part is None or isinstance(part, Tensor):
                return part if part is None else change(part)
            return type(part)(*map(change, part))

        return Batch(**{entry.name: changed(getattr(self, entry.name)) for entry in dataclasses.fields(self)})


class EncodedCaptions:
    """All captions of a training as compact tensors: 30 tokens take about 0.7 kB.

    Attributes:
        examples: the images, in order.
        truncated: share of captions that lose their end to `config.max_length`, in 0..1.
    """

    def __init__(
        self,
        examples: Sequence[TrainingExample],
        tokenizer: Tokenizer,
        config: SEVLMConfig,
        lookup: VADLookup,
        progress: bool = False,
    ) -> None:
        self.examples = examples
        self.config = config
        self._starts = list(accumulate((len(example.captions) for example in examples), initial=0))
        total, length = self._starts[-1], config.max_length
        self._ids = torch.empty((3, total, length), dtype=torch.int32)  # input, label, segment
        self._vad = torch.empty((total, length, 3), dtype=torch.float32)
        self._soft: list[tuple[SoftToken, ...]] = []
        self._closeness = closeness(config, lookup)
        soft_labels = EmotionLabels(tokenizer, config)
        captions = ((example, caption) for example in examples for caption in example.captions)
        cut = 0
        bar = tqdm(captions, desc="captions", unit="caption", total=total, disable=not progress)
        for index, (example, (emotion, explanation)) in enumerate(bar):
            encoded = encode_caption(tokenizer, config, emotion, explanation)
            self._soft.append(soft_labels(emotion, example.counts) if config.soft_emotion_labels else ())
            self._ids[:, index] = torch.tensor([encoded.input_ids, encoded.labels, encoded.segment_ids])
            self._vad[index] = lookup(encoded.words)
            if config.rates_pictures and example.vad is not None and not explanation:
                end = encoded.input_ids.index(config.bos_token_id, config.prefix_length + 1)
                self._vad[index, end] = torch.tensor([value or _MIDDLE for value in example.vad])
            cut += encoded.truncated
        self.truncated = cut / total if total else 0.0

    def __len__(self) -> int:
        return self._starts[-1]

    def rows(self, rows: Sequence[CaptionRef]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Input ids, labels, segment ids, each (B, T) int64, and affect values (B, T, 3) of B captions.

        T is the longest caption's length if no result depends on padding, else `config.max_length`.
        """
        picked = torch.tensor(self._indices(rows))
        ids = self._ids[:, picked].to(torch.int64)
        length, config = ids.shape[2], self.config
        encoder_sees_pads = config.use_vad_features and not config.causal_vad_encoder
        if not encoder_sees_pads and config.mask_padding_in_means and config.fusion_boundary != "fixed6":
            length = int((ids[0] != config.pad_token_id).sum(dim=1).max())
        # A part of longer rows would be copied to a GPU by way of other memory, and the host would wait for it.
        input_ids, labels, segment_ids = ids[:, :, :length].contiguous()
        return input_ids, labels, segment_ids, self._vad[picked, :length].contiguous()

    def soft_labels(self, rows: Sequence[CaptionRef]) -> SoftLabels | None:
        """The annotators' emotions of B captions; None if the configuration wants none."""
        return stack_soft([self._soft[index] for index in self._indices(rows)])

    def label_shares(self, images: Sequence[int]) -> Tensor:
        """Shares of annotators who chose each label of the label head, (N, labels), of N images."""
        found = [self.examples[image].counts for image in images]
        counts = torch.tensor([[float(one.get(label, 0)) for label in self.config.labels] for one in found])
        return counts / counts.sum(dim=1, keepdim=True).clamp_min(1)

    def label_targets(self, images: Sequence[int]) -> LabelTargets:
        """What the label head learns of N images."""
        seen = head_meta(self.config, [self.examples[image] for image in images])
        return LabelTargets(self.label_shares(images) @ self._closeness, one_hot_meta(self.config, seen))

    def _indices(self, rows: Sequence[CaptionRef]) -> list[int]:
        return [self._starts[row.image] + row.caption for row in rows]


def head_meta(config: SEVLMConfig, examples: Sequence[TrainingExample]) -> list[str]:
    """What the label head sees beside each image; empty where it is unknown, or where it sees nothing."""
    return [example.meta.get(config.label_meta or "", "") for example in examples]


def closeness(config: SEVLMConfig, lookup: VADLookup) -> Tensor:
    """(labels, labels) rows that sum to 1: what a target for one label says of the others.

    A label keeps 1 - `label_smoothing` of its share; the rest goes to labels near to it in valence, arousal and
    dominance, by exp(-4 distance^2) (itself included), and stays where the lexicon does not know the label.
    """
    number, part = len(config.labels), config.label_smoothing
    own = torch.eye(number)
    if not part:
        return own
    values = torch.stack([lookup([label])[0] for label in config.labels])  # (labels, 3) in -1..1
    known = (values != 0).any(dim=1)
    near = (-4 * torch.cdist(values, values).square()).exp() * (known[:, None] & known)
    near = torch.where(known[:, None], near / near.sum(dim=1, keepdim=True).clamp_min(1e-9), own)
    return (1 - part) * own + part * near


class Collator:
    """Pairs -> a batch in the memory of the host, pinned for a device that is a GPU."""

    def __init__(self, captions: EncodedCaptions, store: FeatureStore, device: torch.device | str) -> None:
        self.captions = captions
        self.store = store
        self.pins = torch.device(device).type == "cuda"

    def __call__(self, pairs: Sequence[tuple[CaptionRef, CaptionRef]], generator: random.Random) -> Batch:
        """N pairs -> 2N rows; each image's features are read once."""
        examples = self.captions.examples
        rows = [row for pair in pairs for row in pair]
        emotions = [examples[row.image].captions[row.caption][0] for row in rows]
        negatives = draw_negatives(rows, emotions, generator)
        input_ids, labels, segment_ids, vad = self.captions.rows(rows)
        config = self.captions.config
        batch = Batch(
            self.store.grid([examples[first.image].image_path for first, _ in pairs]),
            input_ids,
            labels,
            segment_ids,
            vad,
            negatives,
            self.captions.soft_labels(rows),
            self.captions.label_targets([first.image for first, _ in pairs]),
            torch.stack(count_losses(config, labels, segment_ids, vad, negatives, len(pairs))),
            label_places(labels[:, config.prefix_length :]),
        )
        return batch.pinned() if self.pins else batch


@contextmanager
def ahead(items: Iterator[T], depth: int = 2) -> Iterator[Iterator[T]]:
    """The same items, up to `depth` of them made in a thread before they are asked for.

    What making one raises is raised where it is asked for. The thread ends with the block, after the item at work.
    """
    with ThreadPoolExecutor(max_workers=1) as maker:
        waiting = deque(maker.submit(next, items, None) for _ in range(depth))

        def made() -> Iterator[T]:
            while (item := waiting.popleft().result()) is not None:
                waiting.append(maker.submit(next, items, None))
                yield item

        try:
            yield made()
        finally:
            maker.shutdown(cancel_futures=True)
