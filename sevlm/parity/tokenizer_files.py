"""The tokenizer folder of a fixture: its files agree with each other and with the tokenizer made of them."""

from __future__ import annotations

from sevlm.parity.fixture import Fixture
from sevlm.parity.report import Report
from sevlm.tokenization import ADDED_TOKENS, END_TOKEN, special_ids

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
    _compare_settings(fixture, report)
    report.equal(f"{TOKENIZER} end token", end, fixture.checkpoint.config["eos_token_id"])


def _compare_settings(fixture: Fixture, report: Report) -> None:
    pad, *others = ADDED_TOKENS
    end = dict.fromkeys(("bos_token", "eos_token", "unk_token"), _END)
    special = {**end, "pad_token": pad, "additional_special_tokens": others}
    file = f"{TOKENIZER}/special_tokens_map.json"
    report.equal(file, fixture.json(file), special)
    settings = {
        **{key: {"__type": "AddedToken", **token} for key, token in end.items()},
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
