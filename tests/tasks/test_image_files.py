from __future__ import annotations

import json
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.tasks.readers.image_files import AS_WRITTEN, candidates, image_names, inside, locate, official_attempts
from harness.types import UserError

ACCENTED = "Cubism/andré-lhote_l-escale-1913.jpg"


def test_official_attempts_equal_the_official_code(golden_a: Path) -> None:
    golden: dict[str, list[str]] = json.loads((golden_a / "file_names.json").read_text("utf-8"))
    assert len(golden) == 6
    for name, attempts in golden.items():
        expected = [attempt.removeprefix("<folder>/") for attempt in attempts]
        assert list(official_attempts(name)) == expected
        tried = [candidate.name for candidate in candidates(name)]
        assert tried[0] == expected[0]
        assert expected[1] in tried


@pytest.mark.parametrize(
    ("on_disk", "repair"),
    [
        (ACCENTED, AS_WRITTEN),
        (unicodedata.normalize("NFD", ACCENTED), "decomposed accents"),
        ("Cubism/andr#U00e9-lhote_l-escale-1913.jpg", "#U escapes"),
        ("Cubism/andrÃ©-lhote_l-escale-1913.jpg", "wrong encoding, then as is"),
        ("Cubism/andrã©-lhote_l-escale-1913.jpg".lower().replace("cubism", "Cubism"), "wrong encoding"),
        ("Cubism/andr\u00c3\u0083\u00c2\u00a9-lhote_l-escale-1913.jpg", "wrong encoding twice, then as is"),
    ],
)
def test_an_accent_is_found_however_it_was_garbled(on_disk: str, repair: str) -> None:
    located = locate(ACCENTED, {on_disk})
    if repair == "wrong encoding":  # the release lower-cased whole paths below the style folder
        located = locate(ACCENTED.replace("Cubism/", ""), {on_disk.replace("Cubism/", "")})
    assert located is not None
    assert located.repair.startswith(repair)


@pytest.mark.parametrize(
    ("in_release", "on_disk"),
    [
        ("joaquã\xadn-sorolla_excerpts.jpg", "joaquín-sorolla_excerpts.jpg"),
        ("joaquã\xadn-sorolla_excerpts.jpg", "joaqu#U00edn-sorolla_excerpts.jpg"),
        ("joaquã\xadn-sorolla_excerpts.jpg", unicodedata.normalize("NFD", "joaquín-sorolla_excerpts.jpg")),
        ("georges-lacombeâ\xa0_some-waves.jpg", "georges-lacombe\xa0_some-waves.jpg"),
        ("andrÃ\x83Â©.jpg", "andré.jpg"),
        ("本-1.jpg", "#U672c-1.jpg"),
    ],
)
def test_names_garbled_in_the_release(in_release: str, on_disk: str) -> None:
    located = locate(in_release, {on_disk, "other.jpg"})
    assert located is not None
    assert located.name == on_disk


def test_absent_is_none_and_ascii_has_one_spelling() -> None:
    assert locate("a/b.jpg", {"a/c.jpg"}) is None
    assert [candidate.name for candidate in candidates("a/b.jpg")] == ["a/b.jpg"]


@given(st.text(max_size=20))
def test_any_name_is_tried_as_written_first_and_nothing_twice(name: str) -> None:
    tried = [candidate.name for candidate in candidates(name)]
    assert tried[0] == name
    assert len(tried) == len(set(tried))
    assert name.isascii() or set(official_attempts(name)) <= set(tried)


@given(st.text(st.characters(min_codepoint=0xA1, max_codepoint=0x17F), min_size=1, max_size=8))
def test_mojibake_once_and_twice_is_undone(name: str) -> None:
    once = name.encode().decode("latin-1")
    twice = once.encode().decode("latin-1")
    for garbled in (once, twice):
        assert name in {candidate.name for candidate in candidates(garbled)}


class TestInside:
    @pytest.mark.parametrize("name", ["", "../x.jpg", "a/../../x.jpg", "/etc/passwd", "a/..", "x\0.jpg"])
    def test_ways_out(self, tmp_path: Path, name: str) -> None:
        with pytest.raises(UserError, match="image folder"):
            inside(tmp_path, name)

    def test_links(self, tmp_path: Path) -> None:
        root = tmp_path / "root"
        (root / "a").mkdir(parents=True)
        (tmp_path / "secret.jpg").write_bytes(b"x")
        (root / "out.jpg").symlink_to(tmp_path / "secret.jpg")
        (root / "a" / "real.jpg").write_bytes(b"x")
        (root / "in.jpg").symlink_to(root / "a" / "real.jpg")
        assert inside(root, "in.jpg") == root / "in.jpg"
        with pytest.raises(UserError, match="leaves the image folder"):
            inside(root, "out.jpg")

    def test_a_linked_root_is_fine_but_a_linked_style_folder_is_not(self, tmp_path: Path) -> None:
        (tmp_path / "real" / "Cubism").mkdir(parents=True)
        (tmp_path / "real" / "Cubism" / "x.jpg").write_bytes(b"x")
        (tmp_path / "root").symlink_to(tmp_path / "real")
        assert image_names(tmp_path / "root") == {"Cubism/x.jpg"}
        (tmp_path / "elsewhere").mkdir()
        (tmp_path / "real" / "Rococo").symlink_to(tmp_path / "elsewhere")
        with pytest.raises(UserError, match="leaves the image folder"):
            image_names(tmp_path / "root")
