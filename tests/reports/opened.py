"""A report that is open in Chromium, with everything that it said or asked for."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ELSEWHERE = re.compile(r"^(?!file:|data:)")


@dataclass
class Opened:
    """A page, its console and its requests; what is asked of any network is refused and noted."""

    page: Any
    folder: Path
    messages: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    network: list[str] = field(default_factory=list)

    @classmethod
    def open(cls, context: Any, folder: Path, fragment: str = "") -> Opened:
        """Open a report's folder from disk and wait for the first painting."""
        opened = cls(context.new_page(), folder)
        opened.page.on("console", lambda message: opened.messages.append(message.text))
        opened.page.on("pageerror", lambda error: opened.messages.append(str(error)))
        opened.page.on("request", lambda request: opened.requests.append(request.url))
        context.route(ELSEWHERE, opened.refuse)
        opened.page.goto((folder / "index.html").as_uri() + fragment)
        opened.page.wait_for_selector("article.sample")
        return opened

    def refuse(self, route: Any) -> None:
        """Note a request to a network."""
        self.network.append(route.request.url)
        route.abort()

    def ids(self) -> list[str]:
        """The paintings in the list."""
        found: list[str] = self.page.eval_on_selector_all("article.sample", "all => all.map(one => one.dataset.id)")
        return found

    def count(self) -> int:
        """How many images match."""
        return int(self.page.get_attribute("[data-samples]", "data-count"))

    def wait_for_focus(self, identity: str) -> None:
        """Wait until a painting has the focus (a page of samples may have to be loaded first)."""
        for _ in range(250):
            if self.focused() == identity:
                return
            self.page.wait_for_timeout(20)
        raise AssertionError(f"the focus is on {self.focused()!r}, not on {identity!r}")

    def focused(self) -> str:
        """The painting that has the focus."""
        return str(self.page.evaluate("document.activeElement.dataset.id"))
