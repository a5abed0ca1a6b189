#!/usr/bin/env bash
# Benchmarks on one NVIDIA card, each against torch in the same run:
#
#   bench/gpu.sh kernels|step-1.8b|step-7b [--dry-run] [further options of the program]
#
# Results go to standard output and, as JSON, to $INKSTONE_BENCH_OUT (build/bench-gpu otherwise). It takes at
# most 8 minutes on an H100; where torch has compiled nothing yet, call kernels twice, with half of the --families
# each. --dry-run tries the same programs in small sizes on the CPU, without a card.
#   PYTHON           an interpreter with torch and transformers (tests/peer/README.md); python3 otherwise
#   INKSTONE_BUILD   the build folder; build/cuda-release otherwise, build/cpu-release with --dry-run
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
usage() {
  sed -n '2,10s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2
  exit 2
}
fail() {
  echo "bench/gpu.sh: $*" >&2
  exit 1
}

[[ $# -ge 1 ]] || usage
what=$1
shift
dry=no
options=()
for option in "$@"; do
  if [[ $option == --dry-run ]]; then dry=yes; else options+=("$option"); fi
done

export CUDA_DEVICE_ORDER=PCI_BUS_ID  # CUDA_VISIBLE_DEVICES counts as nvidia-smi does
preset=cuda-release
[[ $dry == no ]] || preset=cpu-release
build=${INKSTONE_BUILD:-$root/build/$preset}
python=${PYTHON:-python3}
out=${INKSTONE_BENCH_OUT:-$root/build/bench-gpu}

if [[ $dry == no ]] && ! nvidia-smi >/dev/null 2>&1; then
  fail "expected an NVIDIA card with its driver, got none (nvidia-smi does not answer); --dry-run tries the programs without one"
fi
"$python" -c 'import torch, transformers' 2>/dev/null ||
  fail "$python has no torch and transformers; set PYTHON to an environment that has them (tests/peer/README.md)"
need() {
  [[ -x $1 ]] || fail "expected $1; build it: cmake --preset $preset -DINKSTONE_BENCH=ON && cmake --build --preset $preset"
}

mkdir -p "$out"
case $what in
  kernels)
    need "$build/bench/gpu/inkstone_gpu_bench"
    [[ $dry == no ]] || options+=(--tiny)
    exec "$python" "$root/bench/gpu/kernels.py" --bench "$build/bench/gpu/inkstone_gpu_bench" \
      --json "$out/kernels.json" "${options[@]}"
    ;;
  step-1.8b | step-7b)
    need "$build/launch/inkstone"
    [[ $dry == no ]] || options+=(--dry-run)
    exec "$python" "$root/bench/gpu/step.py" "${what#step-}" --inkstone "$build/launch/inkstone" \
      --json "$out/$what.json" "${options[@]}"
    ;;
  *) usage ;;
esac
