"""Files that no computation reads in full: the fixture's README, configurations, the optimiser's state."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from sevlm.parity.fixture import Fixture, Tensors
from sevlm.parity.forward import official_groups
from sevlm.parity.report import Report

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
    groups = official_groups(fixture, fixture.model)
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
