"""Every lexicon layout read back by hand-computed values, and the published look-up rules."""

from __future__ import annotations

import hashlib
import json
import os
import string
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sevlm.config import SEVLMError
from sevlm.vad import KnownLexicon, VADLexicon, known_lexicons, load_lexicon

REPOSITORY = Path(__file__).parents[2]
GOLDEN = Path(__file__).parent / "fixtures" / "sevlm_tiny_A"
DATA = Path(os.environ.get("HARNESS_DEV_DATA", REPOSITORY.parent / "shared" / "data"))

GLASGOW = """Words,Length,AROU,,,VAL,,,DOM,,
,,M,SD,N,M,SD,N,M,SD,N
abbey,5,3.000,2.3,32,9.000,1.2,32,5.000,1.5,33
aim,3,1.000,2.3,33,5.000,1.1,34,7.000,1.5,33
aim (objective),3,4.909,2.340,33,6.382,1.189,34,5.909,2.021,33
"""
WARRINER = """,Word,V.Mean.Sum,V.SD.Sum,A.Mean.Sum,A.SD.Sum,D.Mean.Sum
1,aardvark,7,2.21,1,1.4,5
2,"cash, and carry",5,1,9,1,3
"""


def written(folder: Path, text: str) -> VADLexicon:
    path = folder / "lexicon.txt"
    path.write_text(text, encoding="utf-8")
    return VADLexicon.load(path)


@pytest.mark.parametrize(
    ("text", "name", "expected"),
    [
        ("awe\t0.469\t0.740\t0.300\n", "nrc-vad-0-1", {"awe": (-0.062, 0.48, -0.4)}),
        ("Word\tValence\tArousal\tDominance\nawe\t0.5\t1\t0\n", "nrc-vad-0-1", {"awe": (0, 1, -1)}),
        ("awe\t-0.062\t0.48\t-0.4\n", "nrc-vad-bipolar", {"awe": (-0.062, 0.48, -0.4)}),
        ("term\tvalence\tarousal\tdominance\nin awe\t0.5\t1\t0\n", "nrc-vad-0-1", {"in awe": (0, 1, -1)}),
        ("term\tvalence\tarousal\tdominance\nawe\t0.5\t-0.6\t0\n", "nrc-vad-bipolar", {"awe": (0.5, -0.6, 0)}),
        ("# scale=-1..1\nterm\tvalence\tarousal\tdominance\nawe\t0.5\t1\t0\n", "nrc-vad-bipolar", {"awe": (0.5, 1, 0)}),
        ("Word,Valence,Arousal,Dominance\nawe,0.5,1,0\n", "nrc-vad-0-1", {"awe": (0, 1, -1)}),
        ("Word;Valence;Arousal;Dominance\nawe;0,5;1;0\n", "nrc-vad-0-1", {"awe": (0, 1, -1)}),
        ('"awe"\t0.5\t1\t0\nsea \t0.5\t1\t1\n', "nrc-vad-0-1", {"awe": (0, 1, -1), "sea": (0, 1, 1)}),
        ("word,VAL,AROU,DOM\ncalm,7,3,5\ndark,1,9,5\n", "glasgow", {"calm": (0.5, -0.5, 0), "dark": (-1, 1, 0)}),
        (GLASGOW, "glasgow", {"abbey": (1, -0.5, 0), "aim": (0, -1, 0.5)}),
        (WARRINER, "warriner", {"aardvark": (0.5, -1, 0), "cash, and carry": (0, 1, -0.5)}),
    ],
)
def test_layouts_are_recognised_and_rescaled(
    text: str, name: str, expected: dict[str, tuple[float, ...]], tmp_path: Path
) -> None:
    lexicon = written(tmp_path, text)
    assert lexicon.name == name
    assert set(lexicon.entries) == set(expected)
    for word, values in expected.items():
        assert lexicon.get(word) == pytest.approx(values, abs=1e-9)


def test_vader_measures_valence_only() -> None:
    lexicon = load_lexicon("vader")
    assert lexicon.dimensions == ("valence",)
    assert lexicon.dimensions == ("valence",)
    assert lexicon.get("horrible") == pytest.approx((-2.5 / 4, 0, 0))
    assert len(lexicon) > 7000
    assert all(-1 <= values[0] <= 1 for values in lexicon.entries.values())


def test_published_rules(tmp_path: Path) -> None:
    text = "sea\t-0.5\t0\t0\nSea\t0.9\t0.9\t0.9\nbroken\t0.5\t0.25\nsquare\t0\t0\t0\nsea\t0.1\t0.2\t0.3\n"
    text += "".join(f"word{i}\t0\t0\t0\n" for i in range(100))
    lexicon = written(tmp_path, text)
    assert lexicon.get("sea") == (0.1, 0.2, 0.3)  # the later duplicate
    assert lexicon.get("Sea") == (0.9, 0.9, 0.9)  # case counts
    assert lexicon.get("broken") is None  # three columns
    assert lexicon.get("square") == (0, 0, 0)


def test_lexicon_of_the_golden_fixture() -> None:
    recorded = json.loads((GOLDEN / "lemmas.json").read_text(encoding="utf-8"))
    lexicon = VADLexicon.load(GOLDEN / "vad_lexicon.txt")
    assert len(lexicon) == recorded["lexicon_entries_read"]
    for word, values in recorded["lexicon_probe"].items():
        assert lexicon.get(word) == (None if values is None else tuple(values))


@pytest.mark.data
@pytest.mark.parametrize(
    ("path", "name", "word", "values"),
    [
        ("glasgow_norms/13428_2018_1099_MOESM2_ESM.csv", "glasgow", "abbey", (0.19525, -0.46875, -0.08325)),
        ("warriner2013/Ratings_Warriner_et_al.csv", "warriner", "aardvark", (0.315, -0.6475, -0.1825)),
    ],
)
def test_norms_as_published(path: str, name: str, word: str, values: tuple[float, ...]) -> None:
    if not (DATA / path).is_file():
        pytest.skip(f"no {DATA / path}; set HARNESS_DEV_DATA")
    lexicon = VADLexicon.load(DATA / path)
    assert lexicon.name == name
    assert lexicon.get(word) == pytest.approx(values, abs=1e-6)
    assert len(lexicon) > 4500


words = st.text(string.ascii_letters + "'- éß", min_size=1, max_size=12).filter(lambda w: w.strip() == w)
bipolar = st.floats(-1, 1, allow_nan=False).map(lambda value: round(value, 3))
entries = st.dictionaries(words, st.tuples(bipolar, bipolar, bipolar), min_size=1, max_size=20)


@settings(max_examples=60)
@given(entries=entries, header=st.sampled_from(["", "term\tvalence\tarousal\tdominance\n"]))
def test_bipolar_round_trip(
    entries: dict[str, tuple[float, ...]], header: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    entries = entries | {"anchor": (-0.5, 0.0, 0.0)}  # a headless file is known as bipolar by a negative value
    text = header + "".join(f"{word}\t{v}\t{a}\t{d}\n" for word, (v, a, d) in entries.items())
    lexicon = written(tmp_path_factory.mktemp("round"), text)
    assert dict(lexicon.entries) == entries
    backwards = VADLexicon("other", lexicon.dimensions, dict(reversed(entries.items())))
    assert backwards.fingerprint() == lexicon.fingerprint()


@settings(max_examples=60)
@given(entries=entries)
def test_glasgow_round_trip(entries: dict[str, tuple[float, ...]], tmp_path_factory: pytest.TempPathFactory) -> None:
    rows = "".join(
        f'"{word}",{len(word)},{5 + 4 * a},1,9,{5 + 4 * v},1,9,{5 + 4 * d},1,9\n' for word, (v, a, d) in entries.items()
    )
    lexicon = written(tmp_path_factory.mktemp("round"), "".join(GLASGOW.splitlines(keepends=True)[:2]) + rows)
    assert set(lexicon.entries) == set(entries)
    for word, values in entries.items():
        assert lexicon.get(word) == pytest.approx(values, abs=1e-9)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "no lexicon entry"),
        ("just a sentence\nand another\n", "no lexicon entry"),
        ("awe\t0.469\t0.740\tmuch\n", "line 1: expected a number in -1..1, got 'much'"),
        ("term\tvalence\tarousal\tdominance\nawe\t1.469\t0\t0\n", "line 2: expected a number in -1..1"),
        ("# scale=0..1\nawe\t0.4\t-0.1\t0\n", "scale=0..1, but 'awe' has -0.1"),
        ("# scale=1..9\nawe\t0.4\t0.1\t0\n", "scale=1..9: expected 0..1 or -1..1"),
        ("sea\t0.1\t0\t0\n" + "a b 0.1 0.2\n" * 9, "9 of 10 lines do not have four columns, first line 2: 'a b 0.1"),
        (GLASGOW.replace("9.000", "9.100"), "line 3: expected a number in 1..9"),
        (GLASGOW + "short,5\n", "line 6: expected more than"),
    ],
)
def test_mistakes_name_the_line(text: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(SEVLMError, match=told):
        written(tmp_path, text)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(SEVLMError, match="no lexicon file"):
        load_lexicon(tmp_path / "nothing.txt")


def test_one_lexicon_on_two_scales_has_one_fingerprint(tmp_path: Path) -> None:
    unit = written(tmp_path, "awe\t0.469\t0.740\t0.300\ncalm\t0.875\t0.5\t0.646\n")
    bipolar_scale = written(tmp_path, "calm\t0.750\t0\t0.292\nawe\t-0.062\t0.480\t-0.400\n")
    assert unit.fingerprint() == bipolar_scale.fingerprint()
    other = written(tmp_path, "calm\t0.750\t0\t0.292\nawe\t-0.062\t0.480\t-0.401\n")
    assert other.fingerprint() != unit.fingerprint()


def test_dimensions_are_checked() -> None:
    with pytest.raises(SEVLMError, match="dimensions"):
        VADLexicon("made-up", ("arousal", "valence"), {})


@pytest.mark.parametrize(
    ("name", "data", "expected"),
    [
        ("nrc-vad-0-1", b"calm;0,9;0,1;0,5\njoy;0,98;0,824;0,794\n", {"calm": (0.8, -0.8, 0.0), "joy": (0.96, 0.648, 0.588)}),
        ("nrc-vad-0-1", "calm\t0.9\t0.1\t0.5\n".encode("utf-16"), {"calm": (0.8, -0.8, 0.0)}),
        ("glasgow", b"Words;VAL;AROU;DOM\ncalm;9;1;5,5\n", {"calm": (1.0, -1.0, 0.125)}),
        ("warriner", b"\tWord\tV.Mean.Sum\tA.Mean.Sum\tD.Mean.Sum\n1\tcalm\t9\t1\t5\n", {"calm": (1.0, -1.0, 0.0)}),
    ],
)  # fmt: skip
def test_other_delimiters_decimal_commas_and_utf_16(
    tmp_path: Path, name: str, data: bytes, expected: dict[str, tuple[float, float, float]]
) -> None:
    path = tmp_path / "saved.txt"
    path.write_bytes(data)
    found = load_lexicon(path)
    assert found.name == name
    assert found.entries == {word: pytest.approx(values) for word, values in expected.items()}


def test_a_known_file_is_read_by_its_checksum(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "happy.txt"
    path.write_text("joy\t0.96\t0.648\t0.588\n", encoding="utf-8")
    assert load_lexicon(path).recognised == "scale 0..1, known by its values"
    checksum = hashlib.sha256(path.read_bytes()).hexdigest()
    happy = KnownLexicon("Happy words", "nrc-vad", "-1..1", 1, "2026-11-29")
    monkeypatch.setitem(known_lexicons(), checksum, happy)
    found = load_lexicon(path)
    assert (found.name, found.entries) == ("nrc-vad-bipolar", {"joy": (0.96, 0.648, 0.588)})
    assert found.recognised == "scale -1..1, known by its checksum: Happy words"
    assert load_lexicon(f"{path}:scale=-1..1").entries == found.entries
    with pytest.raises(SEVLMError, match=r"scale=0\.\.1: this is Happy words, which is on -1\.\.1"):
        load_lexicon(f"{path}:scale=0..1")


def test_a_json_object_is_read_only_where_its_checksum_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "words.json"
    path.write_text('{"joy": [9, 5, 7], "gloom": [1, 3, 5]}', encoding="utf-8")
    with pytest.raises(SEVLMError, match="no lexicon entry was read"):
        load_lexicon(path)
    checksum = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setitem(known_lexicons(), checksum, KnownLexicon("Words", "json", "1..9", 2, "2026-11-29"))
    assert load_lexicon(path).entries == {"joy": (1, 0, 0.5), "gloom": (-1, -0.5, 0)}


@pytest.mark.parametrize("known", known_lexicons().values(), ids=lambda known: known.name.split()[0])
def test_known_files_have_the_words_and_the_scale_of_the_table(known: KnownLexicon) -> None:
    checksum = next(key for key, value in known_lexicons().items() if value == known)
    vader = Path(find_spec("vaderSentiment").origin).with_name("vader_lexicon.txt")
    files = [vader, *(p for p in DATA.glob("*/*") if p.suffix in (".csv", ".json") and p.stat().st_size < 5_000_000)]
    path = next((p for p in files if hashlib.sha256(p.read_bytes()).hexdigest() == checksum), None)
    if path is None:
        pytest.skip(f"{known.name} is not at hand; set HARNESS_DEV_DATA")
    lexicon = load_lexicon(path)
    assert len(lexicon) == known.words
    assert lexicon.recognised == f"scale {known.scale}, known by its checksum: {known.name}"


def test_other_files_say_what_told_their_scale(tmp_path: Path) -> None:
    assert written(tmp_path, GLASGOW).recognised == "scale 1..9, known by its columns"
    assert written(tmp_path, "# scale=-1..1\nawe\t0.5\t1\t0\n").recognised == "scale -1..1, known by what was said"
    with pytest.raises(SEVLMError, match=r"scale=0\.\.1: a file of the layout glasgow has a scale of its own"):
        written(tmp_path, f"# scale=0..1\n{GLASGOW}")


def test_a_scale_that_the_values_do_not_tell_may_be_named(tmp_path: Path) -> None:
    path = tmp_path / "happy.txt"
    path.write_text("joy\t0.96\t0.648\t0.588\n", encoding="utf-8")
    assert load_lexicon(path).entries["joy"] == pytest.approx((0.92, 0.296, 0.176))
    named = load_lexicon(f"{path}:scale=-1..1")
    assert (named.name, named.entries["joy"]) == ("nrc-vad-bipolar", (0.96, 0.648, 0.588))
    assert load_lexicon(f"{path}:scale=0..1").fingerprint() == load_lexicon(path).fingerprint()
    with pytest.raises(SEVLMError, match=r"scale=1\.\.9: expected 0\.\.1 or -1\.\.1"):
        load_lexicon(f"{path}:scale=1..9")
