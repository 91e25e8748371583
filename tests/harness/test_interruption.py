"""Signals, full disks, folders that cannot be written: one line each, and every outcome recorded before is there."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from servers import Reply, Request, answered, serving

pytestmark = pytest.mark.slow

HELD = "        import os, time\n        self.asked = getattr(self, 'asked', 0) + len(items)\n"
HELD += "        while self.asked > 2 and os.path.exists('held'):\n            time.sleep(0.005)\n"
"""After two pictures the adapter waits for as long as there is a file of that name."""
PATIENCE_S = 120
STAGES = {"score": "harness.score.results.score_run", "report": "harness.reports.build.build_report"}
ENDS_WELL = "import sys\nfrom harness.cli import main\nsys.exit(main(sys.argv[1:]))\n"


@pytest.fixture
def words(dataset: Path, adapter_file: Path) -> list[str]:
    adapter_file.write_text(
        adapter_file.read_text().replace("        outcomes = []\n", HELD + "        outcomes = []\n")
    )
    model = ["--adapter", f"brightness={adapter_file}:Brightness", "--models", "brightness"]
    return ["run", "--tasks", str(dataset / "tiny.yaml"), *model, "--out", "out", "--batch-size", "1", "--no-report"]


def started(words: list[str], folder: Path, before: str = "") -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", before + ENDS_WELL, *words], cwd=folder, text=True, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL
    )  # fmt: skip


def wait_for(ready: Callable[[], bool], seconds: float = PATIENCE_S) -> None:
    deadline = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.005)


def recorded(folder: Path) -> list[str]:
    found = list(folder.glob("out/outcomes/*/*.jsonl"))
    return [json.loads(line)["id"] for line in found[0].read_text().splitlines()] if found else []


def last_line(err: str) -> str:
    assert "Traceback" not in err, err
    return err.strip().splitlines()[-1]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_ends_a_run_that_can_be_resumed(
    number: int, words: list[str], tmp_path: Path, harness
) -> None:
    (tmp_path / "held").touch()
    process = started(words, tmp_path)
    wait_for(lambda: len(recorded(tmp_path)) >= 2)
    process.send_signal(number)
    _, err = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, last_line(err)) == (130, "harness: interrupted; rerun the same command to resume")
    done = recorded(tmp_path)
    assert len(done) == 2
    (tmp_path / "held").unlink()
    assert harness(*words)[0] == 0
    assert recorded(tmp_path)[: len(done)] == done
    assert len(set(recorded(tmp_path))) == len(recorded(tmp_path)) == 8


def test_a_run_killed_after_its_last_answer_knows_what_the_model_told(
    words: list[str], adapter_file: Path, tmp_path: Path, harness
) -> None:
    """Nothing is asked when it is resumed, so the model is not loaded again."""
    dies = "\n    def parameters(self):\n        import os\n        self.told = getattr(self, 'told', 0) + 1\n"
    dies += "        return 7 if self.told == 1 else os.kill(os.getpid(), 9)\n"
    adapter_file.write_text(adapter_file.read_text().rstrip() + dies)
    assert started(words, tmp_path).wait(timeout=PATIENCE_S) == -signal.SIGKILL
    assert len(recorded(tmp_path)) == 8
    assert harness(*words)[0] == 0
    assert len(recorded(tmp_path)) == 8
    cells = json.loads((tmp_path / "out/results.json").read_text())["cells"]
    assert [cell["value"] for cell in cells if cell["metric"] == "parameters"] == [7]


def test_the_second_signal_ends_at_once_and_loses_nothing(words: list[str], tmp_path: Path, harness) -> None:
    adapter = next(tmp_path.glob("brightness.py"))
    adapter.write_text(
        adapter.read_text()
        + "\n    def close(self):\n        import time\n        open('closing', 'w').close()\n        time.sleep(600)\n"
    )
    (tmp_path / "held").touch()
    process = started(words, tmp_path)
    wait_for(lambda: len(recorded(tmp_path)) >= 2)
    process.send_signal(signal.SIGINT)
    wait_for((tmp_path / "closing").exists)
    done = recorded(tmp_path)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=PATIENCE_S)  # closing takes longer
    assert (process.returncode, last_line(err)) == (130, "harness: killed; rerun the same command to resume")
    assert recorded(tmp_path) == done
    adapter.write_text(adapter.read_text().replace("time.sleep(600)", "pass"))
    (tmp_path / "held").unlink()
    assert harness(*words)[0] == 0
    assert recorded(tmp_path)[: len(done)] == done


@dataclass
class Endpoint:
    """Answers the first two requests at once, and others when the file `held` is gone."""

    folder: Path
    address: str = ""
    asked: int = 0

    def answer(self, request: Request) -> Reply:
        if request.method == "POST":  # the list of models is asked for first
            with COUNTING:
                self.asked += 1
                number = self.asked
            if number > 2:
                wait_for(lambda: not (self.folder / "held").exists())
        return answered("joy because it is bright")


COUNTING = threading.Lock()


@pytest.fixture
def endpoint(tmp_path: Path) -> Iterator[Endpoint]:
    made = Endpoint(tmp_path)
    with serving(made.answer) as made.address:
        try:
            yield made
        finally:
            (tmp_path / "held").unlink(missing_ok=True)


@pytest.fixture
def endpoint_words(endpoint: Endpoint, dataset: Path) -> list[str]:
    model = f"gpt4v:model=m,base_url={endpoint.address}/v1,probe=off,schema=false,probabilities=false"
    asks = ["--tasks", str(dataset / "tiny.yaml"), "--models", model, "--concurrency", "2"]
    return ["run", *asks, "--out", "out", "--no-report"]


def requests_noted(folder: Path) -> tuple[int, int]:
    """What the manifest says of its row: requests, and requests of which nobody recorded an outcome."""
    (row,) = json.loads((folder / "out/manifest.json").read_text())["runs"]
    return row["requests"], row["requests_without_outcome"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_requests_under_way_are_sent_again_and_counted(
    number: int, endpoint: Endpoint, endpoint_words: list[str], tmp_path: Path, harness
) -> None:
    (tmp_path / "held").touch()
    process = started(endpoint_words, tmp_path)
    wait_for(lambda: len(recorded(tmp_path)) >= 2 and endpoint.asked > 2)
    process.send_signal(number)
    _, err = process.communicate(timeout=PATIENCE_S)
    if number == signal.SIGTERM:
        assert (process.returncode, last_line(err)) == (130, "harness: interrupted; rerun the same command to resume")
    assert len(recorded(tmp_path)) == 2
    (tmp_path / "held").unlink()
    code, _, err = harness(*endpoint_words)
    assert code == 0
    assert len(set(recorded(tmp_path))) == len(recorded(tmp_path)) == 8
    requests, again = requests_noted(tmp_path)
    assert f"{again} requests were under way when a command was stopped" in err
    assert 1 <= again <= 2
    assert requests == 8 + again
    assert endpoint.asked <= requests  # a request that was noted may not have reached the endpoint


def test_a_run_that_nothing_stopped_sent_nothing_twice(
    endpoint: Endpoint, endpoint_words: list[str], tmp_path: Path, harness
) -> None:
    code, _, err = harness(*endpoint_words)
    assert (code, "under way" in err) == (0, False)
    assert (requests_noted(tmp_path), endpoint.asked) == ((8, 0), 8)


@pytest.mark.parametrize("verb", ["score", "report"])
def test_scoring_and_reporting_are_interrupted_alike(verb: str, words: list[str], tmp_path: Path, harness) -> None:
    assert harness(*words, "--limit", 4)[0] == 0
    results = (tmp_path / "out/results.json").read_bytes()
    hang = "import time, harness.reports.build, harness.score.results\ndef hang(*a, **k):\n    open('hung', 'w').close(); time.sleep(600)\n"
    process = started([verb, "out"], tmp_path, f"{hang}{STAGES[verb]} = hang\n")
    wait_for((tmp_path / "hung").exists)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, err) == (130, "harness: interrupted; rerun the same command to resume\n")
    assert (tmp_path / "out/results.json").read_bytes() == results
    assert harness(verb, "out")[0] == 0


@pytest.mark.parametrize("stage", ["score", "report"])
def test_the_folder_is_kept_until_the_run_has_ended(stage: str, words: list[str], tmp_path: Path, harness) -> None:
    words = [word for word in words if word != "--no-report"]
    hang = "import time, harness.reports.build, harness.score.results\ndef hang(*a, **k):\n    open('hung', 'w').close(); time.sleep(600)\n"
    process = started(words, tmp_path, f"{hang}{STAGES[stage]} = hang\n")
    try:
        wait_for((tmp_path / "hung").exists)
        others = [words, ["score", "out", "--bert-score", "x"], ["report", "out"]]
        for command in others:
            code, _, err = harness(*command)
            assert (code, "another harness process works in this run folder" in err) == (2, True), (command, err)
        assert "scoring" not in json.loads((tmp_path / "out/manifest.json").read_text())
    finally:
        process.kill()
        process.communicate()
    assert harness(*words)[0] == 0


LIMITED = (
    "import resource, sys\nlimit = int(sys.argv.pop(1))\nresource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))\n"
)


def test_a_full_disk_while_asking(words: list[str], tmp_path: Path, harness) -> None:
    """No file may grow beyond a limit that the manifest keeps and the outcomes do not."""
    assert harness(*words, "--limit", 4)[0] == 0
    done, path = recorded(tmp_path), tmp_path / "out/outcomes/tiny/brightness.jsonl"
    with (tmp_path / "out/manifest.json").open() as file:
        manifest = len(file.read())
    adapter = next(tmp_path.glob("brightness.py"))
    adapter.write_text(adapter.read_text().replace('f"the light is {light}"', 'f"the light is {light}" * 1000'))
    process = started([str(manifest + 8000 + path.stat().st_size), *words, "--no-cache"], tmp_path, LIMITED)
    _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 2
    assert last_line(err).startswith("harness: ")
    assert "what was recorded before is intact" in last_line(err)
    assert recorded(tmp_path)[: len(done)] == done
    assert path.read_bytes().endswith(b"\n")


def tiny_disk(size: str) -> Callable[[Path], None]:
    """Mount a file system of a few kilobytes (as root, in a name space of its own)."""

    def mount(path: Path) -> None:
        path.mkdir(exist_ok=True)
        made = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(path)], capture_output=True, text=True
        )
        if made.returncode:
            pytest.skip(f"a file system cannot be mounted here: {made.stderr.strip()}")

    return mount


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """A function that gives a folder on a disk of a given size."""
    places: list[Path] = []

    def make(size: str) -> Path:
        place = tmp_path / f"disk{len(places)}"
        tiny_disk(size)(place)
        places.append(place)
        return place

    yield make
    for place in places:
        subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk_at_every_stage(words: list[str], tmp_path: Path, harness, mounted: Callable[[str], Path]) -> None:
    """Whatever is written when the disk runs full, one line says so and what was there before is there afterwards."""
    stages = set()
    for size in ("12k", "28k", "64k", "160k"):
        disk = mounted(size)
        code, _, err = harness(
            *[str(disk / "run") if word == "out" else word for word in words if word != "--no-report"]
        )
        assert code in (0, 2), err
        if code == 2:
            assert "No space left" in last_line(err) or "full" in last_line(err), err
            stages.add(len(list(disk.rglob("*.json*"))))
            for path in disk.rglob("outcomes/*/*.jsonl"):
                for line in path.read_text().splitlines():
                    json.loads(line)
            for path in [*disk.rglob("manifest.json"), *disk.rglob("results.json")]:
                json.loads(path.read_text())
    assert len(stages) >= 2, "the disk ran full at one stage only"


@pytest.mark.parametrize("verb", ["run", "score", "report"])
def test_a_folder_that_cannot_be_written(
    verb: str, words: list[str], tmp_path: Path, harness, mounted: Callable[[str], Path]
) -> None:
    disk = mounted("20m")
    there = [str(disk / "run") if word == "out" else word for word in words]
    assert harness(*there, "--limit", 4)[0] == 0
    before = {path: path.read_bytes() for path in disk.rglob("*") if path.is_file()}
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    code, _, err = harness(*(there if verb == "run" else [verb, disk / "run"]))
    assert (code, "Read-only file system" in last_line(err) or "readonly" in last_line(err)) == (2, True), err
    assert {path: path.read_bytes() for path in disk.rglob("*") if path.is_file()} == before


def test_a_data_root_that_cannot_be_written(tmp_path: Path, harness, mounted: Callable[[str], Path]) -> None:
    disk = mounted("1m")
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    (tmp_path / "release.csv").write_text("not looked at")
    words = ["data", "prepare", "artemis", "--annotations", "release.csv", "--images", "."]
    code, _, err = harness(*words, "--data-root", disk / "below")
    assert (code, err.count("\n")) == (2, 1)
    assert f"{disk} cannot be written to; name another: --data-root DIR" in err


def test_two_runs_at_once(words: list[str], adapter_file: Path, tmp_path: Path, harness) -> None:
    (tmp_path / "held").touch()
    process = started(words, tmp_path)
    wait_for(lambda: len(recorded(tmp_path)) >= 1)
    code, _, err = harness(*words)
    (tmp_path / "held").unlink()
    assert (code, err.count("\n")) == (2, 1)
    assert "another harness process works in this run folder" in err
    assert process.wait(timeout=PATIENCE_S) == 0
    assert len(set(recorded(tmp_path))) == len(recorded(tmp_path)) == 8
    assert os.path.exists(tmp_path / "out/results.json")
