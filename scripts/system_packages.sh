#!/usr/bin/env bash
# What the tests need beyond Python packages: a Chromium for the report's tests (Java comes with the [demo] extra).
# Without root or apt the browser tests skip and say so.
set -euo pipefail
command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null && exit 0
if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
    apt-get update -qq >/dev/null
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core >/dev/null
else
    echo "no Chromium found: the report's browser tests will be skipped" >&2
fi
