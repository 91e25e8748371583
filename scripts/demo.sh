#!/usr/bin/env bash
# The main job on the embedded images: train a small and a larger SEVLM, run them beside a vision-language model of random
# weights and the baselines, write the report.
set -euo pipefail
bin=$1
export HARNESS_DATA=${HARNESS_DATA:-$PWD/runs/demo-data}
checkpoints=$HARNESS_DATA/demo/checkpoints

started=$SECONDS
# Side by side, a thread each: quicker on two cores than one after the other, and the same weights on any number of them.
mkdir -p "$HARNESS_DATA"
OMP_NUM_THREADS=1 "$bin/harness" train sevlm --task demo --out "$checkpoints/sevlm-large" epochs=25 n_layer=3 n_embd=192 \
    >"$HARNESS_DATA/sevlm-large.log" 2>&1 &
larger=$!
trap 'kill "$larger" 2>/dev/null || true' EXIT  # if the one in front fails
OMP_NUM_THREADS=1 "$bin/harness" train sevlm --task demo epochs=25
[ -d "$checkpoints/random-vlm" ] || "$bin/python" tests/tiny_models.py llava "$checkpoints/random-vlm"
wait "$larger" || { cat "$HARNESS_DATA/sevlm-large.log" >&2; exit 1; }
trap - EXIT
trained=$SECONDS
"$bin/harness" run --tasks demo --out runs/demo \
    --models "sevlm,sevlm:checkpoint=$checkpoints/sevlm-large,as=sevlm-large,hf:$checkpoints/random-vlm,as=random-vlm,max_new_tokens=16,majority,nearest,human"
finished=$SECONDS
printf '\ntrain %d s, run with scores and report %d s\n' $((trained - started)) $((finished - trained))
