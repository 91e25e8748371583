"""The checks behind `harness doctor` and `harness check-adapter`, each a list of findings."""

from typing import NamedTuple


class Finding(NamedTuple):
    """One line: whether something is as it should be, and what."""

    ok: bool
    text: str
