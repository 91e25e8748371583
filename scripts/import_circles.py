"""Fails if modules of `harness` and `sevlm` import each other in a circle, and says how many floors the house has.

    python scripts/import_circles.py

Imports inside functions and under `TYPE_CHECKING` count, too. A module stands one floor above the highest that it
imports.
"""

from __future__ import annotations

import sys
from graphlib import CycleError, TopologicalSorter

import grimp

ROOMS = {"harness": ("harness.adapters", "harness.tasks", "harness.reports"), "sevlm": ()}
"""Root -> parts of it that are rooms of their own."""


def main() -> int:
    """Print the floors of each room; exit code 1 if there is a circle."""
    graph = grimp.build_graph(*ROOMS, cache_dir=None)
    imported = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    try:
        order = tuple(TopologicalSorter(imported).static_order())
    except CycleError as error:
        print("import circle: " + " imports ".join(reversed(error.args[1])))
        return 1
    floors: dict[str, int] = {}
    for module in order:
        room = _room(module)
        floors[module] = 1 + max((floors[other] for other in imported[module] if _room(other) == room), default=0)
    for room in dict.fromkeys(map(_room, sorted(floors))):
        inside = [module for module in floors if _room(module) == room]
        print(f"{room}: {len(inside)} modules on {max(floors[module] for module in inside)} floors, no circle")
    return 0


def _room(module: str) -> str:
    root = module.partition(".")[0]
    return next((room for room in ROOMS[root] if f"{module}.".startswith(f"{room}.")), root)


if __name__ == "__main__":
    sys.exit(main())
