"""The documentation as a site: the README is its first page, and links into the source tree become plain names."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).resolve().parents[1]
_INTO_SOURCE = re.compile(r"\[([^\]]+)\]\(\.\./[^)]*\)")
_SHIM = re.compile(r"https://unpkg\.com/iframe-worker/shim")
_FILE = re.compile(r"\[([^\]]+)\]\((?!https?:|#|docs/)[^)]*\)")


def on_files(files: Any, config: Any) -> Any:
    """Add the README as `index.md`."""
    from mkdocs.structure.files import File

    text = (_ROOT / "README.md").read_text(encoding="utf-8")
    text = _FILE.sub(r"\1", text).replace("](docs/", "](")
    files.append(File.generated(config, "index.md", content=text))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Links out of `docs/` have no page on the site: what they name stays."""
    return _INTO_SOURCE.sub(r"\1", markdown)


def on_post_page(output: str, **_: Any) -> str:
    """Search from disk needs a stand-in for workers: ours, not one from the network."""
    return _SHIM.sub("javascripts/local-worker.js", output)
