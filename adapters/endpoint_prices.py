"""What tokens cost: a dated table, the user's own numbers, or unknown."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from harness.suggestions import nearest
from harness.types import UserError
from harness.yaml_file import YamlFile

if TYPE_CHECKING:
    import yaml

TABLE_KEYS = ("as_of", "source", "hosts", "batch_factor", "models")
PRICE_KEYS = ("in", "out", "image_tokens")
TABLE = Path(__file__).with_name("endpoint_prices.yaml")
UNKNOWN_IMAGE_TOKENS = 3000
"""Assumed to be the most that a picture takes where no table says it."""
BYTES_PER_TOKEN = 2
"""Fewer than English text has per token, so that counts by it are too high rather than too low."""
OVERHEAD_TOKENS = 100
"""For roles, separators and the JSON schema."""
SNAPSHOT = re.compile(r"-\d{4}-?\d{2}-?\d{2}$")


@dataclass(frozen=True)
class Price:
    """Dollars per million tokens, and where they are from.

    Attributes:
        prompt, completion: US$ per million tokens; None where unknown.
        image_tokens: the most that one picture takes.
        source: the table's date and address, or `given`.
    """

    prompt: float | None = None
    completion: float | None = None
    image_tokens: int = UNKNOWN_IMAGE_TOKENS
    source: str | None = None

    def cost_usd(self, prompt_tokens: int | None, completion_tokens: int | None) -> float | None:
        """Dollars for so many tokens, or None where a price or a count is unknown."""
        if self.prompt is None or self.completion is None or prompt_tokens is None or completion_tokens is None:
            return None
        return (prompt_tokens * self.prompt + completion_tokens * self.completion) / 1e6

    def prompt_tokens(self, text: str, pictures: int = 1) -> int:
        """The most tokens that a prompt with pictures is expected to take."""
        return len(text.encode()) // BYTES_PER_TOKEN + OVERHEAD_TOKENS + pictures * self.image_tokens


def find_price(
    model: str,
    base_url: str,
    price_in: float | None = None,
    price_out: float | None = None,
    table: str | None = None,
    *,
    batch: bool = False,
) -> Price:
    """The user's price, else the table's for a model (or a dated snapshot of it) at the table's hosts, else unknown.

    Args:
        price_in, price_out: US$ per million tokens; both or neither.
        table: path of a YAML file of the same form as the one that comes with the package.
        batch: apply the table's factor for the Batch API (not to prices given by the user).

    Raises:
        UserError: only one of the two prices, a negative one, or an unreadable table.
    """
    if (price_in is None) != (price_out is None):
        raise UserError("price_in and price_out (US$ per million tokens) go together: give both")
    listed = _listed(model, base_url, _table(Path(table) if table else TABLE))
    image_tokens = int(listed.get("image_tokens", UNKNOWN_IMAGE_TOKENS))
    if price_in is not None and price_out is not None:
        if min(price_in, price_out) < 0:
            raise UserError("price_in and price_out: expected US$ per million tokens, at least 0")
        return Price(price_in, price_out, image_tokens, "given")
    if not listed:
        return Price()
    factor = float(listed["batch_factor"]) if batch else 1.0
    return Price(factor * listed["in"], factor * listed["out"], image_tokens, str(listed["source"]))


def _listed(model: str, base_url: str, table: dict[str, Any]) -> dict[str, Any]:
    if urlsplit(base_url).hostname not in table["hosts"]:
        return {}
    found = table["models"].get(model) or table["models"].get(SNAPSHOT.sub("", model))
    if not found:
        return {}
    return {**found, "batch_factor": table["batch_factor"], "source": f"{table['source']}, {table['as_of']}"}


@lru_cache(maxsize=4)
def _table(path: Path) -> dict[str, Any]:
    document = YamlFile(path)
    table: dict[str, Any] = {"batch_factor": 1.0, "source": path.name, "as_of": "no date"}
    for key, key_node, node in document.mapping(document.root):
        if key not in TABLE_KEYS:
            raise document.error(key_node, f"unknown key {key!r}; {nearest(key, TABLE_KEYS)}")
        table[key] = _entry(document, key, node)
    for key in ("hosts", "models"):
        if key not in table:
            raise document.error(
                document.root, f"required key {key!r} is missing; see the table that comes along: {TABLE}"
            )
    return table


def _entry(document: YamlFile, key: str, node: yaml.Node) -> Any:
    if key == "hosts":
        return [str(host) for host in document.plain(node)]
    if key == "models":
        return {model: _numbers(document, entry) for model, _, entry in document.mapping(node)}
    return _number(document, node) if key == "batch_factor" else str(document.plain(node))


def _numbers(document: YamlFile, node: yaml.Node) -> dict[str, float]:
    found = {}
    for key, key_node, value in document.mapping(node):
        if key not in PRICE_KEYS:
            raise document.error(key_node, f"unknown key {key!r} of a price; {nearest(key, PRICE_KEYS)}")
        found[key] = _number(document, value)
    for key in ("in", "out"):
        if key not in found:
            raise document.error(node, f"a price needs {key!r}, US$ per million tokens")
    return found


def _number(document: YamlFile, node: yaml.Node) -> float:
    value = document.plain(node)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
        raise document.error(node, f"expected a price or factor of at least 0, got {value!r}")
    return value
