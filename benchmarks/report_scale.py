"""What a report costs as runs grow: build time, peak memory, bytes, and how soon Chromium lets a reader work with it.

    python benchmarks/report_scale.py [--sizes 1000,10000,80000] [--out benchmarks/results/report_scale.json]
        [--beside CHECKOUT]

With `--beside`, another version of the harness renders the same run, and both pages are opened in turns.

The runs are made up: paintings with five annotations each, five models with probabilities, twenty tiny pictures shared
by all. Each build is a process of its own, so that its peak memory is its own. Needs Debian's Chromium and playwright.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image

from harness.reports.build import build_report
from harness.score.predictions import EmotionPrediction, write_predictions
from harness.store.outcomes import outcome_to_json
from harness.store.run_folder import RowKey, RunFolder
from harness.types import Annotation, Answer, Example, Usage, histogram

EMOTIONS = ("amusement", "awe", "contentment", "excitement", "anger", "disgust", "fear", "sadness", "something else")
MODELS = ("one", "two", "three", "four", "five")
VOCABULARY = """
    the a of and this sea light dark quiet figure storm woman field colours sad joyful lonely warm cold stands before
    reminds me makes feel calm uneasy sky river face shadow bright gold heavy gentle lost great terrible lovely
"""
WORDS = VOCABULARY.split()
STYLES = tuple(f"Style {i}" for i in range(27))
PICTURES, ANNOTATORS = 20, 5
TURNS = 11
COMPARED = ("build_s", "build_cpu_s", "first_paint_ms", "interactive_ms", "bytes_page")
HERE = Path(__file__).resolve().parents[1]
CHROMIUM_ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--enable-precise-memory-info",
]


def sentence(draw: random.Random) -> str:
    """About fifteen words, as people wrote for ArtEmis."""
    return " ".join(draw.choices(WORDS, k=draw.randrange(9, 22)))


def paintings(count: int, folder: Path) -> Iterator[Example]:
    """Made-up paintings over shared pictures."""
    draw = random.Random(0)
    folder.mkdir(parents=True)
    pictures = [folder / f"{i}.jpg" for i in range(PICTURES)]
    for i, path in enumerate(pictures):
        Image.new("RGB", (24, 16), (12 * i, 90, 160)).save(path, "JPEG")
    for number in range(count):
        annotations = tuple(
            Annotation(draw.choices(EMOTIONS, range(9, 0, -1))[0], sentence(draw)) for _ in range(ANNOTATORS)
        )
        meta = {"title": f"Painting {number}", "artist": f"Artist {number % 750}", "style": draw.choice(STYLES)}
        identity = f"{meta['style']}/painting-{number}".replace(" ", "_")
        picture = pictures[number % PICTURES]
        yield Example(identity, picture, annotations, histogram(annotations), meta=meta)


def answers(examples: list[Example], seed: int) -> Iterator[tuple[str, Answer]]:
    """One model's answers, right in about half of the cases."""
    draw = random.Random(seed)
    for example in examples:
        emotion = example.annotations[0].emotion if draw.random() < 0.5 else draw.choice(EMOTIONS)
        sure = draw.uniform(0.3, 0.9)
        probabilities = {label: sure if label == emotion else (1 - sure) / 8 for label in EMOTIONS}
        text = sentence(draw)
        raw = f"{emotion} because {text}"
        yield example.id, Answer(emotion, text, probabilities, raw, Usage(latency_s=round(draw.random(), 3)))


def write_run(path: Path, count: int) -> RunFolder:
    """A scored run folder; the few scores are made up, since the tables do not grow with the paintings."""
    run = RunFolder(path)
    run.save_manifest(
        {
            "schema": 1,
            "tasks": [{"name": "scale", "version": "1", "emotions": EMOTIONS, "split": "test", "slices": ["style"]}],
            "models": [{"model": name, "adapter": name} for name in MODELS],
            "runs": [],
        }
    )
    examples = list(paintings(count, path.with_name(f"{path.name}-pictures")))
    run.save_examples("scale", examples)
    place = {"task": "scale", "split": "test", "control": None, "metric": "accuracy", "references": "all", "n": count}
    cells = [place | {"model": name, "value": 0.4 + i / 50} for i, name in enumerate(MODELS)]
    for seed, name in enumerate(MODELS):
        log = run.outcomes_path("scale", RowKey(name))
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(outcome_to_json(*answer)) + "\n" for answer in answers(examples, seed))
        read = {id_: EmotionPrediction(said.emotion, seed % 2 == 0) for id_, said in answers(examples, seed)}
        write_predictions(run.path, "scale", RowKey(name), read)
    coverage = [
        {
            "task": "scale",
            "model": name,
            "control": None,
            "examples": count,
            "answered": count,
            "refused": 0,
            "unparsed": 0,
            "failed": 0,
        }
        for name in MODELS
    ]
    empty: dict[str, Any] = {"manifest": {}, "models": [], "confusion": [], "comparisons": []}
    run.save_results({"schema": 1, "cells": cells, "coverage": coverage, **empty})
    return run


def built(run: Path, out: Path, checkout: Path) -> dict[str, Any]:
    """Build a report in a process of its own, by the harness of a checkout."""
    command = [sys.executable, "benchmarks/report_scale.py", "--build", str(run), str(out)]
    environment = os.environ | {"PYTHONPATH": str(checkout)}
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=checkout, env=environment)
    files = [path for path in out.rglob("*") if path.is_file()]
    index = out / "data" / "scale-index.js"
    found: dict[str, Any] = json.loads(done.stdout)
    return found | {
        "files": len(files),
        "bytes": sum(path.stat().st_size for path in files),
        "bytes_page": (out / "index.html").stat().st_size,
        "bytes_index": index.stat().st_size,
    }


def build(run: Path, out: Path) -> dict[str, float]:
    """Seconds (by the clock and of the processors) and peak memory (MiB) of one build, in this process."""
    idle = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started, busy = time.perf_counter(), time.process_time()
    build_report([RunFolder(run)], out)
    seconds, busy = time.perf_counter() - started, time.process_time() - busy
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    times = {"build_s": round(seconds, 2), "build_cpu_s": round(busy, 2)}
    return times | {"peak_mib": round(peak / 1024, 1), "idle_mib": round(idle / 1024, 1)}


def opened(out: Path, count: int) -> dict[str, Any]:
    """What a reader waits for, in milliseconds since the navigation began."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=CHROMIUM_ARGUMENTS)
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        found: dict[str, Any] = shown(page, out)
        found["filter_ms"] = filtered(page)
        found["heap_mib"] = round(page.evaluate("performance.memory.usedJSHeapSize") / 2**20, 1)
        page.click("[data-reset]")
        found["last_page_ms"] = jumped(page, count)
        found["search_ms"] = searched(page)
        found["longest_frame_ms"] = scrolled(page)
        browser.close()
    return found


def in_turns(reports: list[Path]) -> list[dict[str, float]]:
    """First paint and a page that answers, median of as many openings, every other turn in the other order."""
    from playwright.sync_api import sync_playwright

    found: list[list[dict[str, float]]] = [[] for _ in reports]
    with sync_playwright() as playwright:
        for turn in range(TURNS):
            for number in list(range(len(reports)))[:: 1 if turn % 2 else -1]:
                browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=CHROMIUM_ARGUMENTS)
                page = browser.new_page(viewport={"width": 1280, "height": 900})
                found[number].append(shown(page, reports[number]))
                browser.close()
    return [{name: statistics.median(one[name] for one in waits) for name in waits[0]} for waits in found]


def shown(page: Any, out: Path) -> dict[str, float]:
    """Milliseconds from the navigation to the first paint, and to the first sample."""
    page.goto((out / "index.html").as_uri())
    page.wait_for_selector("article.sample")
    found = {"interactive_ms": round(page.evaluate("performance.now()"))}
    paint = "performance.getEntriesByName('first-contentful-paint')[0].startTime"
    return found | {"first_paint_ms": round(page.evaluate(paint))}


def filtered(page: Any) -> int:
    """From a choice in a filter to the list that shows it."""
    milliseconds: float = page.evaluate(
        """async () => {
          const section = document.querySelector("[data-samples]"), before = section.dataset.count;
          const started = performance.now(), select = section.querySelector("[data-filter=emotion]");
          select.value = "is awe";
          select.dispatchEvent(new Event("change"));
          while (section.dataset.count === before) await new Promise((done) => setTimeout(done));
          return performance.now() - started;
        }"""
    )
    return round(milliseconds)


def jumped(page: Any, count: int) -> int:
    """From asking for the last painting to seeing it."""
    page.wait_for_selector(f"[data-samples][data-count='{count}']")
    started = time.perf_counter()
    page.fill("[data-goto]", str(count))
    page.press("[data-goto]", "Enter")
    page.wait_for_selector(f"[data-where]:text('–{count} of')")
    return round(1000 * (time.perf_counter() - started))


def searched(page: Any) -> int:
    """From words that no painting has to the list that is empty."""
    started = time.perf_counter()
    page.fill("[data-filter=text]", "painting 77 no such")
    page.wait_for_selector("[data-samples][data-count='0']", timeout=300_000)
    page.fill("[data-filter=text]", "")
    return round(1000 * (time.perf_counter() - started))


def scrolled(page: Any) -> float:
    """The longest gap between two frames while the whole page is scrolled through, in milliseconds."""
    milliseconds: float = page.evaluate(
        """() => new Promise((done) => {
          let longest = 0, last = performance.now(), y = 0;
          const step = (now) => {
            longest = Math.max(longest, now - last);
            last = now;
            y += 120;
            scrollTo({ top: y, behavior: "instant" });
            if (y < document.documentElement.scrollHeight) requestAnimationFrame(step); else done(longest);
          };
          requestAnimationFrame(step);
        })"""
    )
    return round(milliseconds, 1)


def main() -> None:
    """Measure every size and write one JSON file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="1000,10000,80000", help="paintings, comma-separated")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "report_scale.json")
    parser.add_argument("--beside", type=Path, metavar="CHECKOUT", help="another version of the harness")
    parser.add_argument("--build", type=Path, nargs=2, metavar=("RUN", "OUT"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.build:
        print(json.dumps(build(*arguments.build)))
        return
    found = []
    for count in map(int, arguments.sizes.split(",")):
        with tempfile.TemporaryDirectory() as folder:
            run = write_run(Path(folder) / "run", count)
            checkouts = [HERE, *([arguments.beside.resolve()] if arguments.beside else [])]
            pages = [Path(folder) / f"report-{number}" for number in range(len(checkouts))]
            costs = [built(run.path, page, checkout) for page, checkout in zip(pages, checkouts, strict=True)]
            record = {"paintings": count, "models": len(MODELS)} | costs[0] | opened(pages[0], count)
            if arguments.beside:
                costs = [cost | waits for cost, waits in zip(costs, in_turns(pages), strict=True)]
                ratios = {name: round(costs[0][name] / costs[1][name], 2) for name in COMPARED}
                record |= {"in_turns": costs, "ratio": ratios}
            print(json.dumps(record), file=sys.stderr)
            found.append(record)
    machine = {"python": platform.python_version(), "cores": os.cpu_count(), "load": os.getloadavg()[0]}
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps({"machine": machine, "sizes": found}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
