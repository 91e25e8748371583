"""The files of one golden fixture, loaded through the public importer; and the report of comparisons with them."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from sevlm.checkpoint import SEVLM, model_from_official
from sevlm.config import SEVLMConfig
from sevlm.images import CLIPEncoder, Preprocessing
from sevlm.model import Negatives
from sevlm.official import (
    BUFFERS,
    OfficialCheckpoint,
    clip_vision_from_openai,
    config_from_official,
    read_official,
    tower_side,
)
from sevlm.vad import VADLexicon

EMOTIONS = ("amusement", "awe", "contentment", "excitement", "anger", "disgust", "fear", "sadness", "something else")
"""Order of `origin_emotion_distribution` in the official json files."""
CLIP_FILE = "clip_tower_encoder_state.safetensors"


class Tensors(Mapping[str, Tensor]):
    """A safetensors file that remembers which tensors were asked for."""

    def __init__(self, path: Path) -> None:
        self._tensors = load_file(path)
        self.used: set[str] = set()

    def __getitem__(self, name: str) -> Tensor:
        value = self._tensors[name]
        self.used.add(name)
        return value

    def peek(self) -> Mapping[str, Tensor]:
        """All tensors, without counting as asked for."""
        return self._tensors

    def __contains__(self, name: object) -> bool:
        return name in self._tensors

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)


class Fixture:
    """A folder of the layout that the README of the golden fixtures describes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.read_files: set[str] = set()

    def json(self, name: str) -> Any:
        """Content of a JSON file."""
        return json.loads(self.path(name).read_text(encoding="utf-8"))

    def path(self, name: str) -> Path:
        """Path of a file, noted as read."""
        self.read_files.add(name)
        return self.folder / name

    @cached_property
    def settings(self) -> dict[str, Any]:
        """`generate.json`: every setting of the run that wrote the fixture."""
        values: dict[str, Any] = self.json("generate.json")
        return values

    @cached_property
    def inputs(self) -> Tensors:
        """`inputs.safetensors`."""
        return Tensors(self.path("inputs.safetensors"))

    @cached_property
    def outputs(self) -> Tensors:
        """`outputs.safetensors`."""
        return Tensors(self.path("outputs.safetensors"))

    @cached_property
    def checkpoint(self) -> OfficialCheckpoint:
        """The official checkpoint."""
        name = self.settings["checkpoint_name"]
        folder = f"nle_model_{name}"
        self.read_files |= {f"{folder}/config.json", f"{folder}/pytorch_model.bin", f"ckpt_stats_{name}.tar"}
        return read_official(self.folder, name)

    @cached_property
    def config(self) -> SEVLMConfig:
        """The faithful configuration."""
        settings = self.settings
        return config_from_official(self.checkpoint, settings["prompt_text"], settings["VAD_En_Heads"])

    @cached_property
    def model(self) -> SEVLM:
        """The imported model, in eval mode."""
        return self.new_model()

    def new_model(self, **overrides: Any) -> SEVLM:
        """A fresh copy of the imported model, with other configuration values where given."""
        heads = self.settings.get("clip", {}).get("heads")
        return model_from_official(self.checkpoint, dataclasses.replace(self.config, **overrides), heads)

    @cached_property
    def lexicon(self) -> VADLexicon:
        """`vad_lexicon.txt`."""
        return VADLexicon.load(self.path("vad_lexicon.txt"))

    def new_encoder(self, trained: bool) -> CLIPEncoder:
        """A fresh CLIP tower: the one that was trained with the checkpoint, or that of the separate file."""
        state = self.checkpoint.tower if trained else load_file(self.path(CLIP_FILE))
        assert state is not None  # asked for only if the checkpoint has one
        preprocessing = Preprocessing(tower_side(state), (0.0,) * 3, (1.0,) * 3, "squash")
        heads = self.settings.get("clip", {}).get("heads")
        return CLIPEncoder(clip_vision_from_openai(state, heads), preprocessing)

    @cached_property
    def is_trained(self) -> bool:
        """Whether the image encoder was trained with the checkpoint."""
        return self.checkpoint.tower is not None

    @cached_property
    def encoder(self) -> CLIPEncoder:
        """The tower that images of the batch and of decoding go through."""
        return self.new_encoder(self.is_trained)

    @cached_property
    def clip(self) -> CLIPEncoder:
        """The tower that `clip/*` are outputs of: that of the separate file if there is one."""
        return self.new_encoder(trained=not (self.folder / CLIP_FILE).is_file())

    def images(self, part: str, encoder: CLIPEncoder | None = None) -> tuple[Tensor, Tensor | None]:
        """Patch features (B, P, E) and prefix vectors (B, prefix_dim) of `batch` or `decode`.

        Fixtures hold features, or pixels that go through their own CLIP tower; through `encoder`, with gradients, if
        it is given.
        """
        pixels = [
            name for name, value in self.inputs.peek().items() if name.startswith(f"{part}/") and value.dim() == 4
        ]
        if pixels:
            with torch.set_grad_enabled(encoder is not None):
                tower = encoder or self.encoder
                grid = tower.grid(self.inputs[pixels[0]])
                return grid, tower.official_prefix(grid)
        prefix = f"{part}/image_prefix"
        needed = self.config.prefix_length > 0
        return self.inputs[f"{part}/image_grid"], self.inputs[prefix] if needed else None

    def negatives(self, semantic: Tensor) -> Negatives:
        """The recorded negatives of the batch; `semantic` is (B,) int64."""
        return Negatives(self.inputs["batch/neg_swap"], semantic)


def official_groups(fixture: Fixture) -> list[dict[str, Any]]:
    """The released parameter groups, in the released order, each without and with biases: a trained image encoder, the
    VAD encoder, the decoder. `params` are the official tensors of these `names`.
    """
    state = fixture.checkpoint.state()
    names = [name for name in state if not name.endswith((*BUFFERS, "lm_head.weight"))]
    decoder_rate, encoder_rate, vad_rate = fixture.settings["traj_lr"]
    groups = []
    for part, rate in (("encoder.", encoder_rate), ("emo_encoder.", vad_rate), ("decoder.", decoder_rate)):
        for biases in (False, True):
            own = [name for name in names if name.startswith(part) and ("bias" in name) is biases]
            tensors = [nn.Parameter(state[name].float()) for name in own]
            groups.append({"params": tensors, "names": own, "lr": rate, "weight_decay": 0.0})
    return [group for group in groups if group["params"]]


# ----------------------------------------------------------------------------------------------- report


@dataclass(frozen=True)
class Line:
    """One comparison.

    Attributes:
        name: tensor or file, with the part of it in brackets.
        status: `ok`, `FAIL`, or `SKIP` with the reason in `detail`.
        difference: largest absolute difference; None for comparisons by equality.
        tolerance: absolute tolerance that `difference` was held against.
        detail: what is wrong, or why it was skipped.
    """

    name: str
    status: Literal["ok", "FAIL", "SKIP"]
    difference: float | None = None
    tolerance: float | None = None
    detail: str = ""

    def __str__(self) -> str:
        numbers = "equality" if self.difference is None else f"{self.difference:.2e} <= {self.tolerance:.0e}"
        shown = "" if self.status == "SKIP" else numbers
        return f"{self.status:4}  {self.name:58}  {shown:20}  {self.detail}".rstrip()


@dataclass
class Report:
    """All lines of one run, in order."""

    lines: list[Line] = field(default_factory=list)

    @property
    def failed(self) -> bool:
        """Whether any comparison failed."""
        return any(line.status == "FAIL" for line in self.lines)

    def tensor(self, name: str, got: Tensor, expected: Tensor, absolute: float, relative: float = 0.0) -> None:
        """Compares max |got - expected| <= absolute + relative |expected|; integers and infinities must be equal."""
        if got.shape != expected.shape:
            self.fail(name, f"shape {tuple(got.shape)}, expected {tuple(expected.shape)}")
            return
        if not got.is_floating_point():  # identifiers of 19 digits do not fit a double
            self.check(name, torch.equal(got, expected.to(got.dtype)), f"{int((got != expected).sum())} differ")
            return
        got, expected = got.detach().double(), expected.detach().double()
        difference = torch.where(got == expected, 0.0, (got - expected).abs()).nan_to_num(nan=float("inf"))
        allowed = absolute + relative * expected.abs()
        agrees = bool(((difference == 0) | (difference <= allowed)).all())  # infinities make `allowed` NaN
        largest = difference.max().item() if difference.numel() else 0.0
        self.lines.append(Line(name, "ok" if agrees else "FAIL", largest, absolute))

    def equal(self, name: str, got: Any, expected: Any) -> None:
        """Compares two plain values (or equal-shaped tensors) by equality."""
        if isinstance(got, Tensor):
            self.tensor(name, got, expected, 0.0)
        elif got == expected:
            self.lines.append(Line(name, "ok"))
        else:
            self.fail(name, f"got {_short(got)}, expected {_short(expected)}")

    def check(self, name: str, holds: bool, detail: str) -> None:
        """A condition that the fixture must fulfil; `detail` says what is wrong when it does not."""
        self.lines.append(Line(name, "ok" if holds else "FAIL", detail="" if holds else detail))

    def fail(self, name: str, detail: str) -> None:
        """Records a comparison that cannot succeed."""
        self.lines.append(Line(name, "FAIL", detail=detail))

    def skip(self, name: str, reason: str) -> None:
        """Records a comparison that cannot be made here, and why."""
        self.lines.append(Line(name, "SKIP", detail=reason))

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Turns an exception inside into a FAIL: a damaged fixture must fail, not end the run."""
        try:
            yield
        except Exception as error:
            self.fail(name, f"{type(error).__name__}: {_short(error)}")

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON values: `ok`, `counts` by status, `comparisons`."""
        statuses = [line.status for line in self.lines]
        return {
            "ok": not self.failed,
            "counts": {status: statuses.count(status) for status in ("ok", "FAIL", "SKIP")},
            "comparisons": [dataclasses.asdict(line) for line in self.lines],
        }


def _short(value: Any) -> str:
    text = str(value).replace("\n", " ")
    return text if len(text) <= 120 else text[:117] + "..."
