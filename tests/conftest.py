"""What every room's tests share: no network but loopback, no user configuration, paths of optional data."""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path

import hypothesis
import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
LOOPBACK = {"127.0.0.1", "::1", "localhost", ""}

os.environ["HF_HUB_OFFLINE"] = "1"  # read by transformers when a test module imports it, before any fixture runs
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # a worker per core: torch need not start more threads

SLOW_FIXTURES = {
    "chromium",
    "cluster",
    "context_for",
    "endpoint",
    "endpoint_words",
    "meteor_process",
    "server",
    "taught",
    "trained_sevlm",
}
"""Whatever uses one of these starts a browser, a cluster, Java, a server, or trains."""
SLOW_FILE = re.compile(r"^pytestmark = pytest\.mark\.(slow|browser|data)$", re.MULTILINE)


# A busy machine is no finding, so there is no deadline (pytest's time-out is one). The suite's verdict on a tree is the
# same each time; `make fuzz` searches with new examples, and `make quick` is content with a quarter of them.
hypothesis.settings.register_profile("repeatable", deadline=None, derandomize=True, database=None)
hypothesis.settings.register_profile("search", deadline=None, derandomize=False)
hypothesis.settings.register_profile("quick", parent=hypothesis.settings.get_profile("repeatable"), max_examples=25)
hypothesis.settings.load_profile("repeatable")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Do not even import a file that is slow as a whole, if slow tests are left out: what it imports takes seconds."""
    if config.option.markexpr == "not slow" and collection_path.match("test_*.py"):
        return SLOW_FILE.search(collection_path.read_text(encoding="utf-8")) is not None or None
    return None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is slow, and begin with the files that hold some: the last file should not be the longest."""
    for item in items:
        others = item.get_closest_marker("browser") or item.get_closest_marker("data")
        if others or SLOW_FIXTURES & set(getattr(item, "fixturenames", ())):
            item.add_marker("slow")
    files = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in files)


@pytest.fixture(scope="session", autouse=True)
def offline(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Block every connection that leaves this machine, and keep the user's own data root out."""
    os.environ["HARNESS_DATA"] = str(tmp_path_factory.mktemp("data-root"))
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: object) -> None:
        host = address[0] if isinstance(address, tuple) else ""
        if self.family in (socket.AF_INET, socket.AF_INET6) and host not in LOOPBACK:
            raise OSError(f"tests may not reach {host}")
        connect(self, address)  # type: ignore[arg-type]

    socket.socket.connect = guarded  # type: ignore[method-assign, assignment]


@pytest.fixture(scope="session")
def development_data() -> Path:
    """Folder of real datasets that are not part of the project; tests that use it skip where it is absent."""
    folder = Path(os.environ.get("HARNESS_DEV_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no development data at {folder} (set HARNESS_DEV_DATA)")
    return folder
