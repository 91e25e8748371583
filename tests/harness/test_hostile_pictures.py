"""Every hostile picture ends in an answer or a recorded failure: no crash, no hang, no file outside, no gigabytes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hostile_pictures import Hostile, corpus, encoded, noise
from peak_memory import GIGABYTE_KIB, PEAK_KIB
from PIL import Image

from harness.adapters.endpoint_images import data_url
from harness.images import max_pixels, open_image
from harness.tasks.readers.image_files import image_problem
from harness.types import ImageError, UserError

pytestmark = pytest.mark.slow

SECONDS = 60.0
RUN = f"import sys\nfrom harness.cli import main\ncode = main(sys.argv[1:])\nprint({PEAK_KIB})\nsys.exit(code)"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, Hostile]:
    folder = tmp_path_factory.mktemp("hostile")
    files = {folder / hostile.name: hostile for hostile in corpus()}
    assert len(files) >= 40
    for path, hostile in files.items():
        path.write_bytes(hostile.content)
    return files


def test_a_run_over_all_of_them(pictures: dict[Path, Hostile], adapter_file: Path, tmp_path: Path) -> None:
    said = [{"emotion": "joy", "explanation": "it is a picture"}]
    lines = [{"id": path.name, "image": path.name, "annotations": said} for path in pictures]
    folder = next(iter(pictures)).parent
    (folder / "examples.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    card = folder / "hostile.yaml"
    card.write_text(
        "name: hostile\ndataset: jsonl\nemotions: [joy, fear]\noptions: {examples: examples.jsonl}\nmetrics: [accuracy]\n"
    )
    before = set(folder.iterdir())
    words = ["run", "--tasks", card, "--adapter", f"brightness={adapter_file}:Brightness", "--models", "brightness"]
    command = [sys.executable, "-c", RUN, *map(str, words), "--out", "run", "--max-error-rate", "1"]
    done = subprocess.run(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Traceback" not in done.stdout
    assert int(done.stdout.splitlines()[-1]) < GIGABYTE_KIB
    outcomes = [json.loads(line) for line in (tmp_path / "run/outcomes/hostile/brightness.jsonl").open()]
    assert {outcome["id"] for outcome in outcomes} == {path.name for path in pictures}
    for outcome in outcomes:
        hostile = pictures[folder / outcome["id"]]
        assert outcome["usage"]["latency_s"] < SECONDS, outcome
        if hostile.says != "open":
            assert outcome["kind"] == ("answer" if hostile.readable else "failed"), outcome
        if outcome["kind"] == "failed":
            assert outcome["error"]["type"] == "ImageError", outcome
            assert "\n" not in outcome["error"]["message"]
    assert (tmp_path / "run/report/index.html").is_file()
    assert set(folder.iterdir()) == before
    assert not Path("/tmp/written").exists()


def test_each_is_decoded_or_refused_with_its_reason(pictures: dict[Path, Hostile]) -> None:
    for path, hostile in pictures.items():
        started = time.monotonic()
        try:
            assert open_image(path).mode == "RGB"
            readable, reason = True, ""
        except ImageError as error:
            readable, reason = False, str(error)
        assert time.monotonic() - started < SECONDS, path.name
        if hostile.says != "open":
            assert (readable, hostile.says in reason) == (hostile.readable, True), (path.name, reason)
        assert (image_problem(path) is None) == readable, path.name


def test_endpoints_refuse_the_same(pictures: dict[Path, Hostile]) -> None:
    for path, hostile in pictures.items():
        if hostile.name != "allowed.png":  # takes a second each time
            assert hostile.says == "open" or _works(data_url, path, 512) == hostile.readable, path.name


def _works(opening: object, *arguments: object) -> bool:
    try:
        opening(*arguments)  # type: ignore[operator]
    except ImageError:
        return False
    return True


def test_sixteen_bits_keep_their_brightness(pictures: dict[Path, Hostile]) -> None:
    (path,) = (path for path in pictures if path.name == "sixteen.png")
    assert open_image(path).getpixel((3, 3)) == (128, 128, 128)


def test_turned_pictures_stand_upright_like_pillow_says(tmp_path: Path) -> None:
    from PIL import ImageOps

    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        path = tmp_path / f"{orientation}.png"
        path.write_bytes(encoded("PNG", noise(7, 5), exif=exif))
        with Image.open(path) as picture:
            expected = ImageOps.exif_transpose(picture).convert("RGB")
        assert open_image(path).tobytes() == expected.tobytes(), orientation


def test_a_pipe_is_no_picture(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(ImageError, match="not a regular file"):
        open_image(tmp_path / "pipe.png")


def test_a_file_of_absurd_length_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "long.png"
    path.write_bytes(encoded("PNG"))
    os.truncate(path, 50_000_000_000)  # a hole: it takes no disk
    with pytest.raises(ImageError, match="bytes exceed the limit"):
        data_url(path, 512)


def test_the_limit_is_a_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.png").write_bytes(encoded("PNG", noise(40, 50)))
    monkeypatch.setenv("HARNESS_MAX_PIXELS", "1999")
    with pytest.raises(ImageError, match="40x50 pixels exceed the limit of 1999"):
        open_image(tmp_path / "a.png")
    monkeypatch.setenv("HARNESS_MAX_PIXELS", "many")
    with pytest.raises(UserError, match="expected a positive whole number"):
        max_pixels()
