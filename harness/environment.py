"""What a run runs in: versions, processor, GPU, git. Manifests note it; it is never part of a run's identity.

Every command loads this module for the version, so what the rest needs is imported there.
"""

from __future__ import annotations

import os
import sys
from functools import cache
from typing import Any

__version__ = "0.1.0"

HERE = os.path.realpath(__file__)
_COMMIT = "# branch.oid "
PACKAGES = ("sevlm-harness", "torch", "transformers", "openai", "numpy", "pycocoevalcap", "pillow", "scikit-learn")


def describe_environment() -> dict[str, Any]:
    """Versions, processor, GPU, and git commits: of the working folder, and of the harness if it is a clone."""
    import platform

    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: v for name in PACKAGES if (v := package_version(name))},
        "cpu": {"cores": os.cpu_count(), "model": _cpu_model()},
        "gpu": gpu_name(),
        "git": _git_state(os.getcwd()),
        "harness_git": _own_git_state(),
    }


@cache
def package_version(name: str) -> str | None:
    """The installed version of a distribution, or None."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(name)
    except PackageNotFoundError:
        return None


def gpu_name() -> str | None:
    """The first CUDA device's name, if torch is loaded and sees one."""
    torch = sys.modules.get("torch")
    return str(torch.cuda.get_device_name(0)) if torch is not None and torch.cuda.is_available() else None


def peak_gpu_memory_gb() -> float | None:
    """Highest memory torch had allocated on the GPU since the last reset, in GB (10^9 bytes); None without a GPU."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return None
    return float(torch.cuda.max_memory_allocated()) / 1e9


def reset_peak_gpu_memory() -> None:
    """Start a new measurement for `peak_gpu_memory_gb`."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()


@cache
def _cpu_model() -> str | None:
    import platform

    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return next((line.partition(":")[2].strip() for line in file if line.startswith("model name")), None)
    except OSError:
        return platform.processor() or None


def _git_state(folder: str) -> dict[str, Any] | None:
    """A folder's commit, and whether something is not in it; None outside of a clone."""
    lines = (_git(folder, "status", "--porcelain=v2", "--branch") or "").splitlines()
    commits = [line.removeprefix(_COMMIT) for line in lines if line.startswith(_COMMIT)]
    changed = any(not line.startswith("#") for line in lines)
    return {"commit": commits[0], "dirty": changed} if commits and commits[0] != "(initial)" else None


@cache
def _own_git_state() -> dict[str, Any] | None:
    """Of the harness, as it was when it was loaded; None if it is no clone."""
    folder, file = os.path.split(HERE)
    is_tracked = _git(folder, "ls-files", "--", file)  # else the package is installed inside of somebody's repository
    return _git_state(folder) if is_tracked else None


def _git(folder: str, *arguments: str) -> str | None:
    import subprocess

    try:
        done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
