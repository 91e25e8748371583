"""The sample browser in Chromium: filters, search, links, keys, marked words."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import quote

import pytest
from opened import Opened
from run_builder import EMOTIONS

from harness.reports.build import build_report
from harness.reports.samples import whole_text, word_valences
from harness.score.predictions import read_predictions
from harness.store.run_folder import RowKey, RunFolder
from harness.types import Answer, Failed, Refusal, Unparsed

pytestmark = pytest.mark.browser


def test_filters_count_what_the_data_hold(open_page: Callable[..., Opened], run: RunFolder) -> None:
    opened = open_page()
    page = opened.page
    asked = list(run.examples("tiny"))
    said = {name: run.outcomes("tiny", RowKey(name)) for name in ("small", "large", "endpoint")}

    def filtered(name: str, label: str) -> int:
        page.select_option(f"[data-filter={name}]", label=label)
        return opened.count()

    def reset() -> None:
        page.click("[data-reset]")

    assert opened.count() == len(asked)
    for emotion in EMOTIONS[:4]:
        assert filtered("emotion", emotion) == sum(e.dominant_emotion == emotion for e in asked)
    assert filtered("emotion", "no majority emotion") == sum(e.dominant_emotion is None for e in asked)
    reset()
    filtered("row", "endpoint")
    kinds = {"refused": Refusal, "no label found": Unparsed, "failed": Failed}
    for label, kind in kinds.items():
        assert filtered("answer", label) == sum(isinstance(o, kind) for o in said["endpoint"].values())
    assert filtered("answer", "no answer at all") == 4
    right = {e.id for e in asked if getattr(said["endpoint"][e.id], "emotion", None) == e.dominant_emotion}
    judged = {e.id for e in asked if e.dominant_emotion is not None}
    assert filtered("answer", "as most people") == len(right & judged)
    assert filtered("answer", "unlike most people") == len(judged - right)
    reset()
    page.check("[data-filter=disagree]")
    emotions = [{o[e.id].emotion for o in said.values() if isinstance(o[e.id], Answer)} for e in asked]  # type: ignore[union-attr]
    assert opened.count() == sum(len(labels) > 1 for labels in emotions)
    reset()
    page.select_option("[data-filter-slices] select", label="Baroque")
    assert opened.count() == sum(e.meta["style"] == "Baroque" for e in asked)


def test_consistency_is_shown_and_counts_what_was_read(open_page: Callable[..., Opened], run: RunFolder) -> None:
    opened = open_page()
    page = opened.page
    rows = {row.stem: row for row in run.rows("tiny")}
    said = {name: run.outcomes("tiny", row) for name, row in rows.items()}
    read = {name: read_predictions(run.path, "tiny", row) for name, row in rows.items()}
    assert not read["human"]
    for label, wanted in (("speaks of its own label", True), ("speaks of something else", False)):
        page.select_option("[data-filter=consistency]", label=label)
        page.select_option("[data-filter=row]", label="any row")
        assert opened.count() == len(
            {id_ for found in read.values() for id_, one in found.items() if one.consistent == wanted}
        )
        for name in ("small", "large", "endpoint"):
            page.select_option("[data-filter=row]", label=name)
            assert opened.count() == sum(one.consistent == wanted for one in read[name].values())
        page.select_option("[data-filter=answer]", label="the label awe")
        both = [id_ for id_, one in read["endpoint"].items() if one.consistent == wanted]
        assert opened.count() == sum(said["endpoint"][id_].emotion == "awe" for id_ in both)  # type: ignore[union-attr]
        page.select_option("[data-filter=answer]", label="anything")
    page.click("[data-reset]")
    shown = page.eval_on_selector_all(
        "article.sample >> nth=0 >> .answer .read", "all => all.map(one => one.textContent)"
    )
    first = next(iter(run.examples("tiny"))).id
    expected = {True: " = label", False: " ≠ label"}
    assert shown == [
        f"text reads as {one.explanation_emotion}{expected[one.consistent]}"
        if one.explanation_emotion
        else "no explanation"
        for one in (read[name][first] for name in ("small", "large", "endpoint", "small@blank"))
    ]


def test_without_readings_there_is_no_such_filter(
    open_page: Callable[..., Opened], run: RunFolder, tmp_path_factory: pytest.TempPathFactory
) -> None:
    import shutil

    folder = tmp_path_factory.mktemp("unread")
    shutil.copytree(run.path, folder / "run", ignore=shutil.ignore_patterns("scores", "report"))
    opened = open_page(folder=build_report([RunFolder.open(folder / "run")], folder / "report").parent)
    assert not opened.page.is_visible("[data-filter=consistency]")
    assert not opened.page.query_selector(".answer .read")
    assert opened.messages == []


def test_text_search_reads_every_text(open_page: Callable[..., Opened], run: RunFolder) -> None:
    opened = open_page()
    opened.page.fill("[data-filter=text]", "LIGHT 7")
    opened.page.wait_for_selector("[data-samples][data-count='1']")
    assert opened.ids() == ["painting 7"]
    opened.page.fill("[data-filter=text]", "no such words anywhere")
    opened.page.wait_for_selector("[data-samples][data-count='0']")
    assert opened.page.inner_text("[data-status]") == "0 of 12 images match"


def test_pages_turn_by_button_and_keyboard(open_page: Callable[..., Opened], run: RunFolder) -> None:
    opened = open_page()
    ids = [whole_text(e.id) for e in run.examples("tiny")]
    assert opened.ids() == ids[:10]
    opened.page.click("[data-next]")
    assert opened.ids() == ids[10:]
    assert opened.page.is_disabled("[data-next]")
    opened.page.keyboard.press("ArrowLeft")
    assert opened.ids() == ids[:10]


@pytest.mark.parametrize("with_task", [True, False])
@pytest.mark.parametrize("position", [0, 3, 9, 11])
def test_deep_links_open_their_painting(
    open_page: Callable[..., Opened], run: RunFolder, position: int, with_task: bool
) -> None:
    identity = whole_text(list(run.examples("tiny"))[position].id)
    task = "tiny/" if with_task else ""
    opened = open_page(fragment=f"#sample={task}{quote(identity, safe='')}")
    opened.page.wait_for_selector("article.chosen")
    assert opened.page.eval_on_selector("article.chosen", "one => one.dataset.id") == identity
    assert opened.page.evaluate("document.activeElement.dataset.id") == identity


def test_every_own_link_leads_back(open_page: Callable[..., Opened]) -> None:
    opened = open_page()
    links = opened.page.eval_on_selector_all(
        "article.sample .meta a", "all => all.map(one => one.getAttribute('href'))"
    )
    chosen = "document.querySelector('.chosen')?.dataset.id"
    for link, identity in zip(links, opened.ids(), strict=True):
        opened.page.evaluate(
            "link => new Promise((done) => { addEventListener('hashchange', () => setTimeout(done)); location.hash = link; })",
            link,
        )
        assert opened.page.evaluate(chosen) == identity


def test_a_choice_stands_in_the_address_and_comes_back(open_page: Callable[..., Opened], run: RunFolder) -> None:
    opened = open_page()
    page = opened.page
    page.select_option("[data-filter=emotion]", label="awe")
    page.select_option("[data-filter=row]", label="endpoint")
    page.select_option("[data-filter=answer]", label="unlike most people")
    page.select_option("[data-filter-slices] select", label="<script>window.pwned = 1</script>")
    ids = opened.ids()
    assert ids
    address = page.evaluate("location.hash")
    assert address.startswith("#samples=tiny&")
    again = open_page(fragment=address)
    again.page.wait_for_selector(f"[data-samples][data-count='{len(ids)}']")
    assert again.ids() == ids
    assert again.page.eval_on_selector("[data-filter=answer]", "one => one.selectedOptions[0].text") == (
        "unlike most people"
    )
    again.page.click("[data-reset]")
    assert again.count() == len(list(run.examples("tiny")))
    assert again.page.evaluate("location.hash") == "#tiny-samples"


def test_an_address_with_unknown_values_chooses_nothing(open_page: Callable[..., Opened]) -> None:
    opened = open_page(fragment="#samples=tiny&emotion=is+joy&row=is+nobody&from=11&by+style=%3Cb%3E")
    opened.page.wait_for_selector("[data-where]:text('11–12 of 12')")
    assert opened.count() == 12
    assert opened.messages == []


def test_keys_walk_from_painting_to_painting(open_page: Callable[..., Opened], run: RunFolder) -> None:
    opened = open_page()
    ids = [whole_text(e.id) for e in run.examples("tiny")]
    keyboard = opened.page.keyboard
    opened.page.focus("[data-list]")
    for identity in ids:
        keyboard.press("j")
        opened.wait_for_focus(identity)
    keyboard.press("j")
    assert opened.focused() == ids[-1]
    for identity in ids[-2:8:-1]:
        keyboard.press("k")
        opened.wait_for_focus(identity)
    opened.page.focus("[data-filter=text]")
    keyboard.press("k")
    assert opened.page.input_value("[data-filter=text]") == "k"


def test_the_list_is_reached_by_tab_alone(open_page: Callable[..., Opened]) -> None:
    page = open_page().page
    page.focus("[data-reset]")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.matches('[data-list]')")


def test_a_number_leads_to_its_painting(open_page: Callable[..., Opened], run: RunFolder) -> None:
    opened = open_page()
    ids = [whole_text(e.id) for e in run.examples("tiny")]
    for number, expected in ((12, ids[11]), (3, ids[2]), (999, ids[11])):
        opened.page.fill("[data-goto]", str(number))
        opened.page.press("[data-goto]", "Enter")
        opened.wait_for_focus(expected)


def test_words_are_marked_on_request_only(open_page: Callable[..., Opened]) -> None:
    opened = open_page()
    page = opened.page
    assert not any("valence.js" in url for url in opened.requests)
    plain = page.eval_on_selector_all("article .answer p", "all => all.map(one => one.textContent)")
    page.check("[data-valence]")
    page.wait_for_selector("article .unpleasant")
    marked = page.eval_on_selector_all(
        "article .pleasant, article .unpleasant",
        "all => all.map(one => [one.textContent, one.title, one.className])",
    )
    for word, title, kind in marked:
        valence = word_valences()[word.lower()]
        assert float(title.removeprefix("valence ")) == valence
        assert kind.split()[0] == ("pleasant" if valence > 0 else "unpleasant")
    assert page.eval_on_selector_all("article .answer p", "all => all.map(one => one.textContent)") == plain
    page.uncheck("[data-valence]")
    page.wait_for_selector("article .unpleasant", state="detached")


def test_a_missing_page_is_told_and_breaks_nothing(
    open_page: Callable[..., Opened], run: RunFolder, report: object, tmp_path_factory: pytest.TempPathFactory
) -> None:
    import shutil

    folder = tmp_path_factory.mktemp("torn") / "report"
    shutil.copytree(str(report), folder)
    opened = open_page(folder=folder)
    (folder / "data" / "tiny-index.js").unlink()
    opened.page.reload()
    opened.page.wait_for_selector("[data-status]:text('the file tiny-index.js is missing')")
    assert opened.page.is_visible("#tiny-leaderboard table")
