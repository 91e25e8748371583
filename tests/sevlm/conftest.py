"""What the tests of this room share: the golden fixture, its model and a small model in the improved mode."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from sevlm.checkpoint import SEVLM, model_from_official
from sevlm.config import SEVLMConfig
from sevlm.official import OfficialCheckpoint, read_official
from sevlm.tokenization import config_for_tokenizer
from sevlm.vad import VADLexicon, VADLookup, load_lemmatizer

GOLDEN = Path(__file__).parent / "fixtures" / "sevlm_tiny_A"


@pytest.fixture(scope="session")
def golden() -> Path:
    return GOLDEN


@pytest.fixture(scope="session")
def golden_inputs() -> dict[str, torch.Tensor]:
    return load_file(GOLDEN / "inputs.safetensors")


@pytest.fixture(scope="session")
def golden_outputs() -> dict[str, torch.Tensor]:
    return load_file(GOLDEN / "outputs.safetensors")


@pytest.fixture(scope="session")
def official_checkpoint() -> OfficialCheckpoint:
    return read_official(GOLDEN)


@pytest.fixture(scope="session")
def official_model(official_checkpoint: OfficialCheckpoint) -> SEVLM:
    """The golden checkpoint in the faithful mode. Do not change it."""
    return model_from_official(official_checkpoint)


@pytest.fixture(scope="session")
def tiny_config(official_model: SEVLM) -> SEVLMConfig:
    """The improved mode, greedy, over the golden tokenizer, with random weights large enough to disagree with themselves."""
    sizes = {"n_layer": 2, "n_head": 2, "n_embd": 16, "n_positions": 64, "encoder_dim": 12, "vad_positions": 64}
    sizes |= {"max_length": 30, "max_new_tokens": 25, "n_best": 1}
    return config_for_tokenizer(SEVLMConfig(**sizes), official_model.tokenizer)


@pytest.fixture(scope="session")
def tiny_model(tiny_config: SEVLMConfig, official_model: SEVLM) -> SEVLM:
    """A random model in the improved mode, in eval mode. Do not change it."""
    return random_model(tiny_config, official_model.tokenizer)


@pytest.fixture(scope="session")
def piece_lookup() -> VADLookup:
    return VADLookup(VADLexicon.load(GOLDEN / "vad_lexicon.txt"), load_lemmatizer("identity"), "piece")


@pytest.fixture(scope="session")
def word_lookup() -> VADLookup:
    return VADLookup(VADLexicon.load(GOLDEN / "vad_lexicon.txt"), load_lemmatizer("identity"), "word")


def random_model(config: SEVLMConfig, tokenizer: object) -> SEVLM:
    """A model whose weights are all random (biases and norms too), so that no term can hide."""
    with torch.random.fork_rng():
        torch.manual_seed(7)
        model = SEVLM(config, tokenizer)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += 0.2 * torch.randn(parameter.shape)
    return model.eval()
