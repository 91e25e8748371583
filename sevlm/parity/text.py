"""Tokenizer files, training captions, look-ups and the batch made of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from sevlm.lemmatizer import IdentityLemmatizer, NLTKLemmatizer
from sevlm.parity.decoding import EMOTIONS
from sevlm.parity.fixture import Fixture
from sevlm.parity.report import Report
from sevlm.tokenization import (
    ADDED_TOKENS,
    BECAUSE_TOKEN,
    END_TOKEN,
    EncodedCaption,
    Tokenizer,
    because_id,
    decode,
    encode_caption,
    encode_prompt,
    lookup_words,
    special_ids,
)
from sevlm.vad_lookup import VADLookup

_CAPTIONS = ("emotions", "explanations", "image_name")
_ORIGIN, _IMAGE = "origin_emotion_distribution", "image_emotion_distribution"


def compare_tokenization(fixture: Fixture, report: Report) -> None:
    """`tokenization.json`: captions of `data_train.json`, prompts, special ids and odd strings."""
    expected = fixture.json("tokenization.json")
    tokenizer = fixture.model.tokenizer
    specials = dict(zip((END_TOKEN, *ADDED_TOKENS), special_ids(tokenizer), strict=True))
    specials[BECAUSE_TOKEN] = because_id(tokenizer)
    report.equal("tokenization.json special_ids", specials, expected["special_ids"])
    train = fixture.json("data_train.json")
    for index, item in enumerate(expected["train_items"]):
        name = f"tokenization.json train_items[{index}]"
        _compare_train_item(fixture, report, name, item, train[item["data_id"]])
    _compare_eval_items(fixture, report, expected["eval_items"])
    for index, case in enumerate(expected["strings"]):
        got = _string_case(tokenizer, fixture, case["text"])
        report.equal(f"tokenization.json strings[{index}]", got, case)
    _compare_anchor_order(report, expected["anchor_order_single_process"], train, expected["train_items"])


def _compare_train_item(
    fixture: Fixture, report: Report, name: str, item: Mapping[str, Any], sample: Mapping[str, Any]
) -> None:
    indices = (item["anchor_index"], item["second_index"])
    captions = [(sample["emotions"][i], sample["explanations"][i]) for i in indices]
    got = []
    for emotion, explanation in captions:
        encoded = encode_caption(fixture.model.tokenizer, fixture.model.config, emotion, explanation)
        got.append({"emotion": emotion, "explanation": explanation} | _row(fixture, encoded))
    report.equal(name, got, item["rows"])


def _row(fixture: Fixture, encoded: EncodedCaption) -> dict[str, Any]:
    tokenizer = fixture.model.tokenizer
    assert tokenizer is not None  # the importer loads it
    return {
        "tokens": tokenizer.convert_ids_to_tokens(list(encoded.input_ids)),
        "input_ids": list(encoded.input_ids),
        "labels": list(encoded.labels),
        "segment_ids": list(encoded.segment_ids),
        "words_for_vad": list(encoded.words),
    }


def _compare_eval_items(fixture: Fixture, report: Report, items: Sequence[Mapping[str, Any]]) -> None:
    row = _row(fixture, encode_prompt(fixture.model.tokenizer, fixture.model.config))
    prompt = {key: row[key] for key in ("input_ids", "segment_ids", "words_for_vad")}
    got = [{"data_id": key, **prompt, "image_id_tensor": [int(key)]} for key in fixture.json("data_val.json")]
    report.equal("tokenization.json eval_items", got, list(items))


def _string_case(tokenizer: Tokenizer, fixture: Fixture, text: str) -> dict[str, Any]:
    ids = tokenizer.encode(text, add_special_tokens=False)
    return {
        "text": text,
        "tokens": tokenizer.convert_ids_to_tokens(ids),
        "ids": ids,
        "decoded": decode(tokenizer, ids),
        "single_token_decodes": lookup_words(tokenizer, fixture.model.config, ids),
    }


def _compare_anchor_order(
    report: Report, expected: Mapping[str, Any], train: Mapping[str, Any], items: Sequence[Mapping[str, Any]]
) -> None:
    """The released loader in one process: anchors walk backwards, the partner is drawn among other emotions."""
    report.equal("tokenization.json anchor_order pictures", list(expected), list(train))
    for key, order in expected.items():
        emotions = train[key]["emotions"]
        calls = len(order["anchor_index_of_successive_calls"])
        anchors = [(len(emotions) - 1 - call) % len(emotions) for call in range(calls)]
        name = f"tokenization.json anchor_order[{key}]"
        report.equal(name, anchors, order["anchor_index_of_successive_calls"])
        others = [[i for i, e in enumerate(emotions) if e not in emotions[anchor]] for anchor in anchors]
        drawn = order["second_randint_low_high_used"]
        in_range = all(
            low == 0 and high == len(other) - 1 and low <= used <= high
            for (low, high, used), other in zip(drawn, others, strict=True)
        )
        report.check(f"{name} randint", in_range, f"ranges {drawn} do not fit the captions")
        pairs = [[i["anchor_index"], i["second_index"]] for i in items if i["data_id"] == key]
        seconds = [other[used] for (_, _, used), other in zip(drawn, others, strict=True)]
        report.equal(f"{name} pairs", pairs, [list(p) for p in zip(anchors, seconds, strict=True)][: len(pairs)])


def compare_lookups(fixture: Fixture, report: Report, nltk: NLTKLemmatizer | None) -> None:
    """`vad_lexicon.txt` and `lemmas.json`; tags and lemmas only where NLTK's data is installed."""
    lexicon, expected = fixture.lexicon, fixture.json("lemmas.json")
    report.equal("vad_lexicon.txt entries", len(lexicon), expected["lexicon_entries_read"])
    probe = {word: lexicon.get(word) for word in expected["lexicon_probe"]}
    got = {word: None if values is None else list(values) for word, values in probe.items()}
    report.equal("lemmas.json lexicon_probe", got, expected["lexicon_probe"])
    rows = [row["words_for_vad"] for i in fixture.json("tokenization.json")["train_items"] for row in i["rows"]]
    rows += fixture.settings["lemma_extra"]
    known = [row for row in expected["rows"] if row["words"] in rows]
    report.equal("lemmas.json words", len(known), len(expected["rows"]))
    lemma: dict[tuple[str, str], set[str]] = {}
    for row in expected["rows"]:
        for word, tag, form in zip(row["words"], row["pos"], row["lemmas"], strict=True):
            lemma.setdefault((word, tag), set()).add(form)
    unsure = {key: forms for key, forms in lemma.items() if len(forms) > 1}
    report.check("lemmas.json (word, tag) has one lemma", not unsure, f"several: {unsure}")
    lookup = VADLookup(lexicon, IdentityLemmatizer(), "piece")
    for index, row in enumerate(expected["rows"]):
        name = f"lemmas.json rows[{index}]"
        report.tensor(f"{name} vad", lookup(row["lemmas"]), torch.tensor(row["vad"]), 0.0)
        if nltk is not None:
            report.equal(f"{name} pos", _tags(row["words"]), row["pos"])
            report.equal(f"{name} lemmas", nltk.lemmatize(row["words"]), row["lemmas"])


def _tags(words: list[str]) -> list[str]:
    from nltk import pos_tag

    return [tag for _, tag in pos_tag(words)]  # type: ignore[no-untyped-call]


def compare_recorded_lookups(fixture: Fixture, report: Report) -> None:
    """Each VAD triple recorded with NLTK is an entry of the lexicon, or zeros, with or without NLTK's data."""
    entries = {tuple(v) for v in torch.tensor(list(fixture.lexicon.entries.values())).tolist()}
    entries.add((0.0, 0.0, 0.0))
    recorded = {name: fixture.inputs[name] for name in ("batch/vad_nltk", "decode/vad_nltk")}
    recorded["decode_nltk/vad_per_step"] = fixture.outputs["decode_nltk/vad_per_step"]
    for name, values in recorded.items():
        strange = {tuple(v) for v in values.reshape(-1, 3).tolist()} - entries
        report.check(f"{name} (entries)", not strange, f"not in the lexicon: {sorted(strange)[:3]}")
    prompt = recorded["decode/vad_nltk"]
    first = recorded["decode_nltk/vad_per_step"][0, :, : prompt.shape[1]]
    report.tensor("decode/vad_nltk (first step)", first, prompt, 0.0)


def compare_data(fixture: Fixture, report: Report) -> None:
    """`data_train.json` and `data_val.json`: shares are those of the captions, equal ids have equal captions."""
    train, val = fixture.json("data_train.json"), fixture.json("data_val.json")
    for key, sample in train.items():
        report.equal(f"data_train.json[{key}] keys", sorted(sample), sorted((*_CAPTIONS, _ORIGIN)))
        report.equal(f"data_train.json[{key}] {_ORIGIN}", _shares(sample["emotions"]), sample[_ORIGIN])
    for key, sample in val.items():
        name = f"data_val.json[{key}]"
        report.equal(f"{name} keys", sorted(sample), sorted((*_CAPTIONS, _ORIGIN, _IMAGE)))
        report.equal(f"{name} {_IMAGE}", _shares(sample["emotions"]), sample[_IMAGE])
        total = torch.tensor(sample[_ORIGIN], dtype=torch.float64).sum()
        report.tensor(f"{name} {_ORIGIN} sum", total, torch.ones_like(total), 1e-6)
        different = [k for k in _CAPTIONS if sample[k] != train.get(key, sample)[k]]
        report.check(f"{name} captions", not different, f"{different} differ from data_train.json")


def _shares(emotions: Sequence[str]) -> list[float]:
    return [emotions.count(emotion) / len(emotions) for emotion in EMOTIONS]


def batch_tensors(fixture: Fixture, nltk: NLTKLemmatizer | None) -> dict[str, Tensor]:
    """Rebuilds `batch/*` and `decode/*` inputs from the json files: ids, labels, segments, VAD values, neighbours."""
    tokenizer, config = fixture.model.tokenizer, fixture.model.config
    train, settings = fixture.json("data_train.json"), fixture.settings
    samples = [list(train.values())[item] for item in settings["batch_items"]]
    rows = []
    for sample, second in zip(samples, settings["second_caption"], strict=True):
        for index in (len(sample["emotions"]) - 1, _partner(sample["emotions"], second)):
            caption = (sample["emotions"][index], sample["explanations"][index])
            rows.append(encode_caption(tokenizer, config, *caption))
    identifiers = [int(key) for key in fixture.json("data_val.json")]
    prompts = [encode_prompt(tokenizer, config)] * len(identifiers)
    tensors = _inputs("batch", rows, fixture, nltk) | _inputs("decode", prompts, fixture, nltk)
    tensors["batch/labels"] = torch.tensor([row.labels for row in rows])
    tensors["batch/neg_swap"] = torch.arange(len(rows)) ^ 1  # the other caption of the pair
    tensors["decode/image_id"] = torch.tensor(identifiers)[:, None]
    return tensors


def _partner(emotions: Sequence[str], second: int) -> int:
    """Index of the recorded second caption: counted among captions whose emotion is not the anchor's."""
    others = [index for index, emotion in enumerate(emotions) if emotion not in emotions[-1]]
    return others[second]


def _inputs(
    part: str, rows: Sequence[EncodedCaption], fixture: Fixture, nltk: NLTKLemmatizer | None
) -> dict[str, Tensor]:
    identity = VADLookup(fixture.lexicon, IdentityLemmatizer(), "piece")
    tensors = {
        f"{part}/input_ids": torch.tensor([row.input_ids for row in rows]),
        f"{part}/segment_ids": torch.tensor([row.segment_ids for row in rows]),
        f"{part}/vad_identity": torch.stack([identity(row.words) for row in rows]),
    }
    if nltk is not None:
        tagged = VADLookup(fixture.lexicon, nltk, "piece")
        tensors[f"{part}/vad_nltk"] = torch.stack([tagged(row.words) for row in rows])
    return tensors
