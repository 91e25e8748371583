"""Caption statistics of one protocol: tokens, n-gram scores and METEOR matches, each computed once and kept by content.

Two published protocols, never mixed:

- `coco-ptb` (SEVLM, COCO): PTB tokens, corpus METEOR.
- `artemis-plain` (ArtEmis): strings as given, split at white space; METEOR as the mean of per-image scores.

Every number of an example depends on that example's texts alone, except the CIDEr document frequencies, which are
counted once over the references of the whole split and frozen.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Collection, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from itertools import islice
from operator import itemgetter
from pathlib import Path
from queue import SimpleQueue
from types import TracebackType
from typing import NamedTuple, Self, TypeAlias, TypeVar

import numpy as np

from harness.tasks.metrics import caption_scores, languages, meteor
from harness.tasks.metrics.base import FloatArray, Latest, Metric, Statistics, Unavailable
from harness.tasks.metrics.caption_scores import DocumentFrequencies, Pair
from harness.tasks.metrics.caption_store import CaptionStore
from harness.tasks.metrics.java import jar_hashes, one_line, ptb_tokenise
from harness.tasks.metrics.meteor import MeteorProcess

T = TypeVar("T")

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

_TEXTS_AT_ONCE = 100_000
"""Texts that are tokenised together; so many or fewer, METEOR starts with their paraphrases alone."""

_TEXTS_PER_TOKENISER, _PAIRS_PER_METEOR = 20_000, 1_000_000
"""A further process is started for each so many: below, its start costs more than it saves."""

_TOKENS_KEPT = 100_000

_METEOR_PAIRS, _WORKER_PAIRS = 1_000, 1_000
"""What is asked of a process at once."""


Matches: TypeAlias = dict[tuple[str, str], FloatArray]
Asked: TypeAlias = tuple[Sequence[tuple[str, str]], Future[FloatArray]]


class Ahead(NamedTuple):
    """Scores on their way: n-gram scores of pairs, METEOR statistics that were known, and those that were asked for."""

    scores: list[tuple[Sequence[Pair], Future[FloatArray]]]
    known: Matches
    asked: list[Asked]


class CaptionEngine:
    """Tokenises texts and scores candidates against references. Use as a context manager, or call `close`.

    Candidates and references are raw texts everywhere; each distinct text is tokenised once and each distinct
    (candidate, reference) pair is scored once. What was learnt of a block of examples is dropped by `forget`.

    Args:
        protocol: `coco-ptb` or `artemis-plain`.
        split_references: references of every image of the split, for CIDEr's document frequencies; read once.
        meteor: the METEOR process to ask (the caller closes it); one is started if None.
        store: what the Java programs said before; a temporary one if None.
        cores: processes of each kind at most; a further METEOR needs a gigabyte of memory.
        is_whole_split: whether `split_references` are all of the split's; CIDEr-D is unavailable if not.

    Attributes:
        latest: n-gram statistics of the latest block, for the next of the metrics that share them.
    """

    def __init__(
        self,
        protocol: str,
        split_references: Iterable[Sequence[str]],
        meteor: MeteorProcess | None = None,
        store: CaptionStore | None = None,
        cores: int = CORES,
        *,
        is_whole_split: bool = True,
    ) -> None:
        self.protocol = protocol
        self.is_whole_split = is_whole_split
        self.cores = max(1, cores)
        self._resources = ExitStack()
        if store is None:
            folder = self._resources.enter_context(tempfile.TemporaryDirectory(prefix="captions-"))
            store = self._resources.enter_context(CaptionStore(Path(folder) / "captions.sqlite"))
        self._store = store
        self._owns_meteor = meteor is None
        self._meteor = _Meteors(meteor, self.cores)
        self._resources.callback(self._meteor.close)
        self._split_references = split_references
        self._frequencies: DocumentFrequencies | None = None
        self._workers: _Workers | None = None
        self._own_tokenisers: set[str] = set()
        self._tokens: dict[str, str] = {}
        self._scores: dict[Pair, FloatArray] = {}
        self._matches: dict[tuple[str, str], tuple[float, FloatArray]] = {}
        self.latest: Latest[Statistics] = Latest()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the processes it started."""
        self._resources.close()

    def forget(self) -> None:
        """Drop what is kept of texts seen so far."""
        self.latest.clear()
        self._scores.clear()
        self._matches.clear()
        if len(self._tokens) > _TOKENS_KEPT:  # those of blocks that were begun are asked for again
            self._tokens.clear()

    # ------------------------------------------------------------------------------------------ tokens

    def tokenise_ahead(self, texts: Iterable[str], *, meteor_follows: bool = False) -> None:
        """Tokenise many texts, in as many processes as there are cores, so that later calls find them stored.

        Args:
            texts: raw texts, streamed.
            meteor_follows: start METEOR in the background if a text is new.

        Raises:
            Unavailable: a text is new and there is no Java runtime, or the tokeniser failed.
        """
        if self.protocol != "coco-ptb":
            return
        source, jar = iter(texts), jar_hashes()["ptb"]
        parts = iter(lambda: list(islice(source, _TEXTS_AT_ONCE)), [])
        for number, part in enumerate(parts):
            wanted = [
                text for text in dict.fromkeys(part) if text.isascii() or languages.needs_own_tokeniser(text) is None
            ]
            tokens = self._store.tokens(jar, wanted)
            new = [text for text in wanted if text not in tokens]
            # others will ask a METEOR of theirs about other texts
            are_all = self._owns_meteor and number == 0 and len(part) < _TEXTS_AT_ONCE
            if meteor_follows and new and not are_all:
                self._meteor.start()
            asked = self._ask_tokeniser(new)
            if meteor_follows and new and are_all:
                self._meteor.start({*tokens.values(), *asked.values()})

    def prepare(self, texts: Iterable[str]) -> None:
        """Have the tokens of texts ready.

        Raises:
            Unavailable: a text is new and there is no Java runtime, or the tokeniser failed.
        """
        new = [text for text in dict.fromkeys(texts) if text not in self._tokens]
        if self.protocol != "coco-ptb":
            self._tokens.update((text, one_line(text)) for text in new)
            return
        for text in [text for text in new if not text.isascii()]:
            if (language := languages.needs_own_tokeniser(text)) is not None:
                self._own_tokenisers.add(language)
                self._tokens[text] = languages.tokeniser(language)(one_line(text))
        new = [text for text in new if text not in self._tokens]
        self._tokens.update(self._store.tokens(jar_hashes()["ptb"], new))
        new = [text for text in new if text not in self._tokens]
        self._tokens.update(self._ask_tokeniser(new))

    def tokens(self, text: str) -> str:
        """The protocol's tokens of a text, joined by blanks.

        Raises:
            Unavailable: see `prepare`.
        """
        if text not in self._tokens:
            self.prepare([text])
        return self._tokens[text]

    def tokeniser_name(self) -> str:
        """What a signature calls the tokenisation: of the protocol, and of texts in scripts that it cannot split."""
        if self.protocol != "coco-ptb":
            return "space"
        more = [f"{language}:{languages.tokeniser_version()}" for language in sorted(self._own_tokenisers)]
        return "+".join(["ptb3", *more])

    def _ask_tokeniser(self, texts: Sequence[str]) -> dict[str, str]:
        """The Java tokeniser's tokens of new texts, in several processes if that pays, stored."""
        if not texts:
            return {}
        processes = min(self.cores, 1 + len(texts) // _TEXTS_PER_TOKENISER)
        size = -(-len(texts) // processes)
        parts = [texts[start : start + size] for start in range(0, len(texts), size)]
        with ThreadPoolExecutor(processes) as pool:
            tokenised = [tokens for part in pool.map(ptb_tokenise, parts) for tokens in part]
        found = dict(zip(texts, tokenised, strict=True))
        self._store.add_tokens(jar_hashes()["ptb"], found)
        return found

    # --------------------------------------------------------------------------- BLEU, ROUGE-L, CIDEr-D

    def begin(self, pairs: Sequence[tuple[str, Sequence[str]]], *, with_meteor: bool) -> Ahead:
        """Have (candidate, references) scored in the background: n-grams and METEOR, each in processes of their own.

        Raises:
            Unavailable: see `prepare`; also no Java runtime for METEOR.
        """
        self.prepare(text for candidate, references in pairs for text in (candidate, *references))
        keys = [key for key in dict.fromkeys(self._key(c, r) for c, r in pairs) if key not in self._scores]
        if self._workers is None and self.cores > 1 and len(keys) >= _WORKER_PAIRS:
            self._workers = self._resources.enter_context(_Workers(self.cores, self.frequencies()))
        scores: list[tuple[Sequence[Pair], Future[FloatArray]]] = []
        for part in _parts(keys, _WORKER_PAIRS):
            if self._workers is not None:
                answer = self._workers.submit(part)
            else:
                answer = Future()
                answer.set_result(caption_scores.score_pairs(part, self.frequencies()))
            scores.append((part, answer))
        matches = [(c, reference) for c, references in keys for reference in references] if with_meteor else []
        return Ahead(scores, *self._ask_meteor(matches))

    def finish(self, ahead: Ahead) -> None:
        """Wait for what `begin` began, so that `scores` and `meteor` find it.

        Raises:
            Unavailable: METEOR failed.
        """
        for part, rows in ahead.scores:
            self._scores.update(zip(part, rows.result(), strict=True))
        self._learn(ahead.known, ahead.asked)

    def scores(self, candidates: Sequence[str], references: Sequence[Sequence[str]]) -> FloatArray:
        """BLEU counts, ROUGE-L and CIDEr-D (n, 12) of candidates against their references; see `caption_scores`.

        Raises:
            Unavailable: see `prepare`.
        """
        self.finish(self.begin(list(zip(candidates, references, strict=True)), with_meteor=False))
        keys = list(map(self._key, candidates, references))
        return np.array([self._scores[key] for key in keys]).reshape(len(keys), caption_scores.COLUMNS)

    def _key(self, candidate: str, references: Sequence[str]) -> Pair:
        return self.tokens(candidate), tuple(self.tokens(reference) for reference in references)

    def frequencies(self) -> DocumentFrequencies:
        """CIDEr's document frequencies, counted when first asked for.

        Raises:
            Unavailable: see `prepare`.
        """
        if self._frequencies is None:
            counted = DocumentFrequencies()
            references = iter(self._split_references)
            kept = self._tokens
            try:
                while block := list(islice(references, 2_000)):
                    self._tokens = {}  # tokens of texts that need not be kept
                    self.prepare(text for texts in block for text in texts)
                    for texts in block:
                        counted.add(self._tokens[text] for text in texts)
            finally:
                self._tokens = kept
            counted.close()
            self._frequencies = counted
        return self._frequencies

    # ------------------------------------------------------------------------------------------ METEOR

    def meteor(self, candidates: Sequence[str], references: Sequence[Sequence[str]]) -> FloatArray:
        """METEOR statistics (n, 23) of candidates with their best-scoring reference, ready to be summed.

        Raises:
            Unavailable: no Java runtime, or METEOR failed.
        """
        self.prepare(
            text for candidate, refs in zip(candidates, references, strict=True) for text in (candidate, *refs)
        )
        keys = list(map(self._key, candidates, references))
        self._learn(*self._ask_meteor([(candidate, reference) for candidate, refs in keys for reference in refs]))
        # max keeps the first of equals, as the jar does
        best = [max((self._matches[c, reference] for reference in refs), key=itemgetter(0))[1] for c, refs in keys]
        return np.array(best, dtype=np.float64).reshape(len(keys), meteor.COLUMNS)

    def _ask_meteor(self, pairs: Iterable[tuple[str, str]]) -> tuple[Matches, list[Asked]]:
        """Of pairs of tokenised texts not known yet: the stored statistics, and what is asked of the rest."""
        pairs = [pair for pair in dict.fromkeys(pairs) if pair not in self._matches]
        known = self._store.matches(jar_hashes()["meteor"], pairs) if pairs else {}
        new = [pair for pair in pairs if pair not in known]
        return known, [(part, self._meteor.submit(part)) for part in _parts(new, _METEOR_PAIRS)]

    def _learn(self, known: Matches, asked: Sequence[Asked]) -> None:
        """Take in statistics of pairs; what the jar says is stored part by part."""
        for part, answer in asked:
            statistics = answer.result()
            self._store.add_matches(jar_hashes()["meteor"], part, statistics)
            known |= dict(zip(part, statistics, strict=True))
        if known:
            rows = meteor.additive(np.array(list(known.values()), dtype=np.float64))
            scores = np.nan_to_num(meteor.score(rows)).tolist()
            self._matches.update(zip(known, zip(scores, rows, strict=True), strict=True))


class _Meteors:
    """One METEOR process, or several if there is much to ask: starting one costs seconds and a gigabyte.

    Args:
        first: one to use, which the caller closes; one is started if None.
        most: processes at most.
    """

    def __init__(self, first: MeteorProcess | None, most: int) -> None:
        self._own = [MeteorProcess()] if first is None else []
        self._first, self._most = first or self._own[0], most
        self._processes, self._asked = 1, 0
        self._idle: SimpleQueue[MeteorProcess] = SimpleQueue()
        self._idle.put(self._first)
        self._pool = ThreadPoolExecutor(most, thread_name_prefix="meteor")

    def start(self, texts: Collection[str] = ()) -> None:
        """Warm up; see `MeteorProcess.start`."""
        self._first.start(texts)

    def submit(self, pairs: Sequence[tuple[str, str]]) -> Future[FloatArray]:
        """Have pairs matched by the next process that is free."""
        self._asked += len(pairs)
        if self._processes < min(self._most, 1 + self._asked // _PAIRS_PER_METEOR):
            self._processes += 1
            self._own.append(MeteorProcess(self._first))
            self._idle.put(self._own[-1])
        return self._pool.submit(self._ask, pairs)

    def _ask(self, pairs: Sequence[tuple[str, str]]) -> FloatArray:
        process = self._idle.get()
        try:
            return process.statistics(pairs)
        finally:
            self._idle.put(process)

    def close(self) -> None:
        """End the processes it started; after an error, what is still being asked ends with them."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        for process in self._own:
            process.close()
        self._pool.shutdown()


class _Workers:
    """Processes that run `caption_scores`, a thread for each. They need no main module that can be imported again."""

    def __init__(self, count: int, frequencies: DocumentFrequencies) -> None:
        self._processes = []
        self._idle: SimpleQueue[subprocess.Popen[bytes]] = SimpleQueue()
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": "1"}
        self._pool = ThreadPoolExecutor(count, thread_name_prefix="captions")
        for _ in range(count):
            command = [sys.executable, "-m", caption_scores.__name__]
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
            self._processes.append(process)
            self._pool.submit(self._begin, process, frequencies)

    def _begin(self, process: subprocess.Popen[bytes], frequencies: DocumentFrequencies) -> None:
        assert process.stdin is not None
        try:
            pickle.dump(frequencies, process.stdin)
        finally:  # what became of it is told when it is asked
            self._idle.put(process)

    def submit(self, pairs: Sequence[Pair]) -> Future[FloatArray]:
        """Have pairs scored by the next process that is free."""
        return self._pool.submit(self._ask, list(pairs))

    def _ask(self, pairs: list[Pair]) -> FloatArray:
        process = self._idle.get()
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            pickle.dump(pairs, process.stdin)
            process.stdin.flush()
            rows: FloatArray = pickle.load(process.stdout)
            return rows
        except (OSError, EOFError, pickle.PickleError) as error:
            raise RuntimeError(f"a process that scores captions ended with {process.poll()}") from error
        finally:
            self._idle.put(process)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(cancel_futures=True)
        for process in self._processes:
            process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    with suppress(BrokenPipeError):  # of what a dead process never read
                        stream.close()


def _parts(values: Sequence[T], size: int) -> list[Sequence[T]]:
    return [values[start : start + size] for start in range(0, len(values), size)]


def engine_of(metric: Metric) -> CaptionEngine:
    """The caption engine of a metric's context.

    Raises:
        Unavailable: there is none.
    """
    engine = metric.context.find(CaptionEngine)
    if engine is None:
        raise Unavailable("no caption engine is available")
    return engine
