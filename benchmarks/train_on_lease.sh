#!/usr/bin/env bash
# The embedded model on a GPU that is lent for minutes at a time: trains in WORK for at most SECONDS and goes on there when
# called again. Once it is finished, the model, its log and curves, and its scores on 2,000 prompts lie in OUT, weights in
# pieces of 15 MB (cat ema.safetensors.* > ema.safetensors).
#   benchmarks/train_on_lease.sh WORK OUT SECONDS [PRESET] [DEVICE] [PROMPTS]
set -euo pipefail
work=$1 out=$2 seconds=$3 preset=${4:-gpu} device=${5:-cuda} prompts=${6:-2000}
until=$((SECONDS + seconds))
python=${PYTHON:-python3}
mkdir -p "$out"
# Runs a command in the time that is left; `timeout 0` would be no limit at all.
within() {
  local left=$((until - SECONDS)) status=0
  if [ "$left" -ge 1 ]; then timeout -s INT "$left" "$@" || status=$?; else status=124; fi
  if [ "$status" -ne 0 ]; then echo "not finished (status $status): call again" >&2; fi
  return "$status"
}

status=0
within "$python" -m strokes train embedded --preset "$preset" --device "$device" --out "$work" || status=$?
cp "$work"/run/{log.jsonl,curves.png} "$out" 2>/dev/null || true
[ "$status" -eq 0 ] || exit "$status"
cp "$work"/{ae.safetensors,tokenizer.json,config.json,llm_config.json,vit_config.json} "$out"
split -b 15M -d "$work/ema.safetensors" "$out/ema.safetensors."
within "$python" -m strokes evaluate shapes --model "$work" --prompts "$work/prompts.txt" \
  --make-prompts "$prompts" --arms one-shot,process --seeds 0,1,2 --examples "$out/wins.png" > "$work/scores.txt"
cp "$work/scores.txt" "$out"
cat "$out/scores.txt"
