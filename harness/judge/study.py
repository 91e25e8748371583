"""A rating study: which explanations people compare or rate, and the page they do it on.

    harness rate RUN --out page.html [--pairs N | --items N] [--raters N]

The page is one file that opens from disk. It holds images, labels and explanations, never a model's name: what stands
behind an item is kept in `RUN/ratings/<study>.json`, so that a downloaded answer means nothing to its rater.
"""

from __future__ import annotations

import base64
import hashlib
import html
import io
import json
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

from harness.atomic import write_atomically
from harness.images import open_image
from harness.store.run_folder import RunFolder, to_json
from harness.types import Answer, ImageError, UserError

PAGE = Path(__file__).with_name("page.html")
STYLE, SCRIPT = PAGE.with_suffix(".css"), PAGE.with_suffix(".js")
LONGEST_SIDE = 720
"""Pixels of an image on the page."""
REPEATED = 0.1
"""Share of a rater's items that come twice, pairs with their sides exchanged: the attention checks."""
SHARED = 0.25
"""Share of the items that every rater gets if there are several, so that their agreement can be measured."""
MAX_ITEMS = 2000

Kind = Literal["pairs", "items"]


@dataclass(frozen=True, slots=True)
class Unit:
    """One thing to judge.

    Attributes:
        item: its name on the page, which says nothing about what stands behind it.
        task, example: whose image is shown.
        left, right: rows of the run whose explanations stand there; `right` is None if one explanation is rated.
        repeats: the item that this one shows again, sides exchanged; None for a first showing.
    """

    item: str
    task: str
    example: str
    left: str
    right: str | None
    repeats: str | None = None


@dataclass(frozen=True, slots=True)
class Study:
    """What a run's raters are asked.

    Attributes:
        name: 12 hex digits over everything below.
        kind: `pairs` (which explanation is better) or `items` (each criterion from 1 to 5).
        criteria: key -> question; one for pairs.
        raters: the units of each rater, in the order they are shown.
    """

    name: str
    kind: Kind
    criteria: Mapping[str, str]
    raters: tuple[tuple[Unit, ...], ...]

    def units(self) -> dict[str, Unit]:
        """Every unit by its item name."""
        return {unit.item: unit for units in self.raters for unit in units}


_Candidate = tuple[str, str, str, str | None]
"""Task, example, row, other row."""


def plan_study(
    run: RunFolder, kind: Kind, count: int, *, criteria: Mapping[str, str], raters: int = 1, seed: int = 0
) -> Study:
    """Draw `count` units for each rater from the answered examples of a run, models in balance.

    Raises:
        UserError: too few answers, or more units than a page can hold.
    """
    if not 1 <= count <= MAX_ITEMS or not 1 <= raters <= 100:
        raise UserError(f"expected 1 to {MAX_ITEMS} items a rater and 1 to 100 raters, got {count} and {raters}")
    draw = random.Random(f"{seed} {kind}")
    candidates: list[_Candidate] = []
    for task, rows in explanations(run):
        if kind == "items":
            candidates += [(task, i, row, None) for row in rows for i in sorted(rows[row])]
            continue
        for a, b in combinations(rows, 2):
            both = sorted(rows[a].keys() & rows[b].keys())
            candidates += [(task, i, a, b) for i in both if rows[a][i].explanation != rows[b][i].explanation]
    if not candidates:
        what = "two models that answered the same example differently" if kind == "pairs" else "an explanation"
        raise UserError(f"{run.path}: holds no {what}; run more models first")
    shared = round(count * SHARED) if raters > 1 else 0
    pool = _balanced(candidates, shared + raters * (count - shared), draw)
    common, own = pool[:shared], pool[shared:]
    each = -(-len(own) // raters)  # neighbors differ in their rows: blocks keep the balance, every third would not
    lists = [common + own[i * each : (i + 1) * each] for i in range(raters)]
    tag = hashlib.sha256(json.dumps([kind, dict(criteria), lists, seed], sort_keys=True).encode()).hexdigest()[:12]
    return Study(tag, kind, dict(criteria), tuple(_order(units, tag, i) for i, units in enumerate(lists)))


def explanations(run: RunFolder) -> Iterable[tuple[str, dict[str, dict[str, Answer]]]]:
    """Task -> row -> example -> its answer, for rows of models as they are (no controls)."""
    for record in run.manifest()["tasks"]:
        task = record["name"]
        answers: dict[str, dict[str, Answer]] = {}
        for row in (row for row in run.rows(task) if row.control is None):
            found = {
                i: o for i, o in run.outcomes(task, row).items() if isinstance(o, Answer) and o.explanation.strip()
            }
            if found:
                answers[row.stem] = found
        yield task, answers


def _balanced(candidates: Sequence[_Candidate], count: int, draw: random.Random) -> list[_Candidate]:
    """`count` candidates, each pair of rows (or row) about equally often; fewer if there are not so many."""
    groups: dict[tuple[str, str, str | None], list[_Candidate]] = {}
    for candidate in candidates:
        groups.setdefault((candidate[0], candidate[2], candidate[3]), []).append(candidate)
    for group in groups.values():
        draw.shuffle(group)
    order = list(groups.values())
    draw.shuffle(order)
    rounds = max(map(len, order))
    return [group[i] for i in range(rounds) for group in order if i < len(group)][:count]


def _order(candidates: Sequence[_Candidate], tag: str, rater: int) -> tuple[Unit, ...]:
    """A rater's units, shuffled, sides drawn, repeats at the end of the list, where the first showing is far."""
    draw = random.Random(f"{tag} {rater}")
    mixed = list(candidates)
    draw.shuffle(mixed)
    units = []
    for task, example, a, b in mixed:
        left, right = (a, b) if b is None or draw.random() < 0.5 else (b, a)
        units.append(Unit(_item(draw), task, example, left, right))
    again = units[: max(1, round(REPEATED * len(units)))] if len(units) >= 5 else []
    repeats = [Unit(_item(draw), u.task, u.example, u.right or u.left, u.right and u.left, u.item) for u in again]
    return (*units, *repeats)


def _item(draw: random.Random) -> str:
    return f"{draw.getrandbits(48):012x}"


# ------------------------------------------------------------------------------------------- key file


def save_study(run: RunFolder, study: Study) -> Path:
    """Keep what stands behind a study's items in `RUN/ratings/<study>.json`."""
    path = run.path / "ratings" / f"{study.name}.json"
    path.parent.mkdir(exist_ok=True)
    lists = [[asdict(unit) for unit in units] for units in study.raters]
    write_atomically(
        path, to_json({"study": study.name, "kind": study.kind, "criteria": dict(study.criteria), "raters": lists})
    )
    return path


def load_studies(run: RunFolder) -> dict[str, Study]:
    """Every study of a run, by name.

    Raises:
        UserError: a key file is not as this program wrote it.
    """
    studies = {}
    for path in sorted((run.path / "ratings").glob("*.json")):
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            lists = tuple(tuple(Unit(**unit) for unit in units) for units in record["raters"])
            studies[record["study"]] = Study(record["study"], record["kind"], record["criteria"], lists)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path}: not a study as harness rate wrote it ({error})") from error
    return studies


# ------------------------------------------------------------------------------------------- the page


def write_pages(
    run: RunFolder, study: Study, out: Path, *, consent: str | None = None, blur: bool = False
) -> list[Path]:
    """Write a page for each rater: `out`, or `out-1.html`, `out-2.html` … if there are several."""
    many = len(study.raters) > 1
    paths = []
    for i, units in enumerate(study.raters, 1):
        path = out.with_name(f"{out.stem}-{i}{out.suffix}") if many else out
        write_atomically(path, render_page(run, study, units, rater=str(i), consent=consent, blur=blur))
        paths.append(path)
    return paths


def render_page(
    run: RunFolder, study: Study, units: Sequence[Unit], *, rater: str, consent: str | None, blur: bool
) -> str:
    """The page of one rater as HTML."""
    answers = dict(explanations(run))
    images = _Images(run)
    shown = []
    for unit in units:
        sides = [answers[unit.task][row][unit.example] for row in (unit.left, unit.right) if row is not None]
        image = images.data_url(unit.task, unit.example)
        texts = [{"label": a.emotion, "text": a.explanation} for a in sides]
        shown.append({"item": unit.item, "image": image, "sides": texts})
    data = {"study": study.name, "rater": rater, "kind": study.kind, "criteria": dict(study.criteria), "blur": blur}
    data |= {"items": shown, "images": images.urls}
    script, style = SCRIPT.read_text(encoding="utf-8"), STYLE.read_text(encoding="utf-8")
    parts = {
        "SCRIPT_HASH": _csp_hash(script),
        "STYLE_HASH": _csp_hash(style),
        "STYLE": style,
        "SCRIPT": script,
        "CONSENT": html.escape(consent) if consent else DEFAULT_CONSENT,
        "DATA": json.dumps(data, ensure_ascii=True).replace("<", "\\u003c"),
    }
    page = PAGE.read_text(encoding="utf-8")
    for name, text in parts.items():
        page = page.replace(f"%%{name}%%", text)
    return page


DEFAULT_CONSENT = (
    "You will see artworks and short texts that say which emotion an artwork evokes, and why. Your answers are kept in "
    "this browser until you download them; nothing is sent anywhere. No name is asked for. You may stop at any time."
)


def _csp_hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


class _Images:
    """The study's images as small JPEG data URLs, each once."""

    def __init__(self, run: RunFolder) -> None:
        self.urls: list[str] = []
        self._run = run
        self._paths: dict[str, dict[str, Path]] = {}
        self._known: dict[tuple[str, str], int] = {}

    def data_url(self, task: str, example: str) -> int | None:
        """Index of an example's image in `urls`; None if it cannot be read."""
        if task not in self._paths:
            self._paths[task] = {e.id: e.image for e in self._run.examples(task) if e.image is not None}
        if (task, example) not in self._known:
            try:
                image = open_image(self._paths[task][example])
            except (ImageError, KeyError):
                return None
            image.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
            buffer = io.BytesIO()
            image.save(buffer, "JPEG", quality=85)
            self._known[task, example] = len(self.urls)
            self.urls.append("data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode())
        return self._known[task, example]


def describe(study: Study) -> dict[str, Any]:
    """What the terminal says of a study."""
    units = study.units().values()
    return {"items": len(units), "repeated": sum(u.repeats is not None for u in units), "raters": len(study.raters)}
