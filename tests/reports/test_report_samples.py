"""The sample browser's data: whole texts round-trip through scripts that cannot be broken out of."""

from __future__ import annotations

import json
import string
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from run_builder import EMOTIONS, HOSTILE, examples, outcomes, picture, write_run

from harness.reports import samples
from harness.reports.build import build_report
from harness.reports.samples import link_images, make_thumbnails, script, whole_text
from harness.store.run_folder import RowKey, RunFolder
from harness.types import Answer


def payload(path: Path, function: str) -> Any:
    text = path.read_text(encoding="utf-8")
    assert text.startswith(f"window.{function}(")
    assert text.endswith(");\n")
    return json.loads(text[len(f"window.{function}(") : -3])


@given(
    st.recursive(
        st.text() | st.integers() | st.none(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_scripts_round_trip_and_hold_nothing_that_ends_them(value: Any) -> None:
    text = script("f", value)
    assert json.loads(text[len("window.f(") : -3]) == value
    assert not set(text) & set("<>&\u2028\u2029")
    text.encode("utf-8")


def test_lone_surrogates_become_replacement_characters() -> None:
    assert whole_text("a\ud83db") == "a\ufffdb"
    assert whole_text("\U0001f5bc") == "\U0001f5bc"
    assert json.loads(script("f", ["\udc00"])[len("window.f(") : -3]) == ["\ufffd"]


def test_pages_hold_every_example_and_outcome(report: Path, run: RunFolder) -> None:
    page = payload(report / "data" / "tiny-0.js", "harnessData")
    asked = list(run.examples("tiny"))
    assert (page["task"], page["page"]) == ("tiny", 0)
    assert [s["id"] for s in page["samples"]] == [whole_text(e.id) for e in asked]
    index = payload(report / "data" / "tiny-index.js", "harnessIndex")
    rows = [row["name"] for row in index["rows"]]
    assert rows == ["small", "large", "endpoint", "majority", "human", "small, blank image"]
    for example, sample in zip(asked, page["samples"], strict=True):
        assert sample["annotations"] == [[a.emotion, whole_text(a.explanation)] for a in example.annotations]
        answer = run.outcomes("tiny", RowKey("large"))[example.id]
        assert isinstance(answer, Answer)
        shown = sample["outcomes"][rows.index("large")]
        assert (shown["kind"], shown["emotion"]) == ("answer", answer.emotion)
        assert shown["text"] == whole_text(answer.explanation)
        assert dict(shown["probs"]) == answer.emotion_probs
    first = page["samples"][0]
    assert (first["ratings"], first["context"]) == ([["valence", 1.25]], HOSTILE["closing"])
    assert [outcome["ratings"] for outcome in first["outcomes"][:2]] == [[["valence", -0.5]]] * 2
    kinds = [sample["outcomes"][rows.index("endpoint")] for sample in page["samples"]]
    assert [k["kind"] for k in kinds[:4]] == ["answer", "refusal", "unparsed", "failed"]
    assert kinds[1]["raw"] == HOSTILE["closing"]
    assert kinds[3]["text"] == f"ImageError: {HOSTILE['script']}"


def test_index_codes_labels_and_silences(report: Path, run: RunFolder) -> None:
    index = payload(report / "data" / "tiny-index.js", "harnessIndex")
    asked = list(run.examples("tiny"))
    assert index["labels"] == list(EMOTIONS)
    assert index["ids"] == [whole_text(e.id) for e in asked]
    styles = index["slices"][0]["values"]
    assert [styles[cut] for cut in index["cuts"][0]] == [e.meta["style"] for e in asked]
    dominant = [e.dominant_emotion for e in asked]
    assert index["dominant"] == [EMOTIONS.index(emotion) if emotion else -1 for emotion in dominant]
    assert set(index["codes"][3]) == {EMOTIONS.index("contentment")}
    assert index["codes"][2][1:4] == [samples.REFUSED, samples.UNPARSED, samples.FAILED]


def test_unknown_labels_and_unasked_paintings_have_codes_of_their_own() -> None:
    labels = {"awe": 0}
    assert samples.code(Answer("awe", ""), labels) == 0
    assert samples.code(Answer("joy", ""), labels) == samples.OTHER_LABEL
    assert samples.code(None, labels) == samples.ABSENT


def test_examples_are_paged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samples, "PAGE_SIZE", 5)
    asked = examples(tmp_path / "pictures")
    run = write_run(tmp_path / "run", {RowKey("small"): outcomes(asked, 0)}, asked)
    data = build_report([run], tmp_path / "out").parent / "data"
    pages = [payload(data / f"tiny-{i}.js", "harnessData")["samples"] for i in range(3)]
    assert [len(p) for p in pages] == [5, 5, 2]
    assert payload(data / "tiny-index.js", "harnessIndex")["pageSize"] == 5
    assert not (data / "tiny-3.js").exists()


def test_pictures_are_small_or_say_why_not(report: Path) -> None:
    page = payload(report / "data" / "tiny-0.js", "harnessData")
    assert "no such image" in page["samples"][4]["reason"]
    assert "cannot be decoded" in page["samples"][5]["reason"]
    assert page["samples"][4]["image"] is None
    for sample in page["samples"]:
        if sample["image"]:
            with Image.open(report / sample["image"]) as made:
                assert made.format == "JPEG"
                assert list(made.size) == sample["size"]


def test_thumbnails_shrink_share_and_respect_rotation(tmp_path: Path) -> None:
    Image.new("RGBA", (1000, 400), (10, 20, 30, 128)).save(tmp_path / "wide.png")
    (tmp_path / "copy.png").write_bytes((tmp_path / "wide.png").read_bytes())
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (300, 100)).save(tmp_path / "turned.jpg", exif=exif)
    paths = [tmp_path / name for name in ("wide.png", "copy.png", "turned.jpg")]
    made = make_thumbnails(paths, tmp_path / "thumbs")
    assert made[paths[0]].size == (240, 96)
    assert made[paths[0]].name == made[paths[1]].name
    assert made[paths[2]].size == (80, 240)
    assert len(list((tmp_path / "thumbs").iterdir())) == 2


def test_many_pictures_are_made_smaller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samples, "MANY", 1)
    paths = [tmp_path / "a.png", tmp_path / "b.png"]
    for number, path in enumerate(paths):
        Image.new("RGB", (1000, 500), (number, 0, 0)).save(path)
    assert [t.size for t in make_thumbnails(paths, tmp_path / "thumbs").values()] == [(168, 84)] * 2


def test_the_total_size_is_capped_in_order(tmp_path: Path) -> None:
    paths = [picture(tmp_path / f"{i}.jpg", i) for i in range(4)]
    sizes = [
        (tmp_path / "all" / (t.name or "")).stat().st_size for t in make_thumbnails(paths, tmp_path / "all").values()
    ]
    made = make_thumbnails(paths, tmp_path / "some", total_bytes=sum(sizes[:2]))
    assert [t.name is not None for t in made.values()] == [True, True, False, False]
    assert "limited" in made[paths[2]].reason


def test_originals_are_linked_when_copies_are_not_wanted(tmp_path: Path) -> None:
    names = ["plain.jpg", "a b#c?d%20.jpg", "quote\"'<script>.jpg", "\u202egpj.jpg"]
    paths = [picture(tmp_path / "pictures" / name, i) for i, name in enumerate(names)]
    exotic = tmp_path / "pictures" / "gone.jpg"
    made = link_images([*paths, exotic], tmp_path / "out")
    for path in paths:
        url = made[path].url
        assert url is not None
        assert (tmp_path / "out" / unquote(url)).resolve() == path.resolve()
        assert set(url) <= set("./_-~%" + string.ascii_letters + string.digits)
    assert made[exotic].url is None
    assert "no such image" in made[exotic].reason


def test_linked_pictures_are_not_copied(tmp_path: Path) -> None:
    asked = examples(tmp_path / "pictures")
    run = write_run(tmp_path / "run", {RowKey("small"): outcomes(asked, 0)}, asked)
    out = build_report([run], tmp_path / "out", copies=False).parent
    assert not (out / "thumbs").exists()
    page = payload(out / "data" / "tiny-0.js", "harnessData")
    assert page["samples"][0]["image"] == "../pictures/0.jpg"
    assert page["samples"][0]["size"] == [40, 30]
    assert "cannot be decoded" in page["samples"][5]["reason"]
