"""The readers on real files, where they are at hand; counts are facts of those files."""

from __future__ import annotations

import dataclasses
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from harness.plan.contamination import image_key
from harness.plan.registry import open_reader
from harness.tasks.loading import builtin_cards, load_task
from harness.tasks.readers.base import Reader

pytestmark = pytest.mark.data


def reader_of(name: str, root: Path, **options: Any) -> Reader:
    task = load_task(builtin_cards()[name])
    return open_reader(dataclasses.replace(task, options={**task.options, **options}), root)


def test_dvisa_with_the_pictures_that_artemis_shares(development_data: Path, tmp_path: Path) -> None:
    reader = reader_of("dvisa", tmp_path)
    images = development_data / "artemis" / "images"
    counts = reader.prepare(development_data / "dvisa" / "D-ViSA.csv", images, progress=False).counts()
    assert (counts["entries"], counts["images missing"], counts["examples"]) == (2_782, 2_592, 190)
    known = {
        image_key(dataclasses.replace(e, image=path)) for e in [next(reader.examples())] for path in images.glob("*/*")
    }
    assert all(image_key(example) in known for example in reader.examples())


def test_oasis(development_data: Path, tmp_path: Path) -> None:
    reader = reader_of("oasis", tmp_path)
    folder = development_data / "oasis"
    counts = reader.prepare(folder / "OASIS.csv", folder / "images", progress=False).counts()
    assert (counts["entries"], counts["examples"], counts["images corrupt"]) == (900, 135, 0)
    acorns = next(e for e in reader.examples() if e.id == "Acorns 2")
    assert acorns.ratings == {"valence": 4.519607843, "arousal": 2.227722772}
    assert acorns.meta == {"category": "Object"}


def test_findingemo_labels(tmp_path: Path) -> None:
    found = find_spec("findingemo_light")
    if found is None or found.origin is None:
        pytest.skip("the package findingemo-light is not installed")
    reader = reader_of("findingemo", tmp_path, without_pictures=True)
    annotations = Path(found.origin).parent / "data" / "annotations_single.ann"
    counts = reader.prepare(annotations, tmp_path, progress=False).counts()
    assert (counts["entries"], counts["annotated joy"], counts["annotated loathing"]) == (25_869, 3_971, 165)


def test_artemis_balanced(development_data: Path, tmp_path: Path) -> None:
    folder = development_data / "artemis_dominant"
    if not folder.is_dir():
        pytest.skip("no artemis_dominant")
    reader = reader_of("artemis-balanced", tmp_path)
    counts = reader.prepare(folder / "test_ArtEmis.json", folder / "images", progress=False).counts()
    assert (counts["entries"], counts["examples"], counts["images corrupt"]) == (1_628, 645, 0)
    assert reader.splits() == {"test": 645}


@pytest.mark.parametrize(
    ("name", "file", "entries", "checked"),
    [
        ("eemo-bench", "eemo_bench/Ebench_1_data(jac_en_check).json", 1_960, {}),
        ("artphoto", "eemo_bench/test_Artphoto.json", 806, {"annotated sadness": 166, "annotated anger": 77}),
        ("eibench", "eibench/basic_ground_truth.json", 1_615, {}),
    ],
)
def test_lists_of_newer_benchmarks(
    name: str, file: str, entries: int, checked: dict[str, int], development_data: Path, tmp_path: Path
) -> None:
    if not (development_data / file).is_file():
        pytest.skip(f"no {file}")
    reader = reader_of(name, tmp_path, without_images=True)
    counts = reader.prepare(development_data / file, tmp_path, progress=False).counts()
    assert (counts["entries"], counts["examples"]) == (entries, entries)
    assert {key: counts[key] for key in checked} == checked
    for example in reader.examples():
        for dimension, (low, high) in reader.task.ratings.items():
            assert low <= example.ratings[dimension] <= high
