"""What a benchmark says about where it ran, and medians of runs that take turns."""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from harness.atomic import write_atomically

RESULTS = Path(__file__).with_name("results")


def machine() -> dict[str, Any]:
    """Processor, threads, load and versions; no host names or paths."""
    import torch  # not with this module: benchmarks of memory import it too

    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
    return {
        "processor": model,
        "cores": os.cpu_count(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "torch_threads": torch.get_num_threads(),
        "load_average_1m": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "torch": version("torch"),
        "transformers": version("transformers"),
    }


def take_turns(runs: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Wall seconds of each run in each round; the runs alternate, so that a busy moment hits all of them."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            started = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - started)
    return seconds


def median_ratio(slow: list[float], fast: list[float]) -> float:
    """Median over rounds of how many times faster `fast` is than `slow` in the same round."""
    return statistics.median(a / b for a, b in zip(slow, fast, strict=True))


def write_result(name: str, values: Mapping[str, Any]) -> None:
    """Write `results/NAME.json` and print it."""
    write_values(RESULTS / f"{name}.json", values)


def write_values(path: Path, values: Mapping[str, Any]) -> None:
    """Write a JSON file, whole or not at all, and print it."""
    text = json.dumps(values, indent=2, ensure_ascii=False)
    write_atomically(path, text + "\n")
    print(text)
