"""The part of METEOR's table of paraphrases that can match within given texts.

METEOR reads five million pairs of phrases when it starts, which takes seconds and half a gigabyte. A pair matters only
if both phrases occur in what will be asked; the others are left out of a table that METEOR is started with instead.

As a program (`python -m harness.tasks.metrics.paraphrases TABLE OUT`, a text in each line of stdin) it chooses them for
another process, which has a classifier to train meanwhile.
"""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
import tempfile
import threading
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from zlib import crc32

import numpy as np
import numpy.typing as npt

from harness.errors import Unavailable

_COMPRESSED_AT_ONCE = 1 << 19
_HASH_BITS = 23
_HASH_MASK = (1 << _HASH_BITS) - 1
_COMPARED = 32
"""Bytes of two phrases that are compared to see whether they are the same one."""


_FIRST_BYTES = np.array([(1 << 8 * count) - 1 for count in range(9)], dtype=np.uint64)


class Paraphrases:
    """The table for given texts, written when it is first asked for.

    Args:
        table: METEOR's own.
        texts: all that will be asked.
        normalise: what METEOR makes of texts before it compares them.
    """

    def __init__(
        self, table: Path, texts: Collection[str], normalise: Callable[[Iterable[str]], Mapping[str, str]]
    ) -> None:
        self._table, self._texts, self._normalise = table, texts, normalise
        self._known = np.zeros(0, dtype=np.int64)  # hashes, which take little memory
        self._changed: dict[str, str] = {}
        self._folder = tempfile.TemporaryDirectory(prefix="paraphrases-")
        self._lock, self._closed = threading.Lock(), threading.Event()
        self._writer: subprocess.Popen[bytes] | None = None

    def path(self) -> Path:
        """Where it lies; whoever asks first has it written, others wait.

        Raises:
            Unavailable: it was closed.
            OSError: it cannot be written, or METEOR's own cannot be read.
        """
        path = Path(self._folder.name) / "paraphrases.gz"
        with self._lock:
            if not path.exists() and not self._closed.is_set():
                texts, self._texts = self._texts, ()  # if it fails, none are chosen another time
                normal = self._normalise(texts)
                self._known = _hashes(normal)
                self._changed = {text: line for text, line in normal.items() if line != text}
                lines, part = "\n".join(normal.values()).encode(), path.with_suffix(".part")
                texts, normal = (), {}
                command = [sys.executable, "-m", __name__, str(self._table), str(part)]
                environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
                nothing = subprocess.DEVNULL  # not our own, which whoever reads them would wait for if we are killed
                self._writer = subprocess.Popen(
                    command, stdin=subprocess.PIPE, stdout=nothing, stderr=nothing, env=environment
                )
                if self._closed.is_set():  # meanwhile
                    self._writer.kill()
                self._writer.communicate(lines)
                if self._writer.returncode == 0:
                    part.replace(path)
                elif not self._closed.is_set():
                    part.unlink(missing_ok=True)  # it may have filled the disk
                    raise OSError(f"choosing paraphrases ended with {self._writer.returncode}")
            if self._closed.is_set():
                raise Unavailable("the paraphrases are needed no more")
        return path

    def normal(self, texts: Collection[str]) -> dict[str, str] | None:
        """What METEOR makes of texts; None if the table is not for all of them. After `path`."""
        if not np.isin(_hashes(texts), self._known).all():
            return None
        return {text: self._changed.get(text, text) for text in texts}

    def close(self) -> None:
        """Remove it; if it is being written, as soon as may be."""
        self._closed.set()
        if self._writer is not None:
            self._writer.kill()
        with self._lock:
            self._folder.cleanup()


def _hashes(texts: Collection[str]) -> npt.NDArray[np.int64]:
    return np.fromiter(map(hash, texts), dtype=np.int64, count=len(texts))


class Vocabulary:
    """The words of texts, and which of them stand side by side.

    Args:
        texts: words joined by blanks; their case does not matter.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        self._words: set[bytes] = set()
        # of the many different pairs of words a bit of their hash: a few phrases more do no harm
        self._neighbours = bytearray(1 << _HASH_BITS)
        for text in texts:
            words = text.lower().encode().split()
            self._words.update(words)
            for one, other in pairwise(words):
                self._neighbours[crc32(other, crc32(one)) & _HASH_MASK] = 1

    def may_hold(self, phrase: bytes) -> bool:
        """Whether all words of a phrase occur, and all pairs of neighbouring ones do."""
        words = phrase.split(b" ")
        return self._words.issuperset(words) and all(
            self._neighbours[crc32(other, crc32(one)) & _HASH_MASK] for one, other in pairwise(words)
        )


def write_paraphrases(table: Path, vocabulary: Vocabulary, out: Path) -> None:
    """Write the pairs of `table` of which the texts of `vocabulary` may hold both phrases, in their order.

    Args:
        table: gzipped; three lines for each pair: a probability, a phrase, its paraphrase; pairs of a phrase together.
        vocabulary: of what will be asked.
        out: a gzipped file of the same form.
    """
    occurs = vocabulary.may_hold
    with gzip.open(out, "wb", compresslevel=1) as sink:
        for data, ends in _entries(table):
            # line by line: probability, phrase, paraphrase
            starts, stops = ends[:, 0] + 1, ends[:, 1]
            first = np.flatnonzero(_differs_from_previous(data, starts, stops))
            known_first = [
                occurs(data[i:j]) for i, j in zip(starts[first].tolist(), stops[first].tolist(), strict=True)
            ]
            chosen = np.repeat(known_first, np.diff(first, append=len(ends)))
            begins = np.concatenate([[0], ends[:-1, 2] + 1])
            for begin, stop, end in zip(
                begins[chosen].tolist(), stops[chosen].tolist(), ends[chosen, 2].tolist(), strict=True
            ):
                if occurs(data[stop + 1 : end]):
                    sink.write(data[begin : end + 1])


def _entries(table: Path) -> Iterator[tuple[bytes, npt.NDArray[np.int64]]]:
    """Parts of a table, and where the three lines of each of their pairs end (n, 3)."""
    unpack, rest = zlib.decompressobj(wbits=31), b""
    with table.open("rb") as file:
        while packed := file.read(_COMPRESSED_AT_ONCE):
            data = rest + unpack.decompress(packed)
            lines = np.flatnonzero(np.frombuffer(data, dtype=np.uint8) == ord("\n"))
            ends = lines[: len(lines) // 3 * 3].reshape(-1, 3)
            if len(ends):
                yield data, ends
                rest = data[ends[-1, 2] + 1 :]
            else:
                rest = data


def _differs_from_previous(
    data: bytes, starts: npt.NDArray[np.int64], stops: npt.NDArray[np.int64]
) -> npt.NDArray[np.bool_]:
    """Whether a phrase is another than the one before, (n,); now and then True of the same one."""
    padded = bytes(_COMPARED) + data + bytes(_COMPARED)
    # the eight bytes at every place, as a number
    eight = np.ndarray((len(padded) - 7,), dtype="<u8", buffer=padded, strides=(1,))
    lengths = stops - starts
    differs = np.ones(len(starts), dtype=bool)
    differs[1:] = (lengths[1:] != lengths[:-1]) | (lengths[1:] > _COMPARED)
    head = eight[starts + _COMPARED] & _FIRST_BYTES[np.minimum(lengths, 8)]
    differs[1:] |= head[1:] != head[:-1]
    for places, least in ((stops - 8, 8), (starts + 8, 16), (stops - 16, 16)):
        part = eight[places + _COMPARED]
        differs[1:] |= (part[1:] != part[:-1]) & (lengths[1:] >= least)
    return differs


if __name__ == "__main__":
    write_paraphrases(Path(sys.argv[1]), Vocabulary(line.decode() for line in sys.stdin.buffer), Path(sys.argv[2]))
