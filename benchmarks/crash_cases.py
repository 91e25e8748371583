"""What `crash.py` interrupts: asking a slow local model and an endpoint, scoring, reporting."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from PIL import Image

from harness.cli import main as harness

EMOTIONS = ("awe", "fear", "contentment")
TIMED = ("latency_p50_s", "latency_p95_s", "images_per_s", "peak_memory_gb")
SLOW = '''
import time
from harness.adapters import LocalAdapter
from harness.types import Answer

class Slow(LocalAdapter):
    """Answers by the picture's colour, after a while."""
    name = "slow"
    def __init__(self, wait_s: float = 0.02) -> None:
        self.wait_s = wait_s
    def fingerprint(self):
        return {}
    def predict(self, items):
        time.sleep(self.wait_s * len(items))
        return [self.answer(item, item.open().getpixel((0, 0))) for item in items]
    def answer(self, item, colour):
        emotion = item.labels[sum(colour) % 3]
        probabilities = {label: 0.8 if label == emotion else 0.1 for label in item.labels}
        return Answer(emotion, f"the colour {colour} fills the room of picture {item.id}", probabilities)
'''


class Found(NamedTuple):
    """What a folder holds at the end: ids of recorded outcomes in order, and whatever else must be equal, by name."""

    ids: list[str]
    content: dict[str, Any]


def differences(found: dict[str, Any], expected: dict[str, Any]) -> list[str]:
    """Names under which two contents differ."""
    return sorted(name for name in {*found, *expected} if found.get(name) != expected.get(name))


class Case:
    """Work to interrupt. Used as a context manager, for what must run beside it.

    Attributes:
        name: of the row in the table.
        share: of all kills.
        kills_per_folder: how often one folder is killed before it is left to end.
        changes, longest_wait_s: most changes of files to wait for before a kill, and seconds after them.
        watched: folder, relative to the working folder, whose changes count as progress.
    """

    name = ""
    share = 0.0
    kills_per_folder = 5
    changes = 20
    longest_wait_s = 0.05
    watched = Path("run")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing runs beside most cases."""

    def prepare(self, folder: Path) -> None:
        """Put everything in place that the command needs."""
        raise NotImplementedError

    def command(self, folder: Path) -> list[str]:
        """Words after `harness`; the same before and after a kill."""
        raise NotImplementedError

    def ended(self, folder: Path) -> bool:
        """Whether the work is done, so that the command would refuse to do it again."""
        return False

    def checks(self, folder: Path) -> list[list[str]]:
        """Commands that must end with exit code 0 when all is done."""
        return [["doctor", "run"]]

    def found(self, folder: Path) -> Found:
        """What the work left."""
        ids, content = outcomes(folder / "run")
        return Found(ids, {**content, **results(folder / "run")})

    def requests_sent_twice(self) -> int:
        """Requests that an endpoint got more than once, over all folders."""
        return 0

    def requests_counted(self, folder: Path) -> int:
        """Requests of which the run in this folder says that they may have been sent twice."""
        return 0


def dataset(folder: Path, count: int) -> None:
    """Pictures of one colour each, described three times, and their card."""
    folder.mkdir(parents=True)
    lines = []
    for number in range(count):
        colour = (number * 7 % 256, number * 13 % 256, number * 29 % 256)
        Image.new("RGB", (16, 16), colour).save(folder / f"{number}.png")
        said = [
            {
                "emotion": EMOTIONS[(number + i // 2) % 3],
                "explanation": f"the room {number} is painted {colour[i]} times",
            }
            for i in range(3)
        ]
        split = "train" if number % 4 == 0 else "test"
        lines.append(json.dumps({"id": f"p{number}", "image": f"{number}.png", "split": split, "annotations": said}))
    (folder / "examples.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "card.yaml").write_text(
        f"name: colours\ndataset: jsonl\nemotions: [{', '.join(EMOTIONS)}]\noptions: {{examples: examples.jsonl}}\n",
        encoding="utf-8",
    )


def outcomes(run: Path) -> tuple[list[str], dict[str, Any]]:
    """Ids as they were recorded, and what must be equal of each outcome."""
    ids, content = [], {}
    for path in sorted(run.glob("outcomes/*/*.jsonl")):
        for line in map(json.loads, path.read_text(encoding="utf-8").splitlines()):
            name = f"{path.stem}/{line['id']}"
            ids.append(name)
            content[name] = [line.get(k) for k in ("kind", "emotion", "explanation", "emotion_probs", "held_out")]
    return ids, content


def results(run: Path) -> dict[str, Any]:
    """results.json, by part, without what measures time or says when and where it ran."""
    whole = json.loads((run / "results.json").read_text(encoding="utf-8"))
    whole["cells"] = [cell for cell in whole["cells"] if cell["metric"] not in TIMED]
    whole["models"] = [{k: v for k, v in model.items() if k != "wall_s"} for model in whole["models"]]
    return {f"results.json {name}": json.dumps(value) for name, value in whole.items() if name != "manifest"}


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every file below a folder, by its relative path."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


class RunLocal(Case):
    """`harness run` with a model in the process."""

    name, share, changes = "run local", 20 / 60, 25

    def prepare(self, folder: Path) -> None:
        """150 pictures, of which 112 are asked about."""
        dataset(folder, 150)
        (folder / "slow.py").write_text(SLOW, encoding="utf-8")

    def command(self, folder: Path) -> list[str]:
        """Batches of four."""
        words = "--tasks card.yaml --adapter slow=slow.py:Slow --models slow,majority --out run --data-root data"
        return ["run", *words.split(), "--batch-size", "4"]


class RunEndpoint(Case):
    """`harness run` with eight requests under way at a loopback endpoint that takes a twentieth of a second."""

    name, share, changes = "run endpoint", 20 / 60, 25

    def __enter__(self) -> Self:
        self.asked: Counter[tuple[str, bytes]] = Counter()
        case = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                data = self.rfile.read(int(self.headers.get("content-length") or 0))
                body = case.reply(self.headers["authorization"], json.loads(data or b"{}"))
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_POST

            def log_message(self, *arguments: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            def handle_error(self, request: object, client_address: object) -> None:
                """A client that was killed is what was asked for."""

        self.server = Server(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.server.shutdown()
        self.server.server_close()

    def reply(self, key: str, request: dict[str, Any]) -> bytes:
        """An answer that depends on the picture alone; each folder asks with a key of its own."""
        if "messages" not in request:
            return json.dumps({"object": "list", "data": []}).encode()
        (url,) = (part["image_url"]["url"] for part in request["messages"][-1]["content"] if "image_url" in part)
        picture = hashlib.sha256(base64.b64decode(url.partition(",")[2])).digest()
        self.asked[key, picture] += 1
        time.sleep(0.05)
        said = f"{EMOTIONS[picture[0] % 3]} because the picture of colour {picture.hex()[:6]} is so plain"
        choice = {"index": 0, "message": {"role": "assistant", "content": said}, "finish_reason": "stop"}
        used = {"prompt_tokens": 70, "completion_tokens": 9, "total_tokens": 79}
        whole = {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "usage": used}
        return json.dumps(whole).encode()

    def prepare(self, folder: Path) -> None:
        """200 pictures, of which 150 are asked about."""
        dataset(folder, 200)

    def command(self, folder: Path) -> list[str]:
        """No probe, so that every request is about a painting."""
        url = f"http://127.0.0.1:{self.server.server_port}/v1"
        model = f"gpt4v:model=m,base_url={url},probe=off,schema=false,probabilities=false"
        return ["run", "--tasks", "card.yaml", "--models", model, "--out", "run", "--data-root", "data"]

    def requests_sent_twice(self) -> int:
        """Over all folders."""
        return sum(count - 1 for count in self.asked.values())

    def requests_counted(self, folder: Path) -> int:
        """Of the one row that asks."""
        (row,) = json.loads((folder / "run" / "manifest.json").read_text(encoding="utf-8"))["runs"]
        return int(row["requests_without_outcome"])


class Score(Case):
    """`harness score` of a finished run, with the Java metrics, from an empty cache."""

    name, share, changes, longest_wait_s = "score", 5 / 60, 3, 3.0

    def prepare(self, folder: Path) -> None:
        """A run with its outcomes, not scored yet; made once."""
        made = folder.parent / "run"
        if not made.exists():
            words = f"--tasks demo --models majority,human,crowd --out {made} --no-report --data-root {folder.parent}"
            assert harness(["run", *words.split()]) == 0
        shutil.copytree(made, folder / "run")
        (folder / "run" / "results.json").unlink()
        shutil.rmtree(folder / "run" / "cache")

    def command(self, folder: Path) -> list[str]:
        """Without the report."""
        return ["score", "run", "--no-report"]


class Report(Score):
    """`harness report` of a scored run; the whole folder must come out byte for byte."""

    name, changes, longest_wait_s = "report", 40, 0.1
    watched = Path("run/report")

    def prepare(self, folder: Path) -> None:
        """A scored run without a report."""
        super().prepare(folder)
        shutil.copy(folder.parent / "run" / "results.json", folder / "run" / "results.json")

    def command(self, folder: Path) -> list[str]:
        """Into the run."""
        return ["report", "run"]

    def found(self, folder: Path) -> Found:
        """Every file of the report."""
        return Found([], digests(folder / "run" / "report"))
