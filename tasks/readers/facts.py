"""What is counted of a task's data once: splits, text lengths, what stands in several splits, how labels are spread."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence

from harness.tasks.readers.base import TableRow
from harness.types import Example


def facts_of(examples: Iterable[Example], labels: Sequence[str]) -> Iterator[TableRow]:
    """Count a task's examples, all splits of them, in one pass.

    Args:
        examples: each once.
        labels: the task's, in the order in which they are listed.
    """
    sizes: Counter[str] = Counter()
    lengths: Counter[int] = Counter()
    counts: Counter[str] = Counter()
    images: dict[Hashable, set[str]] = {}
    texts: dict[Hashable, set[str]] = {}
    for example in examples:
        sizes[example.split] += 1
        counts.update(example.emotion_histogram)
        images.setdefault(example.image, set()).add(example.split)
        for text in (note.explanation for note in example.annotations if note.explanation):
            lengths[len(text.split())] += 1
            texts.setdefault(text, set()).add(example.split)
    yield TableRow("examples", sizes.total())
    yield from (TableRow(f"examples in {split}", count) for split, count in sizes.items())
    if lengths:
        quarter, half, most = (_percentile(lengths, part) for part in (25, 50, 95))
        note = f"median words each; a quarter has at most {quarter}, 95 % at most {most}"
        yield TableRow("words of an explanation", half, note)
    if len(sizes) > 1:
        yield _in_several("images in several splits", images)
        yield from [_in_several("explanations in several splits", texts)] if texts else []
    yield from (TableRow(f"annotated {label}", counts[label]) for label in labels)
    shares = [count / counts.total() for count in counts.values() if count]
    entropy = sum(share * math.log2(1 / share) for share in shares)
    yield TableRow(
        "labels that occur", len(shares), f"entropy {entropy:.2f} of at most {math.log2(len(labels)):.2f} bits"
    )


def _percentile(lengths: Counter[int], part: int) -> int:
    """The least length that at least `part` percent of the texts do not exceed, as counted from the first text."""
    left = (lengths.total() - 1) * part // 100
    for length in sorted(lengths):
        left -= lengths[length]
        if left < 0:
            break
    return length


def _in_several(what: str, found: Mapping[Hashable, set[str]]) -> TableRow:
    several = [str(key) for key, splits in found.items() if len(splits) > 1]
    return TableRow(what, len(several), several[0][-60:] if several else "")
