"""Downloads from a loopback server: checked, complete or not there at all."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from harness.check.fetch import GLASGOW, Download, fetch
from harness.cli import main
from harness.types import UserError

CONTENT = b"Words,AROU\nsea,5\n" * 5000
DATA = Path(os.environ.get("HARNESS_DEV_DATA", Path(__file__).parents[3] / "shared" / "data"))


class Handler(BaseHTTPRequestHandler):
    files: dict[str, bytes] = {}  # noqa: RUF012

    def do_GET(self) -> None:
        content = self.files.get(self.path)
        self.send_response(200 if content is not None else 404)
        self.end_headers()
        self.wfile.write(content or b"")

    def log_message(self, *_: object) -> None: ...


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.fixture
def source(address: str) -> Download:
    Handler.files = {"/norms.csv": CONTENT, "/other.csv": CONTENT + b"x", "/endless.csv": CONTENT * 50}
    digest = hashlib.sha256(CONTENT).hexdigest()
    return dataclasses.replace(GLASGOW, url=f"{address}/norms.csv", sha256=digest, size=len(CONTENT))


def test_the_file_is_written_below_the_data_root(source: Download, tmp_path: Path) -> None:
    path = fetch(source, tmp_path)
    assert path == tmp_path / "lexicons" / "glasgow.csv"
    assert path.read_bytes() == CONTENT
    Handler.files = {}
    assert fetch(source, tmp_path) == path  # what is there is not fetched again


@pytest.mark.parametrize("name", ["other.csv", "endless.csv"])
def test_another_file_is_refused_and_not_kept(source: Download, address: str, name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="gave another file"):
        fetch(source, tmp_path, f"{address}/{name}")
    assert list((tmp_path / "lexicons").iterdir()) == []


@pytest.mark.parametrize(
    ("url", "told"), [("{}/absent.csv", "cannot be downloaded"), ("file:///etc/passwd", "begins with https")]
)
def test_what_cannot_be_had_is_told(source: Download, address: str, url: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=told):
        fetch(source, tmp_path, url.format(address))


@pytest.mark.data
def test_the_command_fetches_the_norms(
    source: Download, address: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    real = next(iter((DATA / "glasgow_norms").glob("*.csv")), None)
    if real is None:
        pytest.skip("no development data: set HARNESS_DEV_DATA")
    Handler.files = {"/glasgow.csv": real.read_bytes()}
    command = ["data", "fetch", "glasgow", "--url", f"{address}/glasgow.csv", "--data-root", str(tmp_path)]
    assert main(command) == 0
    told = capsys.readouterr().out
    assert "CC BY 4.0" in told
    assert "glasgow, 4,6" in told
    assert f"--lexicon {tmp_path / 'lexicons' / 'glasgow.csv'}" in told


def test_a_lexicon_on_request_is_explained_and_checked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "fetch", "nrc-vad"]) == 0
    assert "saifmohammad.com" in capsys.readouterr().out
    own = tmp_path / "NRC.txt"
    own.write_text("Word\tValence\tArousal\tDominance\nsea\t0.6\t0.4\t0.5\n", encoding="utf-8")
    assert main(["data", "fetch", "nrc-vad", "--file", str(own)]) == 0
    assert "nrc-vad-0-1, 1 words" in capsys.readouterr().out
    assert main(["data", "fetch", "nrc-vad", "--file", str(tmp_path / "absent")]) == 2
    assert main(["data", "fetch", "emolex"]) == 2
    assert "glasgow, nrc-vad" in capsys.readouterr().err
