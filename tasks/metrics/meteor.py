"""METEOR 1.5: the process that matches words, and the score from its match statistics.

The jar answers each (candidate, reference) pair with 23 numbers: length of candidate and reference, function words
of both, then for each matcher (exact, stem, synonym, paraphrase) the matched content words of candidate and reference
and the matched function words of candidate and reference, then chunks and matched words of candidate and reference.
Scores are functions of (sums of) these numbers, so the jar is asked once per pair and corpus METEOR of any subset of
examples follows by addition.

The jar normalises both texts of every pair by some twenty regular expressions, which takes as long as matching them.
Here each text is normalised once, by the jar's own program, and one of lower-case words needs none.

Source: Denkowski & Lavie 2014, Meteor Universal; parameters of the English ranking task.
"""

from __future__ import annotations

import queue
import re
import subprocess
import threading
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from io import BufferedReader
from itertools import chain
from types import TracebackType
from typing import IO

import numpy as np

from harness.tasks.metrics.base import FloatArray, Unavailable
from harness.tasks.metrics.java import JAVA_OPTIONS, LITTLE_TO_DO, jars, one_line, require_java
from harness.tasks.metrics.paraphrases import Paraphrases

ALPHA, BETA, GAMMA, DELTA = 0.85, 0.2, 0.6, 0.75
MATCHER_WEIGHTS = np.array([1.0, 0.6, 0.8, 0.6])
"""Exact, stem, synonym, paraphrase."""

COLUMNS = 23
"""Numbers in a statistics row."""

_TIMEOUT_S = 120
_PIPELINED = 1_000
_AT_ONCE = 1 << 16
_NORMAL = re.compile("[a-z ]*")

CHUNKS = 20
"""Index of the number of chunks."""


def additive(statistics: FloatArray) -> FloatArray:
    """Rows (n, 23) ready to be summed: a candidate matched whole in one chunk counts no chunk, as in the jar."""
    candidate, reference = statistics[:, 0], statistics[:, 1]
    chunks, matched_candidate, matched_reference = statistics[:, 20], statistics[:, 21], statistics[:, 22]
    whole = (chunks == 1) & (matched_candidate == candidate) & (matched_reference == reference)
    rows = statistics.copy()
    rows[whole, CHUNKS] = 0.0
    return rows


def score(sums: FloatArray) -> FloatArray:
    """METEOR (...) of summed `additive` rows (..., 23).

    With weighted precision P and recall R: F = P R / (alpha P + (1 - alpha) R), score = F (1 - gamma f^beta) for
    f = chunks per matched word. 0 where nothing matches, NaN where there is no text at all.
    """
    lengths, function_words = sums[..., 0:2], sums[..., 2:4]  # candidate, reference
    matches = sums[..., 4:20].reshape(*sums.shape[:-1], 4, 2, 2)  # matcher, content|function, candidate|reference
    by_kind = np.einsum("m,...mkt->...kt", MATCHER_WEIGHTS, matches)
    weighted = DELTA * by_kind[..., 0, :] + (1 - DELTA) * by_kind[..., 1, :]
    total = DELTA * (lengths - function_words) + (1 - DELTA) * function_words
    share = np.divide(weighted, total, out=np.zeros_like(weighted), where=total > 0)
    precision, recall = share[..., 0], share[..., 1]
    harmonic = _quotient(precision * recall, ALPHA * precision + (1 - ALPHA) * recall)
    fragmentation = _quotient(sums[..., CHUNKS], (sums[..., 21] + sums[..., 22]) / 2)
    scores = harmonic * (1 - GAMMA * fragmentation**BETA)
    return np.where(lengths.sum(-1) > 0, scores, np.nan)


def _quotient(numerator: FloatArray, denominator: FloatArray) -> FloatArray:
    return np.divide(numerator, denominator, out=np.zeros_like(numerator), where=denominator > 0)


class MeteorProcess:
    """One METEOR 1.5 that answers many questions; start-up (the paraphrase table) takes seconds.

    Use as a context manager, or call `close`. Its programs start at the first question and start anew after a failure,
    but not after `close`.

    Args:
        like: a process that was started for certain texts; this one will be asked about the same.
    """

    def __init__(self, like: MeteorProcess | None = None) -> None:
        self._lock = threading.Lock()
        self._matcher = _Program("-Xmx2G", "-jar", "{jar}", "-", "-", "-stdio", "-l", "en", "-lower")
        self._normaliser = _Program("-cp", "{jar}", "edu.cmu.meteor.util.Normalizer", "en", "true")
        self._own_paraphrases: Paraphrases | None = None
        self._paraphrases: Paraphrases | None = None if like is None else like._paraphrases

    def __enter__(self) -> MeteorProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start(self, texts: Collection[str] = ()) -> None:
        """Start unless it runs; returns at once, it warms up in the background.

        Args:
            texts: all that it will be asked about, if that is known: it then starts with their paraphrases alone, in a
                fraction of time and memory. Asked about another text, it starts again with all.

        Raises:
            Unavailable: no Java runtime.
        """
        require_java()
        if texts and not self._matcher.runs and self._paraphrases is None:
            table = jars()["meteor"].parent / "data" / "paraphrase-en.gz"
            self._own_paraphrases = self._paraphrases = Paraphrases(table, texts, self._normalised)

        def warm_up() -> None:
            with suppress(Unavailable, OSError, ValueError, queue.Empty), self._lock:  # who asks will see it again
                self._start_matcher()

        threading.Thread(target=warm_up, daemon=True).start()

    def statistics(self, pairs: Sequence[tuple[str, str]]) -> FloatArray:
        """METEOR's match statistics of (candidate, reference) pairs, (len(pairs), 23) float64.

        Raises:
            Unavailable: no Java runtime, the process died or was closed, or one pair took longer than two minutes.
        """
        if not pairs:
            return np.zeros((0, COLUMNS))
        with self._lock:
            try:
                self._start_matcher()
                texts = dict.fromkeys(chain.from_iterable(pairs))
                normal = None if self._paraphrases is None else self._paraphrases.normal(texts)
                if normal is None:
                    if self._paraphrases is not None:
                        self._end()
                    normal = self._normalised(texts)
                answers = self._matcher.ask([f"SCORE ||| {normal[ref]} ||| {normal[own]}" for own, ref in pairs])
                rows = np.array([answer.split() for answer in answers], dtype=np.float64)
                return rows.reshape(len(pairs), COLUMNS)
            except (OSError, ValueError, queue.Empty) as error:
                self._end()
                raise Unavailable(f"METEOR failed ({type(error).__name__})") from error

    def _start_matcher(self) -> None:
        """Start it; a table that cannot be written is done without.

        Raises:
            Unavailable: no Java runtime, or `close` was called.
        """
        if self._paraphrases is not None:
            try:
                self._matcher.start("-a", str(self._paraphrases.path()), option=LITTLE_TO_DO)
            except OSError:
                self._end()
        self._matcher.start()

    def _normalised(self, texts: Iterable[str]) -> dict[str, str]:
        """Each text as METEOR's option `-norm` would make it, but for its case."""
        # on one line, without METEOR's field separator
        lines = {text: one_line(text.replace("|||", " ")) for text in texts}
        odd = [line for line in dict.fromkeys(lines.values()) if _NORMAL.fullmatch(line) is None]
        normal = dict(zip(odd, self._normaliser.ask(odd), strict=True))
        return {text: normal.get(line, line) for text, line in lines.items()}

    def _end(self) -> None:
        """End the programs; the next ones start with all paraphrases."""
        self._paraphrases = None
        self._matcher.close()
        self._normaliser.close()

    def close(self) -> None:
        """End the programs for good; whoever waits for an answer gets none."""
        self._matcher.kill()
        self._normaliser.kill()
        if self._own_paraphrases is not None:
            self._own_paraphrases.close()
        with self._lock:
            self._end()


class _Program:
    """A Java program that answers each line with a line; it starts at the first one.

    Args:
        arguments: of `java`; `{jar}` stands for METEOR's.
    """

    def __init__(self, *arguments: str) -> None:
        self._arguments = arguments
        self._process: subprocess.Popen[bytes] | None = None
        self._said: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._killed = threading.Event()

    @property
    def runs(self) -> bool:
        """Whether it was started."""
        return self._process is not None

    def start(self, *more: str, option: str | None = None) -> None:
        """Start unless it runs, with further arguments, and an option of Java's.

        Raises:
            Unavailable: no Java runtime, or `kill` was called.
        """
        if self._killed.is_set():
            raise Unavailable("METEOR is needed no more")
        if self._process is not None:
            return
        jar = jars()["meteor"]
        arguments = [argument.format(jar=jar) for argument in self._arguments]
        command = [require_java(), *JAVA_OPTIONS, *([option] if option else []), *arguments, *more]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=jar.parent
        )
        self._said = queue.SimpleQueue()
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        for stream, said in ((self._process.stdout, self._said), (self._process.stderr, None)):
            threading.Thread(target=_forward, args=(stream, said), daemon=True).start()
        if self._killed.is_set():  # meanwhile
            self._process.kill()

    def ask(self, lines: Sequence[str]) -> list[str]:
        """The answers, a thousand questions at a time.

        Raises:
            Unavailable: no Java runtime, or `kill` was called.
            OSError, ValueError, queue.Empty: the program died or is silent for two minutes.
        """
        answers: list[str] = []
        try:
            for start in range(0, len(lines), _PIPELINED):
                part = lines[start : start + _PIPELINED]
                self.start()
                assert self._process is not None
                assert self._process.stdin is not None
                self._process.stdin.write("".join(f"{line}\n" for line in part).encode("utf-8"))
                self._process.stdin.flush()
                said: list[bytes] = []
                missing = len(part)
                while missing > 0:
                    said.append(self._said.get(timeout=_TIMEOUT_S))
                    missing -= said[-1].count(b"\n")
                    if not said[-1]:
                        raise ValueError("the program ended")
                answers += b"".join(said).decode("utf-8").removesuffix("\n").split("\n")
        except BaseException:  # lest answers that are still to come be taken for those to later questions
            self.close()
            raise
        return answers

    def kill(self) -> None:
        """Kill the process for good; another thread that waits for its answers finds that it ended."""
        self._killed.set()
        process = self._process
        if process is not None:
            process.kill()

    def close(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream is not None:
                    with suppress(BrokenPipeError):  # of what a dead process never read
                        stream.close()


def _forward(stream: IO[bytes], said: queue.SimpleQueue[bytes] | None) -> None:
    """Put what a program says into the queue, then nothing at the end, so that no reader waits in vain.

    Without a queue it is read all the same, lest the program wait.
    """
    assert isinstance(stream, BufferedReader)
    with suppress(ValueError):  # closed while being read, by `close`
        while part := stream.read1(_AT_ONCE):
            if said is not None:
                said.put(part)
    if said is not None:
        said.put(b"")
