"""SPICE by the original jar, where the user has installed it: it comes with no package and needs 8 GB of memory.

`HARNESS_SPICE` names the folder that holds `spice-1.0.jar` and its `lib/` with Stanford CoreNLP 3.6.0 and the models
(https://panderson.me/spice, Java 8 or 11). Nothing is downloaded.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from harness.tasks.metrics.base import FloatArray, Unavailable, View
from harness.tasks.metrics.captions import MeanCaption
from harness.tasks.metrics.java import find_java, one_line, require_java

VARIABLE = "HARNESS_SPICE"
_JAR = "spice-1.0.jar"
_TIMEOUT_S = 6 * 3600


class Spice(MeanCaption):
    """Mean SPICE F1 of scene-graph tuples. Range 0..1, higher is better.

    Texts are given to the jar as they are, on one line; it has a parser of its own.
    """

    name = "spice"
    label = "SPICE"
    description = "SPICE F-score of the explanation."
    group = "text-more"
    protocol_dependent = False
    views: ClassVar[frozenset[View]] = frozenset({"reference", "predicted", "slice"})
    source = "Anderson et al. 2016; spice-1.0.jar"

    def __init__(self, context: Any) -> None:
        super().__init__(context)
        self._known: dict[tuple[str, tuple[str, ...]], float] = {}

    def missing(self) -> str | None:
        """The jars are not installed, or there is no Java runtime."""
        folder = os.environ.get(VARIABLE)
        if not folder:
            return f"SPICE's jars are not installed; see harness.tasks.metrics.spice for ${VARIABLE}"
        if not (Path(folder) / _JAR).is_file():
            return f"${VARIABLE}: there is no {_JAR} in that folder"
        return None if find_java() else "no Java runtime found; install sevlm-harness[java]"

    def scores(self, candidates: Sequence[str], references: Sequence[Sequence[str]]) -> FloatArray:
        """SPICE (n,) of candidates against all their references together."""
        reason = self.missing()
        if reason is not None:
            raise Unavailable(reason)
        keys = [(one_line(c), tuple(map(one_line, refs))) for c, refs in zip(candidates, references, strict=True)]
        new = [key for key in dict.fromkeys(keys) if key not in self._known]
        if new:
            self._known.update(zip(new, _ask(Path(os.environ[VARIABLE]), new), strict=True))
        return np.array([self._known[key] for key in keys], dtype=np.float64)

    def fields(self) -> dict[str, str]:
        """The engine."""
        return {"engine": "spice-1.0"}


def _ask(folder: Path, pairs: Sequence[tuple[str, tuple[str, ...]]]) -> list[float]:
    """The jar's F1 of (candidate, references), in order."""
    questions = [{"image_id": i, "test": test, "refs": list(refs)} for i, (test, refs) in enumerate(pairs)]
    with tempfile.TemporaryDirectory(prefix="spice-") as place:
        source, answer, cache = (Path(place) / name for name in ("in.json", "out.json", "cache"))
        cache.mkdir()
        source.write_text(json.dumps(questions), encoding="utf-8")
        jar = folder.resolve() / _JAR
        command = [require_java(), "-Xmx8G", "-Duser.language=en", "-Duser.country=US", "-jar", str(jar), str(source)]
        options = ["-cache", str(cache), "-out", str(answer), "-subset", "-silent"]
        try:
            subprocess.run(command + options, cwd=jar.parent, check=True, capture_output=True, timeout=_TIMEOUT_S)
            found = {item["image_id"]: item["scores"]["All"]["f"] for item in json.loads(answer.read_text("utf-8"))}
            return [float(found[i]) for i in range(len(pairs))]
        except (OSError, subprocess.SubprocessError, ValueError, KeyError, TypeError) as error:
            raise Unavailable(f"SPICE failed ({type(error).__name__})") from error
