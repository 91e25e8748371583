"""The tokenizer folder of a fixture: its files agree with each other and with the tokenizer made of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sevlm.parity.fixture import Fixture
from sevlm.parity.report import Report
from sevlm.tokenization import ADDED_TOKENS, END_TOKEN, special_ids

TOKENIZER = "nle_gpt2_tokenizer_0"
_BYTES = 256


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
    special = fixture.json(f"{TOKENIZER}/special_tokens_map.json")
    named = [_content(special[key]) for key in ("bos_token", "eos_token", "unk_token", "pad_token")]
    named += [_content(token) for token in special["additional_special_tokens"]]
    expected = [END_TOKEN] * 3 + list(ADDED_TOKENS)
    report.equal(f"{TOKENIZER}/special_tokens_map.json", named, expected)
    settings = fixture.json(f"{TOKENIZER}/tokenizer_config.json")
    got = [settings["tokenizer_class"], settings["add_prefix_space"], settings["add_bos_token"], settings["errors"]]
    got += [_content(settings[key]) for key in ("bos_token", "eos_token", "unk_token")]
    wanted = ["GPT2Tokenizer", False, False, "replace", *[END_TOKEN] * 3]
    report.equal(f"{TOKENIZER}/tokenizer_config.json", got, wanted)
    report.equal(f"{TOKENIZER} end token", end, fixture.checkpoint.config["eos_token_id"])


def _content(token: str | Mapping[str, Any]) -> str:
    return token if isinstance(token, str) else str(token["content"])
