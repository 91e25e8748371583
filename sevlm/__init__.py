"""SEVLM: a small emotional vision-language model (ECCV 2024, arXiv 2403.11150) as a plain PyTorch library.

    from sevlm import SEVLM

    model = SEVLM.from_pretrained("checkpoints/sevlm")
    answers = model.generate([picture], labels=["awe", "fear"])

Nothing heavy is imported until a name is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sevlm.config import SEVLMConfig
    from sevlm.errors import SEVLMError
    from sevlm.model import SEVLM

__all__ = ["SEVLM", "SEVLMConfig", "SEVLMError"]

_HOMES = {"SEVLM": "sevlm.model", "SEVLMConfig": "sevlm.config", "SEVLMError": "sevlm.errors"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'sevlm' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
