"""What no model computes: files, configurations and the optimiser's state; tokenizer, captions, look-ups and data."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from sevlm.parity.fixture import EMOTIONS, Fixture, Report, Tensors, official_groups
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
    text_ids,
)
from sevlm.vad import Lemmatizer, NLTKLemmatizer, VADLookup

_ROW = re.compile(r"\| (\S+/\S+) \| \[([\d, ]*)\] \| (\w+) \|")
_SCORES = re.compile(r"epoch (\d+), best_acc ([\d.]+), best_res ([\d.]+)\)")
SHARED = (
    *("n_embd", "n_layer", "n_head", "n_positions", "max_seq_len", "len_prefix", "img_size"),
    *("prefix_size", "encoder_dim"),
)
KIND = {
    "activation_function": "gelu_new",
    "add_cross_attention": True,
    "architectures": ["GPT2LMHeadModel"],
    "model_type": "gpt2",
    "torch_dtype": "float32",
}
INVISIBLE = {
    "vad_encoder key.bias": "adds the same to all scores of a query, which the softmax cancels",
    "crossattention c_attn.bias (keys)": "adds the same to all scores of a query, which the softmax cancels",
    "position embeddings beyond the longest row": "no recorded row is that long",
    "clip encoder.proj": "the released encoder returns unprojected patches",
}
"""Weights that a fixture holds and that no output of any model depends on."""
_DTYPES = {
    torch.float32: "F32",
    torch.float64: "F64",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


def compare_readme(fixture: Fixture, report: Report) -> None:
    """`README.md`: every tensor that its tables list is there, with that shape and type, and no other."""
    text = fixture.path("README.md").read_text(encoding="utf-8")
    listed = {name: f"[{shape}] {dtype}" for name, shape, dtype in _ROW.findall(text)}
    found = _signatures(fixture.inputs) | _signatures(fixture.outputs)
    report.equal("README.md tensors", sorted(found), sorted(listed))
    for name, signature in listed.items():
        if name in found and found[name] != signature:
            report.fail(f"README.md {name}", f"got {found[name]}, expected {signature}")
    stated = _SCORES.search(text)
    if stated is None:
        report.skip("ckpt_stats epoch and scores", "the README states none")
        return
    stats = fixture.checkpoint.stats
    got = [float(stats[key]) for key in ("epoch", "best_acc", "best_res")]
    report.equal("ckpt_stats epoch and scores", got, [float(value) for value in stated.groups()])


def _signatures(tensors: Tensors) -> dict[str, str]:
    return {name: f"{list(t.shape)} {_DTYPES.get(t.dtype, t.dtype)}" for name, t in tensors.peek().items()}


def compare_configuration(fixture: Fixture, report: Report) -> None:
    """`config.json` and `generation_config.json` against `generate.json` and the weights."""
    config, settings = fixture.checkpoint.config, fixture.settings
    folder = f"nle_model_{settings['checkpoint_name']}"
    report.equal(f"{folder}/config.json", {k: config[k] for k in SHARED}, {k: settings[k] for k in SHARED})
    report.equal(f"{folder}/config.json (kind)", {k: config.get(k) for k in KIND}, KIND)
    generation = fixture.json(f"{folder}/generation_config.json")
    ids = ("bos_token_id", "eos_token_id", "transformers_version")
    expected = {"_from_model_config": True} | {key: config[key] for key in ids}
    report.equal(f"{folder}/generation_config.json", generation, expected)
    for name, reason in INVISIBLE.items():
        report.skip(name, reason)
    if fixture.config.use_vad_features:
        report.equal("generate.json VAD_En_Layers", fixture.config.vad_layers, settings["VAD_En_Layers"])


def compare_settings(fixture: Fixture, report: Report) -> None:
    """`generate.json`: settings that other files of the fixture repeat."""
    settings, readme = fixture.settings, fixture.path("README.md").read_text(encoding="utf-8")
    lemmas, strings = fixture.json("lemmas.json"), fixture.json("tokenization.json")["strings"]
    title = readme.splitlines()[0].removeprefix("# ").split(":")[0]
    asked = settings["strings"]
    repeated = {
        "name": title,
        "lexicon_probe": list(lemmas["lexicon_probe"]),
        "lemma_rows": len(lemmas["rows"]) - len(settings["lemma_extra"]),
        "strings": [case["text"] for case in strings[: len(asked)]],
    }
    for key, value in repeated.items():
        report.equal(f"generate.json {key}", settings[key], value)
    report.check("generate.json seed", f"Base seed {settings['seed']}" in readme, "not the README's")
    traced = {name for name in fixture.outputs if name.startswith("grad/")}
    report.equal("generate.json grads", sorted(traced), sorted(f"grad/{n}" for n in settings["grads"]))
    traced = {name for name in fixture.outputs if name.startswith("steps/param/")}
    wanted = sorted(f"steps/param/{n}" for n in settings["step_params"])
    report.equal("generate.json step_params", sorted(traced), wanted)


def compare_statistics(fixture: Fixture, report: Report) -> None:
    """`ckpt_stats_*.tar`: optimiser and scheduler fit the weights and each other.

    The steps that led to the optimiser's moments cannot be repeated. But sums of the same gradients bound them: after
    n steps m^2 <= v * sum((1 - b1)^2 b1^2k / ((1 - b2) b2^k)) for k < n (Cauchy-Schwarz).
    """
    stats = fixture.checkpoint.stats
    groups = official_groups(fixture)
    saved = stats["optimizer_state_dict"]
    sizes = [len(group["params"]) for group in groups]
    report.equal("ckpt_stats optimizer groups", [len(g["params"]) for g in saved["param_groups"]], sizes)
    schedule, rates = stats["scheduler"], [group["lr"] for group in saved["param_groups"]]
    report.equal("ckpt_stats scheduler _last_lr", rates, schedule["_last_lr"])
    starts = [group["initial_lr"] for group in saved["param_groups"]]
    report.equal("ckpt_stats scheduler base_lrs", starts, schedule["base_lrs"])
    steps = schedule["last_epoch"]
    report.equal("ckpt_stats scheduler steps", schedule["_step_count"], steps + 1)
    decay = {round(rate / start, 9) for rate, start in zip(rates, starts, strict=True)}
    report.check("ckpt_stats scheduler decay", len(decay) == 1, f"groups decayed differently: {decay}")
    parameters = [parameter for group in groups for parameter in group["params"]]
    problems = [_moment_problem(saved["state"].get(i), p, steps) for i, p in enumerate(parameters)]
    wrong = {index: problem for index, problem in enumerate(problems) if problem}
    report.check("ckpt_stats optimizer state", not wrong, f"moments of parameters {wrong}")


def _moment_problem(state: Mapping[str, Any] | None, parameter: Tensor, steps: int) -> str | None:
    """What is wrong with Adam's moments of one parameter; parameters without gradient have none."""
    if state is None:
        return None
    if state["step"] != steps:
        return f"{state['step']} steps, expected {steps}"
    first, second = state["exp_avg"].double(), state["exp_avg_sq"].double()
    if first.shape != parameter.shape or second.shape != parameter.shape:
        return f"shape {tuple(first.shape)}, expected {tuple(parameter.shape)}"
    bound = sum((0.1**2 * 0.9 ** (2 * k)) / (0.001 * 0.999**k) for k in range(steps))
    fits = (first.square() <= second * bound * 1.001 + 1e-30) & (second >= 0)
    return None if bool(fits.all()) else "first and second moment disagree"


# ---------------------------------------------------------------------------------------------- tokenizer

TOKENIZER = "nle_gpt2_tokenizer_0"
_BYTES = 256
_END = {"content": END_TOKEN, "lstrip": False, "normalized": True, "rstrip": False, "single_word": False}


def compare_tokenizer_files(fixture: Fixture, report: Report) -> None:
    """The five files of the tokenizer folder agree with each other and with the tokenizer made of them."""
    tokenizer = fixture.model.tokenizer
    vocabulary = fixture.json(f"{TOKENIZER}/vocab.json")
    added = fixture.json(f"{TOKENIZER}/added_tokens.json")
    merges = fixture.path(f"{TOKENIZER}/merges.txt").read_text(encoding="utf-8").splitlines()
    products = [line.replace(" ", "") for line in merges if line and not line.startswith("#version")]
    known = dict(zip((END_TOKEN, *ADDED_TOKENS), special_ids(tokenizer), strict=True))
    end = known.pop(END_TOKEN)
    report.equal(f"{TOKENIZER}/added_tokens.json", added, known)
    ids = sorted((vocabulary | added).values())
    report.equal(f"{TOKENIZER}/vocab.json ids", ids, list(range(len(ids))))
    ranks = [vocabulary.get(product, -1) for product in products]
    learned = len(set(vocabulary) - {END_TOKEN}) - _BYTES
    ascending = ranks == sorted(set(ranks)) and len(ranks) == learned and min(ranks, default=0) >= 0
    report.check(f"{TOKENIZER}/merges.txt", ascending, "merges do not give the vocabulary in its order")
    pad, *others = ADDED_TOKENS
    ends = dict.fromkeys(("bos_token", "eos_token", "unk_token"), _END)
    special = {**ends, "pad_token": pad, "additional_special_tokens": others}
    file = f"{TOKENIZER}/special_tokens_map.json"
    report.equal(file, fixture.json(file), special)
    settings = {
        **{key: {"__type": "AddedToken", **token} for key, token in ends.items()},
        "add_bos_token": False,
        "add_prefix_space": False,
        "clean_up_tokenization_spaces": True,
        "errors": "replace",
        "model_max_length": int(1e30),
        "pad_token": None,
        "tokenizer_class": "GPT2Tokenizer",
    }
    file = f"{TOKENIZER}/tokenizer_config.json"
    report.equal(file, fixture.json(file), settings)
    report.equal(f"{TOKENIZER} end token", end, fixture.checkpoint.config["eos_token_id"])


# ---------------------------------------------------------------------------------------------- captions

_CAPTIONS = ("emotions", "explanations", "image_name")
_ORIGIN, _IMAGE = "origin_emotion_distribution", "image_emotion_distribution"


def compare_tokenization(fixture: Fixture, report: Report) -> None:
    """`tokenization.json`: captions of `data_train.json`, prompts, special ids, odd strings, order of anchors."""
    expected = fixture.json("tokenization.json")
    tokenizer = fixture.model.tokenizer
    specials = dict(zip((END_TOKEN, *ADDED_TOKENS), special_ids(tokenizer), strict=True))
    specials[BECAUSE_TOKEN] = because_id(tokenizer)
    report.equal("tokenization.json special_ids", specials, expected["special_ids"])
    train = fixture.json("data_train.json")
    for index, item in enumerate(expected["train_items"]):
        sample = train[item["data_id"]]
        rows = []
        for place in (item["anchor_index"], item["second_index"]):
            emotion, explanation = sample["emotions"][place], sample["explanations"][place]
            encoded = encode_caption(tokenizer, fixture.model.config, emotion, explanation)
            rows.append({"emotion": emotion, "explanation": explanation} | _row(fixture, encoded))
        report.equal(f"tokenization.json train_items[{index}]", rows, item["rows"])
    row = _row(fixture, encode_prompt(tokenizer, fixture.model.config))
    prompt = {key: row[key] for key in ("input_ids", "segment_ids", "words_for_vad")}
    got = [{"data_id": key, **prompt, "image_id_tensor": [int(key)]} for key in fixture.json("data_val.json")]
    report.equal("tokenization.json eval_items", got, expected["eval_items"])
    for index, case in enumerate(expected["strings"]):
        report.equal(f"tokenization.json strings[{index}]", _string_case(tokenizer, fixture, case["text"]), case)

    # The released loader in one process: anchors walk backwards, the partner is drawn among other emotions.
    orders = expected["anchor_order_single_process"]
    report.equal("tokenization.json anchor_order pictures", list(orders), list(train))
    for key, order in orders.items():
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
        pairs = [[i["anchor_index"], i["second_index"]] for i in expected["train_items"] if i["data_id"] == key]
        seconds = [other[used] for (_, _, used), other in zip(drawn, others, strict=True)]
        report.equal(f"{name} pairs", pairs, [list(p) for p in zip(anchors, seconds, strict=True)][: len(pairs)])


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


def _string_case(tokenizer: Tokenizer, fixture: Fixture, text: str) -> dict[str, Any]:
    ids = text_ids(tokenizer, text)
    return {
        "text": text,
        "tokens": tokenizer.convert_ids_to_tokens(ids),
        "ids": ids,
        "decoded": decode(tokenizer, ids),
        "single_token_decodes": lookup_words(tokenizer, fixture.model.config, ids),
    }


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
    lookup = VADLookup(lexicon, Lemmatizer(), "piece")
    for index, row in enumerate(expected["rows"]):
        name = f"lemmas.json rows[{index}]"
        report.tensor(f"{name} vad", lookup(row["lemmas"]), torch.tensor(row["vad"]), 0.0)
        if nltk is not None:
            from nltk import pos_tag

            tags = [tag for _, tag in pos_tag(row["words"])]
            report.equal(f"{name} pos", tags, row["pos"])
            report.equal(f"{name} lemmas", nltk.lemmatize(row["words"]), row["lemmas"])


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
        emotions = sample["emotions"]
        others = [index for index, emotion in enumerate(emotions) if emotion not in emotions[-1]]
        for index in (len(emotions) - 1, others[second]):  # counted among captions of another emotion
            caption = (emotions[index], sample["explanations"][index])
            rows.append(encode_caption(tokenizer, config, *caption))
    identifiers = [int(key) for key in fixture.json("data_val.json")]
    prompts = [encode_prompt(tokenizer, config)] * len(identifiers)
    tensors = _inputs("batch", rows, fixture, nltk) | _inputs("decode", prompts, fixture, nltk)
    tensors["batch/labels"] = torch.tensor([row.labels for row in rows])
    tensors["batch/neg_swap"] = torch.arange(len(rows)) ^ 1  # the other caption of the pair
    tensors["decode/image_id"] = torch.tensor(identifiers)[:, None]
    return tensors


def _inputs(
    part: str, rows: Sequence[EncodedCaption], fixture: Fixture, nltk: NLTKLemmatizer | None
) -> dict[str, Tensor]:
    identity = VADLookup(fixture.lexicon, Lemmatizer(), "piece")
    tensors = {
        f"{part}/input_ids": torch.tensor([row.input_ids for row in rows]),
        f"{part}/segment_ids": torch.tensor([row.segment_ids for row in rows]),
        f"{part}/vad_identity": torch.stack([identity(row.words) for row in rows]),
    }
    if nltk is not None:
        tagged = VADLookup(fixture.lexicon, nltk, "piece")
        tensors[f"{part}/vad_nltk"] = torch.stack([tagged(row.words) for row in rows])
    return tensors
