"""What tokens cost: a dated table, the user's own numbers, or unknown."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import Field

from harness.types import Usage, UserError
from harness.yaml_file import Settings, Text, Texts, read_yaml

TABLE = Path(__file__).with_name("endpoint_prices.yaml")
UNKNOWN_IMAGE_TOKENS = 3000
"""Assumed to be the most that an image takes if no table says it."""
BYTES_PER_TOKEN = 2
"""Fewer than English text has per token, so that counts by it are too high rather than too low."""
OVERHEAD_TOKENS = 100
"""For roles, separators and the JSON schema."""
SNAPSHOT = re.compile(r"-(?:\d{4}-?\d{2}-?\d{2}|latest)$")


class ListedPrice(Settings):
    """A model's line in the table: US$ per million tokens, and the most that one image takes."""

    prompt: float = Field(alias="in", ge=0)
    completion: float = Field(alias="out", ge=0)
    cached: float | None = Field(None, ge=0)
    image_tokens: int | None = Field(None, ge=0, le=10_000_000)
    retired: Text | None = None


class Vendor(Settings):
    """The models behind some hosts."""

    hosts: Texts
    batch_factor: float = Field(1.0, ge=0)
    models: dict[str, ListedPrice]


class PriceTable(Settings):
    """A table of prices: of one vendor, or of several; with its date and source."""

    as_of: Text = "no date"
    source: Text = ""
    hosts: Texts = ()
    batch_factor: float = Field(1.0, ge=0)
    models: dict[str, ListedPrice] = Field(default_factory=dict)
    vendors: dict[str, Vendor] = Field(default_factory=dict)

    def vendor_of(self, base_url: str) -> Vendor | None:
        """Who serves an address."""
        own = Vendor(hosts=self.hosts, batch_factor=self.batch_factor, models=self.models)
        host = urlsplit(base_url).hostname
        return next((vendor for vendor in (own, *self.vendors.values()) if host in vendor.hosts), None)


@dataclass(frozen=True)
class Price:
    """Dollars per million tokens, and where they are from.

    Attributes:
        prompt, completion: US$ per million tokens; None if unknown.
        image_tokens: the most that one image takes.
        source: the table's date and address, or `given`.
        cached: US$ per million prompt tokens that the endpoint had in its cache; None: as others.
        retired: the day since when the model is no longer served; None: it is, as far as is known.
    """

    prompt: float | None = None
    completion: float | None = None
    image_tokens: int = UNKNOWN_IMAGE_TOKENS
    source: str | None = None
    cached: float | None = None
    retired: str | None = None

    def cost_usd(self, prompt: int | None, completion: int | None, cached: int | None = None) -> float | None:
        """Dollars for so many tokens, or None if a price or a count is unknown; `cached` is a part of `prompt`."""
        if self.prompt is None or self.completion is None or prompt is None or completion is None:
            return None
        cheap = min(cached or 0, prompt) if self.cached is not None else 0
        return ((prompt - cheap) * self.prompt + cheap * (self.cached or 0.0) + completion * self.completion) / 1e6

    def prompt_tokens(self, text: str, images: int = 1) -> int:
        """The most tokens that a prompt with images is expected to take."""
        return len(text.encode()) // BYTES_PER_TOKEN + OVERHEAD_TOKENS + images * self.image_tokens

    def max_usage(self, text: str, max_tokens: int, images: int = 1) -> Usage:
        """The most that a request is expected to take."""
        prompt = self.prompt_tokens(text, images)
        cost = self.cost_usd(prompt, max_tokens)
        return Usage(prompt_tokens=prompt, completion_tokens=max_tokens, cost_usd=cost)


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
    found = _table(Path(table) if table else TABLE)
    vendor = found.vendor_of(base_url)
    listed = (vendor.models.get(model) or vendor.models.get(SNAPSHOT.sub("", model))) if vendor else None
    image_tokens = UNKNOWN_IMAGE_TOKENS if listed is None or listed.image_tokens is None else listed.image_tokens
    if price_in is not None and price_out is not None:
        if min(price_in, price_out) < 0:
            raise UserError("price_in and price_out: expected US$ per million tokens, at least 0")
        return Price(price_in, price_out, image_tokens, "given")
    if vendor is None or listed is None:
        return Price()
    factor = vendor.batch_factor if batch else 1.0
    cached = None if listed.cached is None else factor * listed.cached
    source = f"{found.source or Path(table or TABLE).name}, {found.as_of}"
    prices = factor * listed.prompt, factor * listed.completion
    return Price(*prices, image_tokens, source, cached, listed.retired)


@lru_cache(maxsize=4)
def _table(path: Path) -> PriceTable:
    table = read_yaml(path, PriceTable)
    if not table.vendors and not (table.hosts and table.models):
        raise UserError(f"{path}: required keys 'hosts' and 'models' are missing; see the table of prices at {TABLE}")
    return table
