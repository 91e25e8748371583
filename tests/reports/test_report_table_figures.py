"""Every table of the page as a drawing: linked, of the same numbers, readable as XML whatever the texts."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest
from page_tree import Element

from harness.reports.figures import link_tables, read_tables, standalone_tables

SVG = "{http://www.w3.org/2000/svg}"


def drawing(report: Path, name: str) -> ElementTree.Element:
    return ElementTree.fromstring((report / "figures" / f"{name}.svg").read_text(encoding="utf-8"))


def texts(root: ElementTree.Element) -> list[str]:
    return ["".join(text.itertext()) for text in root.iter(f"{SVG}text")]


def test_every_table_links_to_a_drawing_of_its_own(page: Element, report: Path) -> None:
    tables = page.all("table")
    links = [table.one("caption").one("a", css="download").attributes["href"] or "" for table in tables]
    assert len(set(links)) == len(tables) > 10
    for link in links:
        root = ElementTree.fromstring((report / link).read_text(encoding="utf-8"))
        assert root.tag == f"{SVG}svg"
        assert "".join(root.itertext()).count("Helvetica") == 1


def test_the_leaderboard_is_drawn_as_it_is_shown_at_first(page: Element, report: Path) -> None:
    table = page.one("section", id="tiny-leaderboard").all("table")[0]
    drawn = texts(drawing(report, "tiny-leaderboard-table-1"))
    cells = [cell for cell in table.all("td", css="num") if "data-value" in cell.attributes]
    beneath = {line.text for cell in cells if "hidden" not in cell.attributes for line in cell.all("span", css="ci")}
    assert len(beneath) > 20
    assert beneath | {best.text for best in table.all("strong")} <= set(drawn)
    hidden = [th for th in table.all("th") if "hidden" in th.attributes and th.attributes.get("scope") == "colgroup"]
    assert hidden
    assert not {th.text for th in hidden} & set(drawn)
    assert not {"?", "SVG", "Click a heading to sort.", "not available:"} & set(drawn)


def test_a_heatmap_keeps_colours_counts_and_emotions(page: Element, report: Path) -> None:
    table = page.one("section", id="tiny-emotions").all("table")[0]
    root = drawing(report, "tiny-emotions-table-1")
    coloured = [td for td in table.all("td") if (td.attributes.get("class") or "").startswith("num h")]
    assert len(list(root.iter(f"{SVG}rect"))) == len(coloured) + 1  # and the paper
    assert len(list(root.iter(f"{SVG}circle"))) == len(table.all("th", scope="col")) - 1
    counts = [text for text in texts(root) if text.startswith("n ")]
    assert len(counts) == len(table.all("td", css="num"))


@pytest.mark.parametrize(
    "text", ["&lt;b&gt;&amp;amp;", "line\u2028separator\x0b and \x85", "word" * 60, "\x00\x1f\ufffe", ""]
)
def test_any_text_makes_a_whole_drawing(text: str) -> None:
    page = (
        f'<p>{text}</p><section id="s"><table><caption>{text}</caption><tbody><tr><th scope="row">{text}</th>'
        f'<td class="num">1<span class="ci">{text}</span></td></tr></tbody></table></section>'
    )
    linked = link_tables(page, read_tables(page))
    assert linked == page.replace(
        "</caption>", ' <a class="download" href="figures/s-table-1.svg" download>SVG</a></caption>'
    )
    ((name, drawn),) = standalone_tables(read_tables(linked))
    assert (name, list(standalone_tables(read_tables(page)))) == ("s-table-1.svg", [(name, drawn)])
    root = ElementTree.fromstring(drawn)
    assert max(float(line.attrib["x2"]) for line in root.iter(f"{SVG}line")) <= float(root.attrib["width"]) < 700
    assert "1" in texts(root)
