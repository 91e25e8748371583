"""Finding the device to compute on."""

from __future__ import annotations

import torch

from sevlm.errors import SEVLMError


def find_device(name: str | None) -> torch.device:
    """The device of this name (`cpu`, `cuda`, `cuda:1`); None takes CUDA where there is one.

    Raises:
        SEVLMError: this machine, or this build of torch, has no such device.
    """
    wanted = name if name is not None else "cuda" if torch.cuda.is_available() else "cpu"
    try:
        return torch.empty(0, device=wanted).device
    except (RuntimeError, AssertionError) as error:  # torch without CUDA says so by an assertion
        raise SEVLMError(f"device {wanted!r} cannot be used here: {str(error).splitlines()[0][:200]}") from None
