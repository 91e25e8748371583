"""Tables of votes and captions in the forms in which people have them."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from layout_files import paint, table, write
from PIL import Image

from harness.cli import main
from harness.tasks.readers.table import TableReader
from harness.tasks.readers.tables import read_rows
from harness.types import Example, Task, UserError

COLUMNS = {"image": "file", "emotion": "feeling"}


def votes(joyful: Sequence[bool]) -> list[tuple[str, str]]:
    """Five people per image; four of them agree."""
    rows: list[tuple[str, str]] = [("file", "feeling")]
    for i, is_joyful in enumerate(joyful):
        most, least = ("joy", "gloom") if is_joyful else ("gloom", "joy")
        rows += [(f"{i}.png", most)] * 4 + [(f"{i}.png", least)]
    return rows


def reader_of(root: Path, **options: Any) -> TableReader:
    task = Task("votes", "table", ("joy", "gloom"), explanations="explanation" in options["columns"], options=options)
    return TableReader(task, root)


def prepared(path: Path, images: Path, root: Path, **options: Any) -> tuple[dict[str, Example], dict[str, int]]:
    reader = reader_of(root, **options)
    counts = reader.prepare(path, images, progress=False).counts()
    return {example.id: example for example in reader.examples()}, counts


def test_equal_votes_are_counted_not_dropped(tmp_path: Path) -> None:
    joyful = [i < 14 for i in range(20)]
    path = write(tmp_path / "votes.csv", table(votes(joyful)))
    images = paint(tmp_path / "pics", [f"{i}.png" for i in range(20)])
    options = {"columns": COLUMNS, "split": "test"}
    examples, counts = prepared(path, images, tmp_path / "data", **options)
    assert (counts["annotations"], counts["annotated joy"], counts["annotated gloom"]) == (100, 62, 38)
    assert counts["repeated rows, counted as annotations"] == 60
    assert [e.dominant_emotion for e in examples.values()] == ["joy" if j else "gloom" for j in joyful]
    assert {e.share("joy") for e in examples.values()} == {0.8, 0.2}
    dropped, counts = prepared(path, images, tmp_path / "dropped", duplicates="drop", **options)
    assert (counts["repeated rows dropped"], counts["annotations"]) == (60, 40)
    assert dropped["0.png"].dominant_emotion is None
    with pytest.raises(UserError, match="'duplicates': known: drop, keep"):
        prepared(path, images, tmp_path / "x", duplicates="count", **options)


def test_equal_texts_and_ratings_are_counted_too(tmp_path: Path) -> None:
    rows = [("file", "feeling", "why", "pleasant")]
    rows += [("a.png", "joy", "nice colours", "5")] * 3
    rows += [("a.png", "gloom", "grey", "1"), ("a.png", "gloom", "rain", "1")]
    path = write(tmp_path / "t.csv", table(rows))
    columns = COLUMNS | {"explanation": "why", "valence": "pleasant"}
    examples, _ = prepared(path, paint(tmp_path, ["a.png"]), tmp_path / "data", columns=columns, split="test")
    assert examples["a.png"].emotion_histogram == {"joy": 3, "gloom": 2}
    assert examples["a.png"].ratings == {"valence": 17 / 5}


def test_majority_of_votes_through_the_command_line(tmp_path: Path) -> None:
    """Every image has a 4:1 majority; all of them are tested."""
    write(tmp_path / "votes.csv", table(votes([True, False, True, True])))
    paint(tmp_path / "pics", [f"{i}.png" for i in range(4)])
    card = "name: votes\ndataset: table\nemotions: [joy, gloom]\nexplanations: false\n"
    card += "options: {columns: {image: file, emotion: feeling}, split: test}\n"
    write(tmp_path / "card.yaml", card)
    where = ["--data-root", str(tmp_path / "data")]
    assert main(["data", "prepare", str(tmp_path / "card.yaml"), "--annotations", str(tmp_path / "votes.csv"),
                 "--images", str(tmp_path / "pics"), *where]) == 0  # fmt: skip
    lines = [{"id": f"{i}.png", "emotion": "joy"} for i in range(4)]
    write(tmp_path / "joy.jsonl", "".join(json.dumps(line | {"explanation": ""}) + "\n" for line in lines))
    run = tmp_path / "run"
    assert main(["score", "--task", str(tmp_path / "card.yaml"), "--outcomes", str(tmp_path / "joy.jsonl"),
                 "--out", str(run), "--no-report", *where]) == 0  # fmt: skip
    cells = json.loads((run / "results.json").read_text("utf-8"))["cells"]
    values = {c["metric"]: c["value"] for c in cells if c["emotion"] is None and c["slice"] is None}
    assert values["accuracy"] == 0.75
    assert values["annotator_mass"] == pytest.approx((3 * 0.8 + 0.2) / 4)


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_any_delimiter_and_byte_order_mark(tmp_path: Path, delimiter: str, encoding: str) -> None:
    rows = [("file", "feeling", "note"), ("a.png", "joy", "one, two; three"), ("é.png", "gloom", "")]
    path = write(tmp_path / "t.csv", table(rows, "\r\n", delimiter), encoding)
    found = [row for _, row in read_rows(path, ("file", "feeling"))]
    assert found == [dict(zip(rows[0], row, strict=True)) for row in rows[1:]]


def test_excel_and_parquet(tmp_path: Path) -> None:
    pandas, _ = pytest.importorskip("pandas"), pytest.importorskip("openpyxl")
    frame = pandas.DataFrame({"file": ["a.png", "b.png"], "feeling": ["joy", "gloom"], "n": [1, 2]})
    frame.to_excel(tmp_path / "t.xlsx", index=False)
    frame.to_parquet(tmp_path / "t.parquet", index=False)
    expected = [{"file": "a.png", "feeling": "joy", "n": "1"}, {"file": "b.png", "feeling": "gloom", "n": "2"}]
    for name in ("t.xlsx", "t.parquet"):
        assert [row for _, row in read_rows(tmp_path / name, ("file", "feeling"))] == expected
        (tmp_path / name).write_bytes(b"junk")
        with pytest.raises(UserError, match=rf"{name}: not "):
            list(read_rows(tmp_path / name, ("file",)))


def test_what_excel_adds_is_no_row(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(b"sep=;\r\nfile;feeling\r\na.png;joy\r\n;\r\n;\r\n")
    assert [row for _, row in read_rows(path, ["file", "feeling"])] == [{"file": "a.png", "feeling": "joy"}]


def test_a_row_of_json_may_hold_a_line_separator(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text('{"file": "a.png", "why": "one\u2028two"}\n', encoding="utf-8")
    assert [row for _, row in read_rows(path, ["file"])] == [{"file": "a.png", "why": "one\u2028two"}]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"file,feeling,why,feeling\na.png,joy,x,gloom\n", "the header has 2 columns called 'feeling'; rename one"),
        (gzip.compress(b"file,feeling\na.png,joy\n"), "is packed (gzip, zip or Excel); unpack it"),
    ],
    ids=["column twice", "packed"],
)
def test_a_column_that_stands_twice_and_a_packed_file_are_refused(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(data)
    with pytest.raises(UserError) as caught:
        list(read_rows(path, ["file", "feeling"]))
    assert message in str(caught.value)


def test_the_wrong_value_is_shown(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", "file;feeling;v\na.png;joy;0,8\n")
    with pytest.raises(UserError, match=r"t.csv, row 1: v is no number: '0,8'; write a decimal point"):
        prepared(path, paint(tmp_path, ["a.png"]), tmp_path / "d", columns=COLUMNS | {"valence": "v"}, split="test")
    path = write(tmp_path / "u.csv", "file,feeling\na.png,joy,gloom\n")
    with pytest.raises(UserError, match=r"u.csv, row 1: 3 cells, but the header has 2: a.png \| joy \| gloom"):
        list(read_rows(path, ("file",)))


def test_patterns_of_columns(tmp_path: Path) -> None:
    rows = [("style", "name", "feeling", "lang"), ("Pop_Art", "ann-other_tea", "Joy", "English")]
    path = write(tmp_path / "t.csv", table(rows))
    columns = {
        "id": "{style}/{name}@{lang|lower}", "image": "{style}/{name}.png", "emotion": "feeling",
        "style": "{style|spaces}", "artist": "{name|artist}", "context": "{lang|capitalize}",
    }  # fmt: skip
    images = paint(tmp_path / "pics", ["Pop_Art/ann-other_tea.png"])
    examples, _ = prepared(path, images, tmp_path / "d", columns=columns, split="test")
    example = examples["Pop_Art/ann-other_tea@english"]
    assert example.meta == {"style": "Pop Art", "artist": "ann other"}
    assert (example.image.name, example.context) == ("ann-other_tea.png", "English")


class TestAmbiguousImages:
    @pytest.fixture
    def images(self, tmp_path: Path) -> Path:
        """`a.png` twice with other content, `b.png` twice with the same, `c.png` once."""
        folder = paint(tmp_path / "pics", ["Old/a.png", "Old/b.png", "Old/c.png", "New/b.png"])
        (folder / "New" / "b.png").write_bytes((folder / "Old" / "b.png").read_bytes())
        Image.new("RGB", (9, 9), "black").save(folder / "New" / "a.png")
        return folder

    def prepare(self, tmp_path: Path, images: Path, **options: Any) -> tuple[dict[str, Example], dict[str, int]]:
        path = write(tmp_path / "t.csv", table([("file", "feeling"), *((f"{n}.png", "joy") for n in "abc")]))
        options |= {"columns": COLUMNS, "split": "test", "images_anywhere": True}
        return prepared(path, images, tmp_path / "data", **options)

    def test_they_are_refused_by_name(self, tmp_path: Path, images: Path) -> None:
        with pytest.raises(UserError, match=r"for 1 images: a.png: ambiguous \(New/a.png, Old/a.png\).*first"):
            self.prepare(tmp_path, images)

    def test_they_are_taken_or_left_as_the_card_says(self, tmp_path: Path, images: Path) -> None:
        examples, counts = self.prepare(tmp_path, images, ambiguous_images="first")
        assert (counts["images of ambiguous name"], counts["examples"]) == (1, 3)
        assert examples["a.png"].image == images / "New" / "a.png"
        examples, counts = self.prepare(tmp_path, images, ambiguous_images="leave_out")
        assert examples.keys() == {"b.png", "c.png"}
        assert 'a.png,"ambiguous (New/a.png, Old/a.png)"' in (tmp_path / "data/votes/left_out.csv").read_text("utf-8")


class TestJson:
    def test_lists_side_by_side_nested_values_and_objects_by_key(self, tmp_path: Path) -> None:
        path = write(tmp_path / "t.json", json.dumps([{"a": 1, "e": ["x", "y"], "u": [" 1 ", None], "v": [2.5, 3]}]))
        rows = [row for _, row in read_rows(path, ("a", "v.0"), unfold=("e", "u"))]
        assert rows == [{"a": "1", "v.0": "2.5", "v.1": "3", "e": e, "u": u} for e, u in (("x", "1"), ("y", ""))]
        path = write(tmp_path / "k.json", json.dumps({"p.jpg": "1. One 2nd.\n2. Two"}))
        assert [row for _, row in read_rows(path, ("key",), unfold=("value",))] == [
            {"key": "p.jpg", "value": "One 2nd."},
            {"key": "p.jpg", "value": "Two"},
        ]

    @pytest.mark.parametrize(
        ("content", "says"),
        [
            ("[{", "t.json: not JSON"),
            ("[5]", "entry 1: expected an object, got '5'"),
            ('[{"e": ["x"], "u": []}]', "entry 1: lists of different length: 1 in e, 0 in u"),
            ('[{"e": "x", "u": []}]', "entry 1: e: expected a list, got 'x'"),
            ('[{"e": ["x"], "u": ["y"]}]', "entry 1: no column 'a'; known: e, u"),
        ],
    )
    def test_mistakes(self, tmp_path: Path, content: str, says: str) -> None:
        with pytest.raises(UserError, match=says):
            list(read_rows(write(tmp_path / "t.json", content), ("a",), unfold=("e", "u")))

    def test_weights_are_annotations(self, tmp_path: Path) -> None:
        records = [{"file": "a.png", "ranks": [["joy", 3], ["gloom", 2]]}]
        path, images = write(tmp_path / "t.json", json.dumps(records)), paint(tmp_path, ["a.png"])
        options = {"unfold": ["ranks"], "split": "test"}
        columns = {"image": "file", "emotion": "ranks.0", "weight": "ranks.1"}
        examples, _ = prepared(path, images, tmp_path / "d", columns=columns, **options)
        assert examples["a.png"].emotion_histogram == {"joy": 3, "gloom": 2}
        records[0]["ranks"] = [["joy", 1.5]]
        write(path, json.dumps(records))
        with pytest.raises(UserError, match=r"entry 1: ranks\.1 is not a count: 1\.5"):
            prepared(path, images, tmp_path / "d", columns=columns, **options)


def test_the_table_tells_lengths_entropy_and_what_is_in_two_splits(tmp_path: Path) -> None:
    rows = [("file", "feeling", "why", "part"), ("a.png", "joy", "one two three", "train")]
    rows += [
        ("b.png", "joy", "one two three", "test"),
        ("c.png", "gloom", "one", "test"),
        ("c.png", "gloom", "", "test"),
    ]
    path = write(tmp_path / "t.csv", table(rows))
    columns = COLUMNS | {"explanation": "why", "split": "part"}
    reader = reader_of(tmp_path / "d", columns=columns)
    found = {row.what: row for row in reader.prepare(path, paint(tmp_path, ["a.png", "b.png", "c.png"]), False).rows}
    assert found["words of an explanation"].count == 3
    assert (found["explanations in several splits"].count, found["explanations in several splits"].note) == (
        1, "one two three",
    )  # fmt: skip
    assert found["labels that occur"].note == "entropy 1.00 of at most 1.00 bits"
    assert found["images in several splits"].count == 0
