"""The map in docs/design.md leads somewhere: each file on it exists and defines its name, no journey exceeds eight hops."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
MAP = (REPOSITORY / "docs" / "design.md").read_text(encoding="utf-8")
JOURNEYS = re.split(r"^\*\*(.+?)\*\*.*$", MAP.partition("## Six journeys")[2].partition("\n## ")[0], flags=re.M)[1:]


def test_the_six_journeys_are_short() -> None:
    hops = {
        title: re.findall(r"^\d+\. ", text, re.M) for title, text in zip(JOURNEYS[::2], JOURNEYS[1::2], strict=True)
    }
    assert len(hops) == 6
    assert all(0 < len(found) <= 8 for found in hops.values()), hops


@pytest.mark.parametrize(("path", "name"), re.findall(r"`([\w/]+/[\w.]+)` `([\w.]+)`", MAP))
def test_each_step_is_defined_there(path: str, name: str) -> None:
    text = (REPOSITORY / path).read_text(encoding="utf-8")
    own = name.rpartition(".")[2]
    assert re.search(rf"^\s*(?:async def|def|class|function) {own}\b|^{own}\s*[:=]", text, re.M), (path, name)


@pytest.mark.parametrize(
    "path", sorted(set(re.findall(r"`((?:adapters|harness|reports|scripts|sevlm|tasks|tests)/[\w/.]*)`", MAP)))
)
def test_each_file_exists(path: str) -> None:
    assert (REPOSITORY / path).exists()


@pytest.mark.parametrize(
    ("folder", "names"), re.findall(r"^\| `(judge|check|infer|score|store|plan)/` \| (.*) \|$", MAP, re.M)
)
def test_the_table_names_each_file_of_a_folder(folder: str, names: str) -> None:
    files = {path.name for path in (REPOSITORY / "harness" / folder).glob("*.py")} - {"__init__.py"}
    assert set(re.findall(r"`(\w+\.py)`", names)) == files
