from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from harness.tasks.loading import builtin_cards, load_task
from harness.tasks.readers.artemis import ArtemisReader, official_splits, read_release
from harness.types import UserError

TASK = load_task(builtin_cards()["artemis"])
HEADER = "art_style,painting,emotion,utterance,repetition"
Row = tuple[str, str, str, str]
Reader = Callable[..., ArtemisReader]

# Twenty paintings, three people each; painting 7 has 42 annotations, painting 3 an accent, 4 a truncated picture,
# 5 no picture.
PAINTINGS = [("Cubism" if i % 2 else "Rococo", f"ann-other_picture-{i}") for i in range(20)]
PAINTINGS[3] = ("Cubism", "andrã©-autre_picture-3")


def rows_of(index: int) -> list[Row]:
    style, painting = PAINTINGS[index]
    people = 42 if index == 7 else 3
    emotions = ["awe", "awe", "fear"] + ["sadness"] * (people - 3)
    return [
        (style, painting, emotion, f"The sky isn't calm, number {k}.", str(people))
        for k, emotion in enumerate(emotions)
    ]


def csv_text(rows: Sequence[Sequence[str]], header: str = HEADER) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(rows)
    return f"{header}\n{out.getvalue()}"


@pytest.fixture
def release(tmp_path: Path, draw: Callable[..., Path]) -> tuple[Path, Path]:
    """A made-up release and its image folder."""
    images = tmp_path / "wikiart"
    for index, (style, painting) in enumerate(PAINTINGS):
        if index != 5:
            draw(images / style / f"{painting}.jpg")
    accented = images / "Cubism" / "andrã©-autre_picture-3.jpg"
    accented.rename(accented.with_name("andré-autre_picture-3.jpg"))
    broken = images / "Rococo" / "ann-other_picture-4.jpg"
    broken.write_bytes(broken.read_bytes()[:-40])
    annotations = tmp_path / "release.csv"
    annotations.write_text(csv_text([row for i in range(20) for row in rows_of(i)]), encoding="utf-8")
    return annotations, images


@pytest.fixture
def reader(tmp_path: Path) -> Reader:
    def build(**options: Any) -> ArtemisReader:
        return ArtemisReader(dataclasses.replace(TASK, options=options), tmp_path / "data")

    return build


def read(tmp_path: Path, content: str | bytes) -> list[Row]:
    path = tmp_path / "r.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return list(read_release(path, TASK).rows.itertuples(index=False, name=None))


class TestRelease:
    ROW = ("Cubism", "a_b", "awe", "so, big", 1)

    @pytest.mark.parametrize(
        "content",
        [
            f'{HEADER}\nCubism,a_b,awe,"so, big",1\n',
            f'\ufeff{HEADER}\nCubism,a_b,awe,"so, big",1\n',
            f'{HEADER}\r\nCubism,a_b,awe,"so, big",1\r\n',
            f'{HEADER}\rCubism,a_b,awe,"so, big",1\r',
            f'{HEADER},more\nCubism,a_b,awe,"so, big",1,x\n',
            'repetition,utterance,emotion,painting,art_style\n1,"so, big",awe,a_b,Cubism\n',
            f'{HEADER}\nCubism,a_b, Awe,"so, big",1',
            f"{HEADER}\nCubism,a_b,awe,so, big,1\n".replace(",", ";").replace("so; big", "so, big"),
            f"{HEADER}\nCubism,a_b,awe,so, big,1\n".replace(",", "\t").replace("so\t big", "so, big"),
            f'{HEADER}\nCubism,a_b,awe,"so, big",1.0\n',
        ],
        ids=["plain", "bom", "crlf", "cr", "extra column", "other order", "label case", "semicolons", "tabs", "1.0"],
    )
    def test_one_row_however_written(self, tmp_path: Path, content: str) -> None:
        assert read(tmp_path, content) == [self.ROW]

    def test_newlines_and_carriage_returns_inside_an_utterance(self, tmp_path: Path) -> None:
        rows = read(tmp_path, f'{HEADER}\nA,b,awe,"one\ntwo",2\nA,b,fear,three\rfour,2\n')
        assert [row[3] for row in rows] == ["one\ntwo", "three\rfour"]

    def test_words_that_pandas_takes_for_missing(self, tmp_path: Path) -> None:
        words = ["nan", "None", "NA", "null", "", "N/A"]
        rows = read(tmp_path, csv_text([("A", "b", "awe", word, "6") for word in words]))
        assert [row[3] for row in rows] == words

    @pytest.mark.parametrize(
        ("content", "says"),
        [
            ("art_style,painting,emotion,repetition\nA,b,awe,1\n", "no column utterance; found art_style, painting"),
            ("art_style;painting;emotion;utterance\nA;b;awe;x\n", "no column repetition; found art_style, painting"),
            ('{"1": {"emotions": ["awe"]}}', "SEVLM's files have dataset: sevlm-json"),
            (f"{HEADER}\n", "no annotation"),
            ("", "not a csv file"),
            (f"{HEADER}\nA,b,awe,x,1,too,many\n", "more fields than the header"),
            (f"{HEADER}\nA,b,awe,x,1\nA,b,awe,x,1,too,many\n", "Expected 5 fields in line 3, saw 7"),
            (f"{HEADER}\nA,b,awe,x,1\nA,b,contentmnt,x,1\n", "annotation 2 (b): emotion 'contentmnt'"),
            (f"{HEADER}\nA,b,contentmnt,x,1\n", "did you mean contentment"),
            (f"{HEADER}\nA,,awe,x,1\n", "annotation 1 (A/): painting is empty: ''"),
            (f"{HEADER}\nA,b,awe,x,many\n", "annotation 1 (A/b): repetition is not a whole number: 'many'"),
            (f"{HEADER}\nA,b,awe\n", "annotation 1 (A/b): repetition"),
            (f"{HEADER}\nA,b,awe,caf\xe9,1\n".encode("latin-1"), "not utf-8 text"),
            (b"PAR1\x00\xff\xfe", "not utf-8 text"),
        ],
    )
    def test_mistakes(self, tmp_path: Path, content: str | bytes, says: str) -> None:
        with pytest.raises(UserError) as caught:
            read(tmp_path, content)
        assert says in str(caught.value)
        assert "r.csv" in str(caught.value)

    def test_absent(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match="cannot be read"):
            read_release(tmp_path / "absent.csv", TASK)


class TestSplits:
    def test_shares_and_repeatability(self) -> None:
        names = [f"Style{i}" for i in range(1000)]
        splits = official_splits(names)
        # 0.05 + 0.1 is a little more than 0.15 in binary, so the official code holds out 151.
        assert Counter(splits.values()) == {"train": 849, "val": 51, "test": 100}
        assert official_splits(reversed(names + names)) == splits

    def test_sizes_printed_by_the_official_notebooks(self) -> None:
        """80,031 paintings, 701 of them set aside: 7,933 test paintings."""
        assert Counter(official_splits(map(str, range(80_031 - 701))).values())["test"] == 7_933

    def test_too_few(self) -> None:
        with pytest.raises(UserError, match="at least 10"):
            official_splits("abc")


class TestPrepared:
    def test_table(self, release: tuple[Path, Path], reader: Reader, tmp_path: Path) -> None:
        table = reader().prepare(*release, progress=False)
        counts = table.counts()
        assert counts["annotations"] == 19 * 3 + 42
        assert counts["paintings"] == 20
        assert counts["images found"] == 18
        assert counts["images found under another spelling"] == 1
        assert (counts["images missing"], counts["images corrupt"]) == (1, 1)
        assert counts["paintings in rest (deep-net)"] == 1
        folder = tmp_path / "data" / "artemis"
        assert (folder / "prepared.txt").read_text("utf-8") == f"{table}\n"
        left_out = (folder / "left_out.csv").read_text("utf-8").splitlines()
        assert left_out[1].startswith("Rococo/ann-other_picture-4,corrupt")
        assert left_out[2] == "Cubism/ann-other_picture-5,missing"
        assert not list(folder.glob(".*.tmp"))
        assert reader().check().counts()["images gone since"] == 0
        assert reader().notes()[0] == "2 of 20 images are missing or cannot be decoded and are left out."

    def test_examples(self, release: tuple[Path, Path], reader: Reader) -> None:
        reader().prepare(*release, progress=False)
        examples = {example.id: example for example in reader().examples()}
        assert len(examples) == 18
        first = examples["Rococo/ann-other_picture-0"]
        assert first.emotion_histogram == {"awe": 2, "fear": 1}
        assert first.dominant_emotion == "awe"
        assert first.meta == {"style": "Rococo", "artist": "ann other"}
        assert first.annotations[0].explanation == "the sky is not calm number 0"
        repaired = examples["Cubism/andrã©-autre_picture-3"]
        assert repaired.image.name == "andré-autre_picture-3.jpg"
        assert repaired.image.is_file()
        assert reader().splits() == dict(Counter(example.split for example in examples.values()))
        for split in ("train", "val", "test"):
            assert {e.id for e in reader().examples(split)} == {k for k, e in examples.items() if e.split == split}

    def test_preprocessing_modes(self, release: tuple[Path, Path], reader: Reader) -> None:
        annotations, images = release
        style, painting = PAINTINGS[0]
        odd = [(style, painting, "anger", "Too short", "6"), (style, painting, "anger", "word " * 40, "6")]
        odd.append((style, painting, "anger", " .", "6"))
        text = annotations.read_text("utf-8")
        annotations.write_text(text + csv_text(odd).split("\n", 1)[1], encoding="utf-8")
        reader().prepare(annotations, images, progress=False)

        def kept(mode: str) -> tuple[list[str], dict[str, int], str]:
            examples = {e.id: e for e in reader(preprocessing=mode).examples()}
            first = examples[f"{style}/{painting}"]
            seventh = examples["/".join(PAINTINGS[7])]
            return [a.explanation for a in first.annotations], dict(first.emotion_histogram), seventh.split

        histogram = {"awe": 2, "fear": 1, "anger": 3}
        sentences = [f"The sky isn't calm, number {k}." for k in range(3)]
        assert kept("none") == ([*sentences, "Too short", "word " * 40], histogram, kept("minimal")[2])
        cleaned = [f"the sky is not calm number {k}" for k in range(3)]
        assert kept("minimal")[:2] == ([*cleaned, "too short", "word " * 39 + "word"], histogram)
        assert kept("deep-net") == (cleaned, histogram, "rest")
        assert reader(preprocessing="deep-net").preprocessing == "deep-net"
        assert reader().preprocessing == "minimal"

    def test_no_annotation_of_an_empty_example_is_lost_from_the_shares(
        self, release: tuple[Path, Path], reader: Reader
    ) -> None:
        reader().prepare(*release, progress=False)
        total = sum(sum(example.emotion_histogram.values()) for example in reader().examples())
        assert total == 17 * 3 + 42

    def test_unprepared_names_folder_setting_and_command(self, reader: Reader, tmp_path: Path) -> None:
        with pytest.raises(UserError) as caught:
            next(reader().examples())
        message = str(caught.value)
        assert str(tmp_path / "data" / "artemis") in message
        assert "--data-root or HARNESS_DATA" in message
        assert "harness data prepare artemis --annotations" in message

    def test_changed_copy_and_vanished_pictures(
        self, release: tuple[Path, Path], reader: Reader, tmp_path: Path
    ) -> None:
        reader().prepare(*release, progress=False)
        (release[1] / "Rococo" / "ann-other_picture-0.jpg").unlink()
        assert reader().check().counts()["images gone since"] == 1
        release[1].rename(tmp_path / "moved")
        with pytest.raises(UserError, match="image folder is gone"):
            next(reader().examples())
        parquet = tmp_path / "data" / "artemis" / "annotations.parquet"
        parquet.write_bytes(parquet.read_bytes() + b"x")
        with pytest.raises(UserError, match="changed since"):
            next(reader().examples())

    def test_prepare_again_replaces(self, release: tuple[Path, Path], reader: Reader) -> None:
        again = reader()
        again.prepare(*release, progress=False)
        before = again.fingerprint()
        assert reader().fingerprint() == before
        release[0].write_text(release[0].read_text("utf-8").replace("fear", "anger"), encoding="utf-8")
        again.prepare(*release, progress=False)
        assert again.fingerprint() != before
        assert next(again.examples()).emotion_histogram == {"awe": 2, "anger": 1}

    @pytest.mark.parametrize("bad", ["../secret", "a/../../../b"])
    def test_names_that_leave_the_folder(self, release: tuple[Path, Path], reader: Reader, bad: str) -> None:
        annotations, images = release
        annotations.write_text(annotations.read_text("utf-8").replace("ann-other_picture-9", bad), encoding="utf-8")
        with pytest.raises(UserError, match="inside the image folder"):
            reader().prepare(annotations, images, progress=False)

    def test_a_picture_that_links_out(self, release: tuple[Path, Path], reader: Reader, tmp_path: Path) -> None:
        secret = tmp_path / "secret.jpg"
        picture = release[1] / "Rococo" / "ann-other_picture-0.jpg"
        picture.rename(secret)
        picture.symlink_to(secret)
        with pytest.raises(UserError, match="link that leaves"):
            reader().prepare(*release, progress=False)

    def test_wrong_picture_folder(self, release: tuple[Path, Path], reader: Reader, tmp_path: Path) -> None:
        with pytest.raises(UserError, match="no such image folder"):
            reader().prepare(release[0], tmp_path / "absent", progress=False)
        with pytest.raises(UserError, match=r"none of 20 images is there; expected <art_style>/<painting>\.jpg"):
            reader().prepare(release[0], release[1].parent, progress=False)
        assert not (tmp_path / "data").exists()

    def test_options(self, reader: Reader, tmp_path: Path) -> None:
        with pytest.raises(UserError, match="unknown preprocessing 'deepnet'; did you mean deep-net"):
            reader(preprocessing="deepnet")
        with pytest.raises(UserError, match="plain folder name"):
            reader(folder="../elsewhere")
        assert reader(folder="v2").folder == tmp_path / "data" / "v2"


@pytest.mark.data
def test_real_release(real_artemis: Path, tmp_path: Path) -> None:
    reader = ArtemisReader(TASK, tmp_path)
    annotations = real_artemis / "artemis_dataset_release_v0.csv"
    counts = reader.prepare(annotations, real_artemis / "images", progress=False).counts()
    assert (counts["annotations"], counts["paintings"]) == (33_412, 5_833)
    assert (counts["images found"], counts["images missing"], counts["images corrupt"]) == (2_284, 3_549, 0)
    assert counts["paintings with a non-ASCII name"] == 65
    assert counts["paintings in test (none, minimal)"] == 583
    assert counts["paintings in rest (deep-net)"] == 57
    assert sum(reader.splits().values()) == 2_284
    assert reader.notes()[0] == "3,549 of 5,833 images are missing or cannot be decoded and are left out."
    example = next(reader.examples("test"))
    with annotations.open(encoding="utf-8", newline="") as file:
        mine = [row for row in csv.DictReader(file) if f"{row['art_style']}/{row['painting']}" == example.id]
    assert example.emotion_histogram == Counter(row["emotion"] for row in mine)
    assert json.loads(json.dumps(reader.fingerprint())) == reader.fingerprint()


def test_paintings_that_another_task_tests_on_are_left_out(release: tuple[Path, Path], tmp_path: Path) -> None:
    ArtemisReader(TASK, tmp_path / "data").prepare(*release, progress=False)
    whole = {example.id for example in ArtemisReader(TASK, tmp_path / "data").examples()}
    (tmp_path / "tested.txt").write_text("Rococo/ann-other_picture-0\n", encoding="utf-8")
    options = {**TASK.options, "leave_out": "tested.txt"}
    task = dataclasses.replace(TASK, options=options, source=tmp_path / "card.yaml")
    reader = ArtemisReader(task, tmp_path / "data")
    assert {example.id for example in reader.examples()} == whole - {"Rococo/ann-other_picture-0"}
    assert any("1 examples are left out by tested.txt: Rococo/ann-other_picture-0" in note for note in reader.notes())
    assert reader.fingerprint() != ArtemisReader(TASK, tmp_path / "data").fingerprint()
    (tmp_path / "tested.txt").write_text("Rococo/nobody\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"tested.txt: 1 ids are not in .*Rococo/nobody"):
        list(ArtemisReader(task, tmp_path / "data").examples())
