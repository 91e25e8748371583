"""Tensors of the forward pass, the losses, the gradients and five optimiser steps."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sevlm.config import FIXED_BOUNDARY
from sevlm.model import SEVLM, SEVLMOutput
from sevlm.official import BUFFERS, parameter_name
from sevlm.optimization import AdamW, linear_schedule
from sevlm.parity.fixture import Fixture
from sevlm.parity.report import Report

WEIGHTED = {"lm_loss_weight": 0.7, "contrastive_loss_weight": 0.3, "vad_loss_weight": 0.5}
"""The weights of `loss_weighted/*`, which the fixture's README states."""


def run_batch(fixture: Fixture, model: SEVLM, vad: str = "vad_identity", step: int | None = None) -> SEVLMOutput:
    """Forward pass with losses over the recorded batch; `step` picks the negatives of an optimiser step."""
    inputs = fixture.inputs
    grid, prefix = fixture.images("batch")
    semantic = inputs["batch/neg_semantic"] if step is None else inputs["steps/neg_semantic"][step]
    output: SEVLMOutput = model(
        grid,
        inputs["batch/input_ids"],
        inputs["batch/segment_ids"],
        inputs[f"batch/{vad}"],
        inputs["batch/labels"],
        fixture.negatives(semantic),
        prefix,
    )
    return output


def model_tensors(fixture: Fixture) -> dict[str, Tensor]:
    """Recomputes `vad_encoder/*`, `lm/*`, `loss*/*`, `contrastive/*`, `vad_head/*`, `no_vad/*` and `prompt/*`."""
    model = fixture.model
    tensors: dict[str, Tensor] = {}
    with torch.no_grad():
        output = run_batch(fixture, model)
        tensors |= _vad_encoder(fixture, model) | _states(output) | _losses("loss", output)
        tensors |= _heads(fixture, model, output.hidden_states[-1]) | _prompt(fixture, model)
        tensors |= _losses("loss_nltk", run_batch(fixture, model, "vad_nltk"))
        tensors |= _losses("loss_weighted", run_batch(fixture, fixture.new_model(**WEIGHTED)))
        tensors["no_vad/logits_last"] = _without_vad(fixture, model)
    return tensors


def _vad_encoder(fixture: Fixture, model: SEVLM) -> dict[str, Tensor]:
    encoder = model.vad_encoder
    if encoder is None:
        return {}
    hidden = encoder(fixture.inputs["batch/vad_identity"])
    scalars = encoder.scalars(hidden)
    return {
        "vad_encoder/hidden": hidden,
        "vad_encoder/out": scalars,
        "vad_encoder/first": scalars[:, 0],
    }


def _states(output: SEVLMOutput) -> dict[str, Tensor]:
    states = {f"lm/hidden_{index}": state for index, state in enumerate(output.hidden_states)}
    return {"lm/logits": output.logits} | states


def _losses(name: str, output: SEVLMOutput) -> dict[str, Tensor]:
    parts = {
        "total": output.loss,
        "xe_text": output.lm_loss,
        "contrastive": output.contrastive_loss,
        "vad": output.vad_loss,
    }
    return {f"{name}/{part}": value for part, value in parts.items() if value is not None}


def _heads(fixture: Fixture, model: SEVLM, hidden_states: Tensor) -> dict[str, Tensor]:
    inputs = fixture.inputs
    grid, _ = fixture.images("batch")
    emotion, explanation = model.part_means(hidden_states, inputs["batch/input_ids"], inputs["batch/segment_ids"])
    tensors = {"lm/image_mean": grid.mean(1), "lm/explanation_mean": explanation}
    if model.contrastive_head is not None:
        everything = torch.arange(len(grid))
        rows = {
            "pos_sim": everything,
            "neg_sim_swap": inputs["batch/neg_swap"],
            "neg_sim_semantic": inputs["batch/neg_semantic"],
        }
        for name, picked in rows.items():
            score = model.contrastive_head(grid.mean(1), emotion, explanation[picked])
            tensors[f"contrastive/{name}"] = score
    if model.vad_head is not None:
        start = model.config.prefix_length + FIXED_BOUNDARY - 1
        tensors["vad_head/all_positions_from_5"] = model.vad_head(hidden_states[:, start:])
    return tensors


def _prompt(fixture: Fixture, model: SEVLM) -> dict[str, Tensor]:
    inputs = fixture.inputs
    grid, prefix = fixture.images("decode")
    ids, segments = inputs["decode/input_ids"], inputs["decode/segment_ids"]
    output = model(grid, ids, segments, inputs["decode/vad_identity"], image_prefix=prefix)
    return {"prompt/logits": output.logits}


def _without_vad(fixture: Fixture, model: SEVLM) -> Tensor:
    inputs, decoder = fixture.inputs, model.decoder
    grid, prefix = fixture.images("batch")
    embeddings = decoder.embed(inputs["batch/input_ids"], inputs["batch/segment_ids"], None, prefix)
    states = decoder(embeddings, decoder.image_memory(grid))
    return decoder.logits(states.hidden_states[-1][:, -1])


def gradients(fixture: Fixture) -> dict[str, Tensor]:
    """Recomputes `grad/*`: the gradient of the total loss, cut to the recorded rows."""
    model = fixture.new_model()
    loss = run_batch(fixture, model).loss
    assert loss is not None  # labels were given
    loss.backward()  # type: ignore[no-untyped-call]
    parameters = dict(model.named_parameters())
    tensors = {}
    for name in fixture.settings["grads"]:
        gradient = parameters[parameter_name(name)].grad
        if gradient is not None and f"grad/{name}" in fixture.outputs:
            tensors[f"grad/{name}"] = gradient[: len(fixture.outputs[f"grad/{name}"])]
    return tensors


def optimizer_steps(fixture: Fixture) -> dict[str, Tensor]:
    """Recomputes `steps/*`: AdamW with a linear schedule from the checkpoint, dropout off."""
    model = fixture.new_model()
    optimizer = AdamW(official_groups(fixture, model))
    steps = len(fixture.outputs["steps/lr"])
    schedule = linear_schedule(optimizer, _total_steps(fixture))
    losses, rates = [], []
    for step in range(steps):
        output = run_batch(fixture, model, step=step)
        parts = (output.loss, output.lm_loss, output.contrastive_loss, output.vad_loss)
        losses.append(torch.stack([part.detach() for part in parts if part is not None]))
        rates.append([group["lr"] for group in optimizer.param_groups])
        optimizer.zero_grad()
        assert output.loss is not None  # labels were given
        output.loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    parameters = dict(model.named_parameters())
    names = fixture.settings["step_params"]
    changed = {f"steps/param/{name}": parameters[parameter_name(name)].detach() for name in names}
    return {"steps/losses": torch.stack(losses), "steps/lr": torch.tensor(rates, dtype=torch.float64)} | changed


def official_groups(fixture: Fixture, model: SEVLM) -> list[dict[str, Any]]:
    """The released parameter groups, in the released order: VAD encoder, then decoder, each without and with biases."""
    parameters = dict(model.named_parameters())
    names = [n for n in fixture.checkpoint.state() if not n.endswith((*BUFFERS, "lm_head.weight"))]
    decoder_rate, _, vad_rate = fixture.settings["traj_lr"]
    groups = []
    for part, rate in (("emo_encoder.", vad_rate), ("decoder.", decoder_rate)):
        for biases in (False, True):
            own = [n for n in names if n.startswith(part) and ("bias" in n) is biases]
            chosen = [parameters[parameter_name(name)] for name in own]
            groups.append({"params": chosen, "lr": rate, "weight_decay": 0.0})
    return [group for group in groups if group["params"]]


def compare_groups(fixture: Fixture, report: Report) -> None:
    """`optimizer_groups.json`: sizes and settings of the four groups."""
    optimizer = AdamW(official_groups(fixture, fixture.model))
    got = [
        {
            "n_tensors": len(group["params"]),
            "n_values": sum(parameter.numel() for parameter in group["params"]),
            "lr0": group["lr"],
            "weight_decay": group["weight_decay"],
            "eps": optimizer.epsilon,
            "betas": list(group["betas"]),
            "correct_bias": True,
        }
        for group in optimizer.param_groups
    ]
    report.equal("optimizer_groups.json", got, fixture.json("optimizer_groups.json"))


def _total_steps(fixture: Fixture) -> int:
    """Length of the linear schedule, which no file states: lr falls by 1/total of its first value per step."""
    first, second = (float(rate) for rate in fixture.outputs["steps/lr"][:2, 0])
    return round(first / (first - second))
