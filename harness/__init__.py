"""Evaluation harness for affective explanation of artworks: `harness.evaluate(...)`, `harness.score(...)`.

`harness.adapters`, `harness.tasks` and `harness.reports` are the top-level folders of these names, reached through
symbolic links: each of their files exists once, under two paths.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from harness.environment import __version__

if TYPE_CHECKING:
    from harness.api import Evaluation, evaluate, score

__all__ = ["Evaluation", "__version__", "evaluate", "score"]


def __getattr__(name: str) -> Any:
    """Load the Python API on first use, so that `import harness.types` stays fast."""
    if name in ("Evaluation", "evaluate", "score"):
        return getattr(import_module("harness.api"), name)
    raise AttributeError(f"module 'harness' has no attribute {name!r}")
