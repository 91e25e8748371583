from __future__ import annotations

import dataclasses
import shutil
import textwrap
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from tiny_training import save_tower
from torch import Tensor

import sevlm
from sevlm import SEVLM, SEVLMConfig, SEVLMError
from sevlm.checkpoint import Checkpointer, checkpoint_folder, model_from_official, recorded_lexicon
from sevlm.convert import main as convert
from sevlm.official import config_from_official, read_official
from sevlm.vad import RowLookup

FILES = {"model.safetensors", "config.json", "README.md", "tokenizer"}


@pytest.fixture(scope="session")
def saved(tiny_model: SEVLM, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint") / "sevlm"
    tiny_model.save_pretrained(folder)
    return folder


@pytest.fixture
def copy(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "copy"))


@pytest.fixture
def official_copy(golden: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(golden, tmp_path / "official"))


def test_a_saved_model_answers_alike(tiny_model: SEVLM, saved: Path, word_lookup: RowLookup) -> None:
    loaded = SEVLM.from_pretrained(saved)
    grid = torch.randn(2, 6, tiny_model.config.encoder_dim)
    assert {path.name for path in saved.iterdir()} == FILES
    assert loaded.config == tiny_model.config
    assert not loaded.training
    assert loaded.generate(grid, ["awe", "fear"], word_lookup) == tiny_model.generate(
        grid, ["awe", "fear"], word_lookup
    )


def test_saving_again_replaces_the_files_and_keeps_others(copy: Path, tiny_model: SEVLM) -> None:
    (copy / "training.json").write_text("{}")
    model = SEVLM.from_pretrained(copy)
    with torch.no_grad():
        model.decoder.wte.weight.zero_()
    model.save_pretrained(copy)
    assert {path.name for path in copy.iterdir()} == FILES | {"training.json"}
    assert load_file(copy / "model.safetensors")["decoder.wte.weight"].abs().max() == 0


def test_the_tied_head_is_stored_once(saved: Path) -> None:
    assert not [name for name in load_file(saved / "model.safetensors") if "lm_head" in name]


def test_the_card_names_what_differs_and_the_sizes(saved: Path, tiny_model: SEVLM, golden: Path) -> None:
    card = (saved / "README.md").read_text(encoding="utf-8")
    assert "`causal_vad_encoder`" in card
    assert f"| total | {tiny_model.parameter_counts()['total']:,} |" in card
    faithful = model_from_official(read_official(golden))
    faithful.save_pretrained(saved.parent / "faithful")
    card = (saved.parent / "faithful" / "README.md").read_text(encoding="utf-8")
    assert "It computes what the released code computes." in card


def test_a_model_without_tokenizer_is_not_saved(tiny_config: SEVLMConfig, tmp_path: Path) -> None:
    with pytest.raises(SEVLMError, match="without its tokenizer"):
        SEVLM(tiny_config).save_pretrained(tmp_path)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer/tokenizer.json"])
def test_an_incomplete_checkpoint_is_refused(copy: Path, name: str) -> None:
    (copy / name).unlink()
    with pytest.raises(SEVLMError):
        SEVLM.from_pretrained(copy)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("tokenizer/tokenizer.json", '{"version": "1.0", "normalizer": 5}'),
        ("tokenizer/tokenizer_config.json", '{"eos_token": true}'),
        ("config.json", "[]"),
    ],
)
def test_a_checkpoint_with_another_form_is_refused(copy: Path, name: str, text: str) -> None:
    (copy / name).write_text(text)
    with pytest.raises(SEVLMError):
        SEVLM.from_pretrained(copy)


@pytest.mark.parametrize("text", ["[]", "null", '{"lexicon": 5}', '{"lexicon": {"name": "vader"}}', "{"])
def test_a_record_of_training_with_another_form_is_refused(copy: Path, text: str) -> None:
    (copy / "training.json").write_text(text)
    with pytest.raises(SEVLMError, match="the lexicon of the training cannot be read"):
        recorded_lexicon(copy)


@pytest.mark.parametrize("text", ["[1]", "null", '{"identity": 5}', "{", "{}"])
def test_a_summary_of_another_form_is_refused_where_a_training_goes_on(tmp_path: Path, text: str) -> None:
    (tmp_path / "training.json").write_text(text)
    with pytest.raises(SEVLMError, match=r"no record of a training|an older version"):
        Checkpointer(tmp_path, {"recipe": "small"}).finished()


def test_another_models_tokenizer_is_refused(copy: Path) -> None:
    from sevlm.tokenization import train_bpe

    train_bpe(["the emotion is awe because the sky glows"] * 3, 300).save_pretrained(str(copy / "tokenizer"))
    with pytest.raises(SEVLMError, match="is not the tokenizer that"):
        SEVLM.from_pretrained(copy)


def test_weights_that_do_not_fit_are_refused(copy: Path) -> None:
    tensors = load_file(copy / "model.safetensors")
    save_file({**tensors, "decoder.ln_f.bias": torch.zeros(3)}, copy / "model.safetensors")
    with pytest.raises(SEVLMError, match="does not fit"):
        SEVLM.from_pretrained(copy)
    (copy / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(SEVLMError, match="does not fit"):
        SEVLM.from_pretrained(copy)


def test_a_path_that_is_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SEVLMError, match="expected a folder or a hub id"):
        SEVLM.from_pretrained(tmp_path / "absent")


def test_an_official_folder_loads_directly(golden: Path, official_model: SEVLM) -> None:
    loaded = SEVLM.from_pretrained(golden)
    assert loaded.config == official_model.config
    assert torch.equal(loaded.decoder.wte.weight, official_model.decoder.wte.weight)


def test_a_hub_id_is_a_folder_named_by_its_commit(
    golden: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A released checkpoint in the hub's cache, as a download leaves it."""
    commit = "0123456789abcdef0123456789abcdef01234567"
    cache = tmp_path / "models--owner--released"
    shutil.copytree(golden, cache / "snapshots" / commit)
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text(commit, encoding="utf-8")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert checkpoint_folder("owner/released").name == commit
    assert SEVLM.from_pretrained("owner/released").config.fusion_boundary == "fixed6"


def test_conversion_keeps_what_the_model_computes(
    golden: Path, tmp_path: Path, golden_inputs: dict[str, Tensor], golden_outputs: dict[str, Tensor]
) -> None:
    assert convert([str(golden), str(tmp_path / "out")]) == 0
    model = SEVLM.from_pretrained(tmp_path / "out")
    names = ("image_grid", "input_ids", "segment_ids", "vad_identity")
    with torch.no_grad():
        output = model(*(golden_inputs[f"batch/{name}"] for name in names))
    torch.testing.assert_close(output.logits, golden_outputs["lm/logits"], atol=5e-5, rtol=0)


def test_conversion_of_something_else_is_one_line_and_exit_code_2(
    saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert convert([str(saved), str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: expected one nle_model_* folder")
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_several_official_checkpoints_need_a_name(official_copy: Path) -> None:
    shutil.copytree(official_copy / "nle_model_best-res", official_copy / "nle_model_best-acc")
    with pytest.raises(SEVLMError, match=r"several \(best-acc, best-res\): say which"):
        read_official(official_copy)
    assert read_official(official_copy, "best-res").name == "best-res"


def test_an_official_checkpoint_with_an_untied_head_is_refused(official_copy: Path) -> None:
    path = official_copy / "nle_model_best-res" / "pytorch_model.bin"
    state = torch.load(path, weights_only=True)
    state["lm_head.weight"] = state["lm_head.weight"] + 1
    torch.save(state, path)
    with pytest.raises(SEVLMError, match="ties them"):
        model_from_official(read_official(official_copy))


def test_an_official_file_that_needs_code_is_not_opened(official_copy: Path) -> None:
    torch.save({"epoch": Path("x")}, official_copy / "ckpt_stats_best-res.tar")
    with pytest.raises(SEVLMError, match="cannot read the official checkpoint"):
        read_official(official_copy)


def test_an_official_checkpoint_trained_without_vad(official_copy: Path) -> None:
    path = official_copy / "ckpt_stats_best-res.tar"
    stats = torch.load(path, weights_only=True)
    del stats["emo_encoder_state_dict"]
    torch.save(stats, path)
    checkpoint = read_official(official_copy)
    assert not config_from_official(checkpoint).use_vad_features
    assert model_from_official(checkpoint).decoder.vad_fusion is None


def test_an_official_checkpoint_with_a_prefix(official_copy: Path) -> None:
    checkpoint = read_official(official_copy)
    sizes = {"model.0.weight": (32, 32), "model.0.bias": (32,), "model.2.weight": (64, 32), "model.2.bias": (64,)}
    mapping = {f"transformer.clip_project.{name}": torch.randn(shape) for name, shape in sizes.items()}
    prefixed = dataclasses.replace(
        checkpoint,
        config={**checkpoint.config, "len_prefix": 2},
        decoder_state={**checkpoint.decoder_state, **mapping},
    )
    model = model_from_official(prefixed)
    ids = torch.full((3, 8), 259)
    output = model(torch.randn(3, 4, 32), ids, ids, torch.zeros(3, 8, 3), image_prefix=torch.randn(3, 32))
    assert output.logits.shape == (3, 6, 705)
    assert output.hidden_states[-1].shape == (3, 8, 32)


def test_an_official_activation_that_is_not_gpt2s_is_refused(official_copy: Path) -> None:
    checkpoint = read_official(official_copy)
    other = dataclasses.replace(checkpoint, config={**checkpoint.config, "activation_function": "relu"})
    with pytest.raises(SEVLMError, match="activation_function='relu'"):
        config_from_official(other)


def test_public_names_are_lazy_and_complete() -> None:
    assert {sevlm.SEVLM, sevlm.SEVLMConfig, sevlm.SEVLMError} == {SEVLM, SEVLMConfig, SEVLMError}
    with pytest.raises(AttributeError, match="SEVML"):
        _ = sevlm.SEVML  # type: ignore[attr-defined]


@pytest.fixture
def three_lines(tiny_model: SEVLM, golden: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which README.md's snippet runs."""
    save_tower(tmp_path / "tower", width=12)
    config = dataclasses.replace(tiny_model.config, image_encoder=f"clip:{tmp_path / 'tower'}", image_size=32)
    lexicon = sevlm.load_lexicon(golden / "vad_lexicon.txt")
    remembered = {"lexicon_name": lexicon.name, "lexicon_sha256": lexicon.fingerprint(), "lemmatizer": "identity"}
    model = SEVLM(dataclasses.replace(config, **remembered), tiny_model.tokenizer)
    model.save_pretrained(tmp_path / "checkpoints" / "sevlm")
    shutil.copy(golden / "vad_lexicon.txt", tmp_path / "NRC-VAD-Lexicon.txt")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_snippet_of_the_readme_answers(three_lines: Path) -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    start = readme.index("from sevlm import SEVLM")
    snippet = textwrap.dedent("      " + readme[start : readme.index("\n\n", start)])
    names: dict[str, Any] = {"image": Image.new("RGB", (40, 30), "red")}
    exec(snippet, names)
    (answer,) = names["answers"]
    assert set(answer.label_probs) == {"awe", "fear"}


def test_a_checkpoint_remembers_its_lexicon(three_lines: Path) -> None:
    with pytest.raises(SEVLMError, match="is not the lexicon that"):
        SEVLM.from_pretrained("checkpoints/sevlm", lexicon="vader")
    model = SEVLM.from_pretrained("checkpoints/sevlm")  # features may go with a look-up of the caller's
    with pytest.raises(SEVLMError, match=r"pass its VAD lexicon \(nrc-vad"):
        model.generate(torch.zeros(1, 4, 12))
    vader = sevlm.load_lexicon("vader")
    remembered = {"lexicon_name": "vader", "lexicon_sha256": vader.fingerprint()}
    model.config = dataclasses.replace(model.config, **remembered)
    model.save_pretrained("valence")
    assert SEVLM.from_pretrained("valence").lookup is not None
