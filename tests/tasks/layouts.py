"""Hand-made files in the official layout of every built-in task: (folder) -> (annotations, images, card options).

Texts, names and pictures are made up. Each layout holds the traps that its dataset is known for, and one entry whose
picture is missing.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Sequence
from pathlib import Path

from layout_files import EIGHT, HEADER, NINE, PAINTINGS, Layout, paint, said, table, v1_rows, write

from harness.tasks.loading import builtin_cards, load_task

LAYOUTS: dict[str, Callable[[Path], Layout]] = {}


def layout(name: str) -> Callable[[Callable[[Path], Layout]], Callable[[Path], Layout]]:
    def register(build: Callable[[Path], Layout]) -> Callable[[Path], Layout]:
        LAYOUTS[name] = build
        return build

    return register


@layout("artemis")
def _artemis(folder: Path) -> Layout:
    images = paint(folder / "wikiart", [f"{name}.jpg" for name in PAINTINGS[1:]])
    return Layout(write(folder / "release.csv", table([HEADER, *v1_rows(PAINTINGS)])), images, 13)


@layout("artemis-v2")
def _artemis_v2(folder: Path) -> Layout:
    """One name is composed in one file and decomposed in the other; one painting has 41 annotations."""
    names = [*PAINTINGS[:-1], "Rococo/ren\u00e9_picture-13"]
    images = paint(folder / "wikiart", [f"{name}.jpg" for name in names[1:]])
    old = v1_rows(names)
    old += [("Rococo", "much-loved_picture", "awe", said(99, k), 41) for k in range(41)]  # type: ignore[list-item]
    paint(images, ["Rococo/much-loved_picture.jpg"])
    new = [(*row, "Rococo/anchor") for row in v1_rows([*names[:-1], "Rococo/rene\u0301_picture-13"], 2)]
    write(folder / "csv" / "artemis_dataset_release_v0.csv", table([HEADER, *old]))
    write(folder / "csv" / "Contrastive.csv", table([(*HEADER, "anchor_painting"), *new]))
    return Layout(folder / "csv", images, 13)


@layout("affection")
def _affection(folder: Path) -> Layout:
    """Columns are a setting: here latin-1 text below two header rows, with a repeated row."""
    rows: list[Sequence[object]] = [("file", "response", ""), ("", "emotion", "text")]
    rows += [
        (f"coco/{i}.jpg", NINE[(i + k) % 9].upper(), f"caf\u00e9 {said(i, k)}") for i in range(14) for k in (0, 1, 1)
    ]
    annotations = write(folder / "affection.csv", table(rows, "\r\n"), "latin-1")
    columns = {"picture": "file", "emotion": "response/emotion", "explanation": "response/text"}
    options = {"columns": columns, "encoding": "latin-1", "header_rows": 2, "val_share": 0.1, "test_share": 0.3}
    return Layout(annotations, paint(folder / "photos", [f"coco/{i}.jpg" for i in range(1, 14)]), 13, options)


@layout("artelingo")
def _artelingo(folder: Path) -> Layout:
    """The label `other`, three languages, a repeated row."""
    texts = {"english": "the calm sea", "arabic": "البحر هادئ", "chinese": "海 很 平静"}
    rows: list[Sequence[object]] = [("language", "emotion", "utterance", "art_style", "painting", "split")]
    for i, painting in enumerate(PAINTINGS[:6]):
        style, name = painting.split("/")
        for language, text in texts.items():
            row = (
                language,
                ["other", "awe", "fear"][i % 3],
                f"{text} {i}",
                style,
                name,
                ["train", "test", "val"][i % 3],
            )
            rows += [row, row, (language, "Contentment", f"{text} again {i}", *row[3:])]
    images = paint(folder / "wikiart", [f"{name}.jpg" for name in PAINTINGS[1:6]])
    return Layout(write(folder / "artelingo.csv", table(rows)), images, 15)


def dialogue(i: int, **changes: object) -> dict[str, object]:
    return {
        "img_src": f"Cubism/p{i}.jpg",
        "emotion1": "awe", "emotion2": "fear", "caption1": "a storm", "caption2": "a harbour",
        "conversation": ["is it dark?", "a little"],
        "emotion_before": "Fear", "explanation_before": "the storm", "corrected_explanation_before": "the black storm",
        "emotion_after": "awe", "explanation_after": "the ligth", "corrected_explanation_after": "the light",
        "answerer_emotion": "sadness", "answerer_explanation": "NA",
    } | changes  # fmt: skip


@layout("affectvisdial")
def _affectvisdial(folder: Path) -> Layout:
    """The same feeling before and after, a correction that is NaN, a dialogue without emotion."""
    dialogues = {
        "train": [dialogue(0), dialogue(1)],
        "val": [dialogue(2)],
        "test": [
            dialogue(3, emotion_after="Fear"),
            dialogue(4, corrected_explanation_after=float("nan")),
            dialogue(5, emotion_after=""),
            dialogue(6),
        ],
    }
    for split, found in dialogues.items():
        (folder / "pkl").mkdir(parents=True, exist_ok=True)
        (folder / "pkl" / f"{split}_data.pkl").write_bytes(pickle.dumps(found))
    return Layout(folder / "pkl", paint(folder / "wikiart", [f"Cubism/p{i}.jpg" for i in range(6)]), 5)


@layout("socratis")
def _socratis(folder: Path) -> Layout:
    """Lists and texts side by side, words in the table and not, demographics missing."""
    pairs = {
        f"pair-{i}": [
            [f"pics/{i}.jpg", f"caption {i}", ["Amazed", "happy"], [said(i, 0), said(i, 1)], {"age": "30"}],
            [f"pics/{i}.jpg", f"caption {i}", "['scared', 'sad']", said(i, 2)],
        ]
        for i in range(12)
    }
    annotations = write(folder / "imCaptionEmotionExplanation_formatted.json", json.dumps(pairs))
    return Layout(annotations, paint(folder / "images", [f"pics/{i}.jpg" for i in range(1, 12)]), 11)


@layout("emer")
def _emer(folder: Path) -> Layout:
    """Videos: nothing is looked for."""
    rows: list[Sequence[object]] = [("names", "emotions", "subtitles", "reasons")]
    rows += [(f"sample_{i}", ["angry", "happy", "sad"][i % 3], "", f"He said, {said(i, 0)}.") for i in range(6)]
    return Layout(write(folder / "gt-eng.csv", table(rows)), folder, 6)


@layout("feelingblue")
def _feelingblue(folder: Path) -> Layout:
    """Choices of the least emotional picture, and a picture that is in no list."""
    columns = ["task_id", "emotion", "annotator", "min/max", "selected_image_id", "rationale"]
    columns += [f"image{i}_id" for i in (1, 2, 3, 4)] + [f"image{i}_filename" for i in (1, 2, 3, 4)]
    ids = list(range(8))
    rows: list[Sequence[object]] = [columns]
    for i in ids:
        four = [(i + k) % 8 for k in range(4)]
        for emotion, way in (("anger", "MAX"), ("sadness", "MAX"), ("fear", "MIN")):
            rows.append((f"t{i}", emotion, f"a{i}", way, four[0], said(i, 0), *four, *[f"blue-{k}.jpg" for k in four]))
    lists = {
        "train": [f"blue-{i}.jpg" for i in (0, 1, 2)],
        "valid": ["blue-3.jpg"],
        "test": [f"blue-{i}.jpg" for i in (4, 5, 6)],
    }
    write(folder / "feelingblue_splits.json", json.dumps(lists))
    annotations = write(folder / "feelingblue.csv", table(rows))
    return Layout(annotations, paint(folder / "wikiart", [f"deviant/blue-{i}.jpg" for i in ids[1:]]), 6)


@layout("emoset")
def _emoset(folder: Path) -> Layout:
    """Missing attributes, a list of objects, a number as attribute, an attribute file that is gone."""
    for split, count in (("train", 8), ("val", 2), ("test", 4)):
        listed = []
        for i in range(count):
            name = f"{EIGHT[i]}_{split}_{i}"
            listed.append([EIGHT[i], name, f"image/{EIGHT[i]}/{name}.jpg", f"annotation/{EIGHT[i]}/{name}.json"])
            attributes = {"image_id": name, "emotion": EIGHT[i], "brightness": i / 10}
            attributes |= {"object": ["Tree", "Dog"], "facial_expression": "happy"} if i % 2 else {"scene": -1}
            if (split, i) != ("val", 0):
                write(folder / listed[-1][3], json.dumps(attributes))
        write(folder / f"{split}.json", json.dumps(listed))
        paint(folder, [item[2] for item in listed[split == "test" :]])
    return Layout(folder, folder, 13)


@layout("fi")
def _fi(folder: Path) -> Layout:
    """Folders named with capitals, a file that is no picture."""
    write(folder / "Awe" / "thumbs.db", "x")
    paint(folder, [f"{label.capitalize()}/{label}_{i}.jpg" for label in EIGHT for i in range(5)])
    return Layout(folder, folder, 40, {"val_share": 0.2, "test_share": 0.2, "stratify": True})


@layout("emo8")
def _emo8(folder: Path) -> Layout:
    paint(
        folder,
        [f"{split}/{label}/{split}{i}.png" for split in ("train", "val", "test") for i, label in enumerate(EIGHT)],
    )
    return Layout(folder, folder, 24)


@layout("findingemo")
def _findingemo(folder: Path) -> Layout:
    """Capitals, leading slashes, blanks and commas in names, a repeated row, a second person for one picture."""
    header = [
        "index",
        "user",
        "image_path",
        "tags",
        "age",
        "valence",
        "arousal",
        "emotion",
        "dec_factors",
        "ambiguity",
        "datetime",
    ]
    rows: list[Sequence[object]] = [header]
    for i in range(14):
        label = ["Joy", "Grief", "Interest"][i % 3]
        row = (i, "u", f"/Run_1/Happy, toddlers/{i}.jpg", "Undefined", "Adults", i % 7 - 3, i % 7, label, "", 0, "2023")
        rows += [row, row] if i == 2 else [row]
    rows.append((99, "v", "/Run_1/Happy, toddlers/3.jpg", "Undefined", "Adults", 3, 0, "Trust", "", 0, "2023"))
    annotations = write(folder / "annotations_single.ann", table(rows))
    return Layout(annotations, paint(folder / "pics", [f"Run_1/Happy, toddlers/{i}.jpg" for i in range(1, 14)]), 13)


@layout("dvisa")
def _dvisa(folder: Path) -> Layout:
    """Lists written as text, a repeated row; pictures lie in folders of their style."""
    rows: list[Sequence[object]] = [("artwork", "final_emo", "final_vad")]
    rows += [
        (f"an-artist_work-{i}.jpg", EIGHT[i % 8], f"[{i / 20}, 0.30000000000000004, {1 - i / 20}]") for i in range(14)
    ]
    annotations = write(folder / "D-ViSA.csv", table([*rows, rows[3]]))
    return Layout(annotations, paint(folder / "wikiart", [f"Cubism/an-artist_work-{i}.jpg" for i in range(1, 14)]), 13)


@layout("oasis")
def _oasis(folder: Path) -> Layout:
    """Bare carriage returns, a first column without a name, a theme that ends in a blank."""
    rows: list[Sequence[object]] = [
        (
            "",
            "Theme",
            "Category",
            "Source",
            "Valence_mean",
            "Valence_SD",
            "Valence_N",
            "Arousal_mean",
            "Arousal_SD",
            "Arousal_N",
        )
    ]
    for i in range(14):
        theme = f"Fence {i}" + (" " if i == 3 else "")
        rows.append((f"I{i}", theme, ["Object", "Animal"][i % 2], "Pixabay", 1 + i * 0.4, 1, 100, 6 - i * 0.3, 1, 101))
    annotations = write(folder / "OASIS.csv", table(rows, "\r"))
    return Layout(annotations, paint(folder / "images", [f"Fence {i}.jpg" for i in range(1, 14)]), 13)


@layout("wikiart-emotions")
def _wikiart_emotions(folder: Path) -> Layout:
    """Tab-separated; an artwork with two emotions, one with none."""
    labels = sorted(load_task(builtin_cards()["wikiart-emotions"]).emotions)
    scenarios = ("Art (image+title)", "ImageOnly", "TitleOnly")
    header = ["ID", "Style", "Category", "Artist", "Title", "Year", "Is painting", "Face/body", "Ave. art rating"]
    header += [f"{scenario}: {label}" for scenario in scenarios for label in labels]
    rows: list[Sequence[object]] = [header]
    for i in range(14):
        image = [int(k == i % 3 or (i == 5 and k == 7)) if i != 6 else 0 for k in range(20)]
        rows.append(
            (
                f"id{i}",
                "Modern Art",
                "Cubism,Realism",
                "Ann",
                'A "title"',
                1900,
                "yes",
                "none",
                0.5,
                *[0] * 20,
                *image,
                *[1] * 20,
            )
        )
    annotations = write(folder / "WikiArt-Emotions-Ag4.tsv", table(rows, delimiter="\t"))
    return Layout(annotations, paint(folder / "pics", [f"id{i}.jpg" for i in range(1, 14)]), 12)


@layout("artemis-balanced")
def _artemis_balanced(folder: Path) -> Layout:
    """Lists side by side, backslashes in paths, `something else` among the annotations, a tie."""
    records = []
    for i, painting in enumerate(PAINTINGS[:9]):
        style, name = painting.split("/")
        feelings = [EIGHT[i % 8], EIGHT[i % 8], "something else", EIGHT[(i + 1) % 8]]
        records.append(
            {
                "img_path": f".\\images\\{i}.jpg",
                "art_style": style,
                "painting": name,
                "emotion": feelings,
                "utterance": [said(i, k) for k in range(4)],
                "dominant": 1.0,
                "dominant_emotion": EIGHT[i % 8],
            }
        )
    images = paint(folder / "wikiart", [f"{name}.jpg" for name in PAINTINGS[1:9]])
    return Layout(write(folder / "test_ArtEmis.json", json.dumps(records)), images, 8)


@layout("artphoto")
def _artphoto(folder: Path) -> Layout:
    """`sad` for sadness; images in a sub-folder."""
    names = [f"{label}_{i:04}.jpg" for i, label in enumerate([*EIGHT[:7], "sad"])]
    records = [{"id": i, "emotion": name.split("_")[0], "image_path": name} for i, name in enumerate(names)]
    images = paint(folder / "pics", [f"artphoto/{name}" for name in names[1:]])
    return Layout(write(folder / "test_Artphoto.json", json.dumps(records)), images, 7)


@layout("eemo-bench")
def _eemo_bench(folder: Path) -> Layout:
    """Ranked emotions with scores, ratings as [mean, sd, variance]."""
    ranks = (("joy", 39), ("neutral", 37), ("surprise", 3))
    records = [
        {
            "image_name": f"{i}.jpg",
            "category": ["Animal", "Human"][i % 2],
            "emotion_list": [list(pair) for pair in (ranks if i % 2 else ranks[::-1])],
            "Valence": [1 + i, 0.8, 1.0],
            "Arousal": [4.25, 1.1, 1.7],
            "Dominance": [9.0, 0.6, 1.4],
            "judge_A": {"A": "No", "B": "Yes"},
        }
        for i in range(6)
    ]
    images = paint(folder / "pics", [f"{i}.jpg" for i in range(1, 6)])
    return Layout(write(folder / "Ebench.json", json.dumps(records)), images, 5)


@layout("eibench")
def _eibench(folder: Path) -> Layout:
    """Triggers as a numbered text, labels as folders in two spellings."""
    names = [f"EmoSet-118k/image/sadness/sadness_{i}.jpg" for i in range(3)]
    names += [f"CAER-S/train/Angry/{i}.png" for i in range(2)]
    triggers = {name: f"1. Hand on forehead {i}.\n2. A 2nd thing.\n3. No light" for i, name in enumerate(names)}
    return Layout(write(folder / "truth.json", json.dumps(triggers)), paint(folder / "pics", names[1:]), 4)


@layout("artelingo-28")
def _artelingo_28(folder: Path) -> Layout:
    """Three of its languages."""
    rows: list[Sequence[object]] = [("art_style", "painting", "caption", "emotion", "language", "split")]
    for i, painting in enumerate(PAINTINGS[:4]):
        for language in ("Urdu", "Yoruba", "Korean"):
            rows += [(*painting.split("/"), f"{language} text {i} {k}", "Other", language, "test") for k in (0, 1)]
    images = paint(folder / "wikiart", [f"{name}.jpg" for name in PAINTINGS[1:4]])
    return Layout(write(folder / "artelingo28.csv", table(rows)), images, 9)
