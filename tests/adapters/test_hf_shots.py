"""Few-shot prompting of a local model."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import tiny_models
from adapter_samples import Picture, example, item

from harness.adapters.hf import HFVisionLanguage
from harness.types import UserError


def test_worked_examples_are_shown_before_the_question(tmp_path: Path, picture: Picture) -> None:
    llava = tiny_models.build("llava-next", tmp_path / "llava")
    sizes = [(40, 60), (70, 160), (100, 60), (130, 110)]
    paintings = [item(str(i), picture((60 * i, 90, 30), f"{i}.png", size)) for i, size in enumerate(sizes)]
    training = [
        example("t1", paintings[1].image, ("awe", "it is bright")),
        example("t2", paintings[0].image, ("fear", "it is dark")),
    ]
    adapter = HFVisionLanguage(checkpoint=str(llava), device="cpu", shots=2, max_new_tokens=4)
    assert adapter.needs == {"train"}
    adapter.fit(training)
    adapter.load()
    assert adapter._reader is not None
    text = adapter._reader.render("Why?")
    assert text.count("<image>") == 3
    assert {"awe because it is bright", "fear because it is dark"} <= set(re.findall(r"\w+ because it is \w+", text))
    together = adapter.predict(paintings[:4])
    alone = [outcome for one in paintings[:4] for outcome in adapter.predict([one])]
    assert [o.raw for o in together] == [o.raw for o in alone]
    plain = HFVisionLanguage(checkpoint=str(llava), device="cpu", max_new_tokens=4)
    plain.load()
    tokens = plain.predict(paintings[:1])[0].usage.prompt_tokens
    assert (together[0].usage.prompt_tokens or 0) > 2 * (tokens or 0)
    assert adapter.fingerprint() != plain.fingerprint()
    assert adapter.runtime_info()["shots"]
    paligemma = tiny_models.build("paligemma", tmp_path / "paligemma")
    without_template = HFVisionLanguage(checkpoint=str(paligemma), device="cpu", shots=1)
    without_template.fit(training)
    with pytest.raises(UserError, match="no chat template"):
        without_template.load()
