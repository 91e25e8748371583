#!/usr/bin/env bash
# The main job on the embedded paintings: train a small SEVLM, run it beside the baselines, write the report.
set -euo pipefail
bin=$1
export HARNESS_DATA=${HARNESS_DATA:-$PWD/runs/demo-data}

started=$SECONDS
"$bin/harness" train sevlm --task demo
trained=$SECONDS
"$bin/harness" run --tasks demo --models sevlm,majority,nearest,human --out runs/demo
finished=$SECONDS
printf '\ntrain %d s, run with scores and report %d s\n' $((trained - started)) $((finished - trained))
