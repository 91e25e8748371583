"""What real files do to readers: line ends, encodings, lists as text, repeated rows, odd spellings, odd pickles."""

from __future__ import annotations

import dataclasses
import json
import pickle
import unicodedata
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from layout_files import EIGHT, Layout, paint, said, table, v1_rows, write
from layouts import LAYOUTS, dialogue

from harness.cli import main
from harness.plan.registry import open_reader
from harness.tasks.loading import builtin_cards, load_task
from harness.tasks.metrics import java
from harness.tasks.readers.artemis_v2 import ArtemisV2Reader
from harness.tasks.readers.datasets import read_pickle
from harness.tasks.readers.emotion_words import EMOTION_WORDS, WORDS_OF_LABEL
from harness.tasks.readers.layout import drawn_splits
from harness.tasks.readers.tables import read_rows, text_list
from harness.types import Example, Task, UserError

CELLS = st.lists(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0\r")), min_size=2, max_size=2))


def prepared(name: str, layout: Layout, root: Path, **options: Any) -> tuple[dict[str, Example], dict[str, int]]:
    """Examples by id, and the table's counts."""
    task = load_task(builtin_cards()[name])
    task = dataclasses.replace(task, options={**task.options, **layout.options, **options})
    reader = open_reader(task, root)
    counts = reader.prepare(layout.annotations, layout.images, progress=False).counts()
    return {example.id: example for example in reader.examples()}, counts


class TestTables:
    @pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
    @pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1"])
    def test_line_ends_and_encodings(self, tmp_path: Path, end: str, encoding: str) -> None:
        path = write(tmp_path / "t.csv", end.join(["a,b", '"é, ü","x\ny"', ", z ", ""]), encoding)
        rows = [row for _, row in read_rows(path, ("a", "b"), encoding=encoding.removesuffix("-sig"))]
        assert rows == [{"a": "é, ü", "b": "x\ny"}, {"a": "", "b": "z"}]

    def test_two_header_rows(self, tmp_path: Path) -> None:
        path = write(tmp_path / "t.csv", "word,AROU,,VAL,\n,M,SD,M,SD\nsea,4,1,6,2\n")
        ((_, row),) = read_rows(path, ("VAL/M",), header_rows=2)
        assert row == {"word": "sea", "AROU/M": "4", "AROU/SD": "1", "VAL/M": "6", "VAL/SD": "2"}

    @pytest.mark.parametrize(
        ("content", "says"),
        [
            ("a,c\n1,2\n", r"t.csv: no column 'b'"),
            ("a,b\n1,2\n1,2,3\n", r"t.csv, row 2: 3 cells, but the header has 2"),
            ("a,b\n1\n", r"t.csv, row 1: 1 cells"),
            ("a,b\ncaf\xe9,1\n", r"byte 7 is not utf-8 text.*encoding: latin-1"),
        ],
    )
    def test_mistakes(self, tmp_path: Path, content: str, says: str) -> None:
        path = write(tmp_path / "t.csv", content, "latin-1")
        with pytest.raises(UserError, match=says):
            list(read_rows(path, ("a", "b")))

    @given(CELLS)
    def test_what_csv_writes_is_read(self, tmp_path_factory: pytest.TempPathFactory, cells: list[list[str]]) -> None:
        path = write(tmp_path_factory.getbasetemp() / "any.csv", table([("a", "b"), *cells]))
        found = [list(row.values()) for _, row in read_rows(path, ("a", "b"))]
        said = [[cell.strip() for cell in row] for row in cells]
        assert found == [row for row in said if any(row)]  # Excel leaves rows of empty cells

    def test_lists_as_text(self) -> None:
        assert text_list("[0.25, 0.05, 0.30000000000000004]", "x") == ["0.25", "0.05", "0.30000000000000004"]
        assert text_list("""['don\\'t', "it's"]""", "x") == ["don't", "it's"]
        assert text_list("awe, fear", "x") == ["awe", "fear"]
        for bad in ("[1, 2", "[__import__('os')]", "[" * 500):
            with pytest.raises(UserError, match="expected a list"):
                text_list(bad, "x")


class TestReaders:
    def test_dvisa_lists_and_repeated_rows(self, tmp_path: Path) -> None:
        examples, counts = prepared("dvisa", LAYOUTS["dvisa"](tmp_path), tmp_path / "data")
        assert counts["repeated rows dropped"] == 1
        assert counts["images missing"] == 1
        first = examples["an-artist_work-2"]
        assert first.ratings == {"valence": 0.1, "arousal": 0.30000000000000004, "dominance": 0.9}
        assert first.image.parent.name == "Cubism"
        assert first.meta == {"artist": "an artist"}

    def test_a_card_may_name_the_dataset_of_a_built_in_table(self, tmp_path: Path) -> None:
        layout = LAYOUTS["dvisa"](tmp_path)
        built_in, _ = prepared("dvisa", layout, tmp_path / "data")
        known = load_task(builtin_cards()["dvisa"])
        card = dataclasses.replace(known, name="mine", dataset="dvisa", options={"split": "test"})
        reader = open_reader(card, tmp_path / "data")
        reader.prepare(layout.annotations, layout.images, progress=False)
        mine = {example.id: example for example in reader.examples()}
        assert {id_: e.ratings for id_, e in mine.items()} == {id_: e.ratings for id_, e in built_in.items()}
        assert reader.splits() == {"test": 13}

    def test_oasis_bare_carriage_returns_and_bands(self, tmp_path: Path) -> None:
        examples, _ = prepared("oasis", LAYOUTS["oasis"](tmp_path), tmp_path / "data")
        assert examples["Fence 3"].ratings == {"valence": 2.2, "arousal": 5.1}
        labels = {id_: example.annotations[0].emotion for id_, example in examples.items()}
        assert (labels["Fence 4"], labels["Fence 5"], labels["Fence 10"]) == ("unpleasant", "neutral", "pleasant")
        with pytest.raises(UserError, match="must hold 2 rising numbers"):
            prepared("oasis", LAYOUTS["oasis"](tmp_path), tmp_path / "data", valence_bands=[5, 3])

    def test_findingemo_means_of_two_people(self, tmp_path: Path) -> None:
        examples, counts = prepared("findingemo", LAYOUTS["findingemo"](tmp_path), tmp_path / "data")
        assert counts["labels in another spelling"] == 15
        assert counts["repeated rows dropped"] == 1
        third = examples["Run_1/Happy, toddlers/3.jpg"]
        assert third.ratings == {"valence": 1.5, "arousal": 1.5}
        assert third.emotion_histogram == {"joy": 1, "trust": 1}

    def test_artelingo_languages_do_not_mix(self, tmp_path: Path) -> None:
        examples, counts = prepared("artelingo", LAYOUTS["artelingo"](tmp_path), tmp_path / "data")
        assert counts["repeated rows dropped"] == 18
        chinese = examples["Cubism/ann-other_picture-3@chinese"]
        assert [a.explanation for a in chinese.annotations] == ["海 很 平静 3", "海 很 平静 again 3"]
        assert [a.emotion for a in chinese.annotations] == ["something else", "contentment"]
        assert (chinese.meta["language"], chinese.context) == ("chinese", "Chinese")

    def test_affection_columns_are_a_setting(self, tmp_path: Path) -> None:
        layout = LAYOUTS["affection"](tmp_path)
        bare = layout._replace(options={"encoding": "latin-1", "header_rows": 2})
        with pytest.raises(UserError, match=r"copy .*affection.yaml and add .*: file, response/emotion, response/text"):
            prepared("affection", bare, tmp_path / "data")
        examples, counts = prepared("affection", layout, tmp_path / "data")
        assert counts["repeated rows, counted as annotations"] == 14
        assert examples["coco/3.jpg"].annotations[0].explanation.startswith("café the grey sky")

    def test_affectvisdial_moments(self, tmp_path: Path) -> None:
        layout = LAYOUTS["affectvisdial"](tmp_path)
        examples, counts = prepared("affectvisdial", layout, tmp_path / "after")
        assert counts["entries without a usable annotation"] == 1
        answers = {id_: (e.annotations[0].emotion, e.annotations[0].explanation) for id_, e in examples.items()}
        assert answers == {
            "train-0": ("awe", "the light"),
            "train-1": ("awe", "the light"),
            "val-0": ("awe", "the light"),
            "test-0": ("fear", "the black storm"),
            "test-1": ("awe", "the ligth"),
        }
        assert examples["val-0"].context == "Caption: a storm\nCaption: a harbour\nQ: is it dark?\nA: a little"
        before, _ = prepared("affectvisdial", layout, tmp_path / "before", moment="before", edited=False)
        assert before["val-0"].annotations[0].explanation == "the storm"
        with pytest.raises(UserError, match="option 'moment'"):
            prepared("affectvisdial", layout, tmp_path / "x", moment="during")

    def test_a_pickle_runs_nothing(self, tmp_path: Path) -> None:
        class Bomb:
            def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
                return (Path.touch, (tmp_path / "exploded",))  # type: ignore[return-value]

        for content in (pickle.dumps([dialogue(0, img_src=Bomb())]), b"junk", pickle.dumps({"a": 1})):
            (tmp_path / "t.pkl").write_bytes(content)
            with pytest.raises(UserError, match=r"t.pkl: "):
                read_pickle(tmp_path / "t.pkl")
        assert not (tmp_path / "exploded").exists()

    def test_socratis_words(self, tmp_path: Path) -> None:
        layout = LAYOUTS["socratis"](tmp_path)
        examples, counts = prepared("socratis", layout, tmp_path / "map")
        assert counts["emotion words without a label, left out"] == 12
        assert examples["pair-1"].emotion_histogram == {"awe": 1, "fear": 1, "sadness": 1}
        assert [a.explanation for a in examples["pair-1"].annotations] == [said(1, 0), said(1, 2), said(1, 2)]
        assert examples["pair-1"].context == "caption 1"
        open_vocabulary = dataclasses.replace(
            load_task(builtin_cards()["socratis"]),
            emotions=("amazed", "happy", "scared", "sad"),
            options={"words": "own"},
        )
        reader = open_reader(open_vocabulary, tmp_path / "own")
        reader.prepare(layout.annotations, layout.images, progress=False)
        assert next(reader.examples()).emotion_histogram == {"amazed": 1, "happy": 1, "scared": 1, "sad": 1}

    def test_half_a_character_is_told_and_leaves_the_copy_alone(self, tmp_path: Path) -> None:
        """JSON can hold half of a surrogate pair, UTF-8 files cannot."""
        layout = LAYOUTS["socratis"](tmp_path)
        before, _ = prepared("socratis", layout, tmp_path / "data")
        text = layout.annotations.read_text("utf-8")
        layout.annotations.write_text(text.replace("caption 1", "caption \\ud83d"), "utf-8")
        with pytest.raises(UserError, match=r"caption .ud83d.*no Unicode"):
            prepared("socratis", layout, tmp_path / "data")
        again = open_reader(load_task(builtin_cards()["socratis"]), tmp_path / "data")
        assert {example.id: example for example in again.examples()} == before

    def test_emotion_words_have_one_label_each(self) -> None:
        counts = Counter(word for words in WORDS_OF_LABEL.values() for word in words)
        assert [word for word, count in counts.items() if count > 1] == []
        assert set(EMOTION_WORDS.values()) == set(EIGHT)
        assert all(word == word.casefold() for word in EMOTION_WORDS)

    def test_feelingblue_uses_the_most_emotional_choice(self, tmp_path: Path) -> None:
        examples, counts = prepared("feelingblue", LAYOUTS["feelingblue"](tmp_path), tmp_path / "data")
        assert counts["choices of the least emotional image, not used"] == 8
        assert counts["images in no split, left out"] == 1
        assert examples["blue-3"].split == "val"
        assert examples["blue-3"].emotion_histogram == {"anger": 1, "sadness": 1}

    def test_emoset_attributes_and_lists_without_id(self, tmp_path: Path) -> None:
        layout = LAYOUTS["emoset"](tmp_path)
        examples, counts = prepared("emoset", layout, tmp_path / "data")
        assert counts["attribute files missing"] == 1
        expected = {"brightness": "0.1", "object": "Tree, Dog", "facial_expression": "happy"}
        assert examples["awe_train_1"].meta == expected
        assert examples["contentment_train_2"].meta == {"brightness": "0.2"}
        listed = [
            [label, picture, file] for label, _, picture, file in json.loads((tmp_path / "test.json").read_text())
        ]
        write(tmp_path / "test.json", json.dumps(listed))
        again, _ = prepared("emoset", layout, tmp_path / "again")
        assert again.keys() == examples.keys()

    def test_wikiart_emotions_several_marks_are_no_majority(self, tmp_path: Path) -> None:
        examples, counts = prepared("wikiart-emotions", LAYOUTS["wikiart-emotions"](tmp_path), tmp_path / "data")
        assert counts["entries with several emotions"] == 1
        assert counts["entries without a usable annotation"] == 1
        assert examples["id5"].dominant_emotion is None
        assert examples["id4"].dominant_emotion == "anger"  # the second of the labels in alphabetical order is marked

    def test_without_pictures(self, tmp_path: Path) -> None:
        layout = LAYOUTS["dvisa"](tmp_path)._replace(images=tmp_path / "nowhere")
        with pytest.raises(UserError, match="no such image folder"):
            prepared("dvisa", layout, tmp_path / "data")
        examples, _ = prepared("dvisa", layout, tmp_path / "data", without_pictures=True)
        assert len(examples) == 14

    def test_corrupt_picture_is_left_out_and_named(self, tmp_path: Path) -> None:
        layout = LAYOUTS["oasis"](tmp_path)
        broken = layout.images / "Fence 5.jpg"
        broken.write_bytes(broken.read_bytes()[:-40])
        examples, counts = prepared("oasis", layout, tmp_path / "data")
        assert "Fence 5" not in examples
        assert counts["images corrupt"] == 1
        left_out = (tmp_path / "data" / "oasis" / "left_out.csv").read_text("utf-8")
        assert "Fence 0.jpg,missing" in left_out
        assert "Fence 5.jpg,corrupt" in left_out


class TestDrawnSplits:
    def test_shares_strata_and_order(self) -> None:
        pictures = {f"p{i}": EIGHT[i % 8] for i in range(800)}
        splits = drawn_splits(pictures, 0.05, 0.15, True)
        assert Counter(splits.values()) == {"train": 640, "val": 40, "test": 120}
        assert Counter(pictures[p] for p, s in splits.items() if s == "test") == dict.fromkeys(EIGHT, 15)
        assert drawn_splits(dict(reversed(pictures.items())), 0.05, 0.15, True) == splits

    @pytest.mark.parametrize(("n", "val", "test"), [(3, 0.05, 0.1), (100, 0.5, 0.5), (100, 0.1, 0.0)])
    def test_impossible(self, n: int, val: float, test: float) -> None:
        with pytest.raises(UserError):
            drawn_splits({str(i): "x" for i in range(n)}, val, test, False)


class TestArtemisV2:
    @pytest.fixture(scope="class")
    @staticmethod
    def task(tmp_path_factory: pytest.TempPathFactory) -> tuple[Task, Path]:
        folder = tmp_path_factory.mktemp("v2")
        names = [f"Cubism/ann_picture-{i:03}" for i in range(200)]
        old = v1_rows(names) + [("Cubism", "loved", "awe", said(1, k), 41) for k in range(41)]  # type: ignore[list-item]
        new = [(*row, "Cubism/anchor") for row in v1_rows(names[100:], 2)]
        header = ("art_style", "painting", "emotion", "utterance", "repetition")
        write(folder / "csv" / "artemis_dataset_release_v0.csv", table([header, *old]))
        write(folder / "csv" / "Contrastive.csv", table([(*header, "anchor_painting"), *new]))
        images = paint(folder / "wikiart", [f"{name}.jpg" for name in [*names, "Cubism/loved"]])
        task = load_task(builtin_cards()["artemis-v2"])
        ArtemisV2Reader(task, folder / "data").prepare(folder / "csv", images, progress=False)
        return task, folder / "data"

    def examples(self, task: tuple[Task, Path], split: str, **options: str) -> dict[str, int]:
        card = dataclasses.replace(task[0], options={**task[0].options, **options})
        return {e.id: len(e.annotations) for e in ArtemisV2Reader(card, task[1]).examples(split)}

    def test_test_sets(self, task: tuple[Task, Path]) -> None:
        names = ("test_all", "test_new", "test_old", "test_ref", "test_40")
        found = {name: self.examples(task, "test", test_set=name) for name in names}
        assert len(found["test_ref"]) == 20
        assert set(found["test_ref"].values()) == {3}
        assert len(found["test_old"]) == 10
        assert found["test_old"].keys() <= found["test_ref"].keys()
        assert set(found["test_new"].values()) == {2}
        assert all(int(id_[-3:]) >= 100 for id_ in found["test_new"])
        assert found["test_all"] == Counter(found["test_new"]) + Counter(found["test_old"])
        assert found["test_40"] == {"Cubism/loved": 41}

    def test_train_sets(self, task: tuple[Task, Path]) -> None:
        rows = {
            s: sum(self.examples(task, "train", train_set=s).values()) for s in ("new", "old_full", "full_combined")
        }
        assert rows["full_combined"] == rows["new"] + rows["old_full"]
        sampled = {
            s: sum(self.examples(task, "train", train_set=s).values()) for s in ("old_small", "old_large", "combined")
        }
        assert sampled["combined"] == rows["new"] + sampled["old_small"]
        assert sampled["old_small"] < sampled["old_large"] < rows["old_full"]
        trained = self.examples(task, "train", train_set="full_combined").keys()
        assert not trained & self.examples(task, "test").keys()

    def test_unknown_sets_and_missing_files(self, task: tuple[Task, Path], tmp_path: Path) -> None:
        with pytest.raises(UserError, match="unknown test_set 'test_al'; did you mean test_all"):
            self.examples(task, "test", test_set="test_al")
        with pytest.raises(UserError, match="deep-net preprocessing only"):
            self.examples(task, "test", preprocessing="none")
        reader = ArtemisV2Reader(task[0], tmp_path)
        with pytest.raises(UserError, match=r"expected the folder that holds .*Contrastive.csv"):
            reader.prepare(tmp_path / "a.csv", tmp_path)

    def test_names_in_nfd(self, tmp_path: Path) -> None:
        examples, _ = prepared("artemis-v2", LAYOUTS["artemis-v2"](tmp_path), tmp_path / "data", test_set="test_40")
        assert "Rococo/much-loved_picture" in examples
        everything, _ = prepared(
            "artemis-v2", LAYOUTS["artemis-v2"](tmp_path), tmp_path / "data", train_set="full_combined"
        )
        assert "Rococo/rene\u0301_picture-13" in everything
        assert not any("\u00e9" in id_ for id_ in everything)

    @pytest.fixture(scope="class")
    @staticmethod
    def both(tmp_path_factory: pytest.TempPathFactory) -> Path:
        """The data root of both releases; every third name holds an accent, composed in the csv files."""
        folder = tmp_path_factory.mktemp("both")
        accented = ("d\u00e9", "dz", "dz")
        names = [f"Cubism/{accented[i % 3]}-ann_picture-{i:03}" for i in range(120)]
        header = ("art_style", "painting", "emotion", "utterance", "repetition")
        old, new = v1_rows(names), [(*row, "Cubism/anchor") for row in v1_rows(names[60:], 2)]
        write(folder / "csv" / "artemis_dataset_release_v0.csv", table([header, *old]))
        write(folder / "csv" / "Contrastive.csv", table([(*header, "anchor_painting"), *new]))
        images = paint(folder / "wikiart", [f"{name}.jpg" for name in names])
        for name, file in (("artemis", "csv/artemis_dataset_release_v0.csv"), ("artemis-v2", "csv")):
            task = load_task(builtin_cards()[name])
            open_reader(task, folder / "data").prepare(folder / file, images, progress=False)
        return folder / "data"

    def test_the_split_is_drawn_again_over_names_in_nfd(self, both: Path) -> None:
        """Decomposed accents sort elsewhere; the reference repeats the official calls on sorted NFD names."""
        from sklearn.model_selection import train_test_split

        task = load_task(builtin_cards()["artemis-v2"])
        whole = dataclasses.replace(
            task, options={**task.options, "train_set": "full_combined", "test_set": "test_ref"}
        )
        found = {e.id: e.split for e in ArtemisV2Reader(whole, both).examples()}
        names = sorted(id_.replace("/", "", 1) for id_ in found)
        train, held_out = train_test_split(names, test_size=0.05 + 0.1, random_state=2021)
        _, test = train_test_split(held_out, test_size=round(0.1 * len(names)), random_state=2021)
        assert {id_.replace("/", "", 1) for id_, split in found.items() if split == "train"} == set(train)
        assert {id_.replace("/", "", 1) for id_, split in found.items() if split == "test"} == set(test)
        first = {e.id: e.split for e in open_reader(load_task(builtin_cards()["artemis"]), both).examples()}
        first = {unicodedata.normalize("NFD", id_): split for id_, split in first.items()}
        assert first.keys() == found.keys()
        assert first != found

    def test_a_model_of_the_first_release_is_refused_on_paintings_it_has_seen(
        self, both: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(java, "find_java", lambda: None)
        first, second = (load_task(builtin_cards()[name]) for name in ("artemis", "artemis-v2"))
        seen = {unicodedata.normalize("NFD", e.id) for e in open_reader(first, both).examples("train")}
        tested = [e.id for e in open_reader(second, both).examples("test")]
        overlap = [id_ for id_ in tested if id_ in seen]
        assert 0 < len(overlap) < len(tested)
        command = [
            "run",
            "--tasks",
            "artemis-v2",
            "--data-root",
            str(both),
            "--out",
            str(tmp_path / "run"),
            "--no-report",
        ]
        assert main([*command, "--models", "majority:trained_on=artemis"]) == 2
        told = capsys.readouterr().err
        assert f"trained on {len(overlap)} of the {len(tested)} images of task 'artemis-v2'" in told
        assert overlap[0] in told
        assert main([*command, "--models", "majority:trained_on=artemis,overlap=allow"]) == 0
