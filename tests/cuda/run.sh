#!/usr/bin/env bash
# The CUDA product as far as this machine goes: compiled and linked wherever nvcc is found, its code and its launches looked
# through, the program started; the tests of the backend run where there is a card and are skipped visibly where there is none.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

usage() {
  cat <<'TEXT'
usage: tests/cuda/run.sh [--preset NAME] [-j N]
  --preset  a configure preset with CUDA: cuda-ci (default: the oldest and the newest cards), cuda-release
  -j        compile jobs (default: all cores)
TEXT
}
# needs WHAT OPTION [VALUE...]: a wrong command line is one line.
needs() {
  if (($# < 3)) || [[ -z $3 ]]; then echo "error: run.sh: $2 needs $1" >&2 && exit 2; fi
}

preset=cuda-ci
jobs=$(nproc)
while (($#)); do
  case $1 in
    --preset) needs "a name" "$@" && preset=$2 && shift ;;
    -j) needs "a number" "$@" && jobs=$2 && shift ;;
    -h | --help) usage && exit 0 ;;
    *) echo "error: run.sh: unknown argument $1" >&2 && usage >&2 && exit 2 ;;
  esac
  shift
done

if ! PATH=$PATH:${CUDA_HOME:-/usr/local/cuda}/bin command -v nvcc >/dev/null; then
  echo "cuda: nvcc not found, so only the CPU product was built"
  exit 0
fi
build=build/$preset
cmake --preset "$preset"
cmake --build "$build" -j "$jobs"

# The driver's library belongs to the machine with the card, and the runtime is in the program.
program=$build/launch/inkstone
if readelf -d "$program" | grep -E 'NEEDED.*\[lib(cuda|cudart)\.so'; then
  echo "error: run.sh: expected $program without the libraries above" >&2
  exit 1
fi
"$program" --version
"$program" doctor

tools=build/sass-tools
if ! command -v cuobjdump >/dev/null && [[ ! -d $tools ]]; then
  timeout 120 python3 -m pip install --quiet --target "$tools" nvidia-cuda-cuobjdump nvidia-cuda-nvdisasm || rm -rf "$tools"
fi
looked_through=("$build")
emulated=build/cpu-release/tests/cuda/cuda_ops_test
if [[ -x $emulated ]]; then
  log=$PWD/$build/launches.txt
  rm -f "$log"
  for capability in 75 80 86 89 90; do
    EMULATED_LAUNCH_LOG=$log EMULATED_CAPABILITY=$capability OMP_NUM_THREADS=1 "$emulated" --gtest_brief=1 \
      --gtest_filter='*_on_cuda.*'
  done
  looked_through+=(--launches "$log" --program "$emulated")
else
  echo "cuda: launches were not looked through: build and run the tests of cpu-release first"
fi
PYTHONPATH=$tools tests/cuda/sass.py "${looked_through[@]}"

ctest --test-dir "$build" -j 1 -L '^L1$' --output-on-failure --no-tests=error
