#!/usr/bin/env bash
# Set-up, configure, build, ctest. ctest's closing lines are the last thing printed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

usage() {
  cat <<'TEXT'
usage: tests/run.sh [--tier quick|full] [--preset NAME] [--target NAME] [-R REGEX] [-j N]
  --tier    quick: tests that take seconds (L0); full (default): also GPU (L1) and several ranks (L2).
            Convergence tests (L3) run by name only: ctest --test-dir build/cpu-release -L L3
  --preset  a configure preset: cpu-release (default), cpu-debug, cpu-asan, cpu-tsan, cuda-on-cpu-asan, fuzz
  --target  build this target only and run the tests that are there, such as parser_tests (default: all)
  -R        only tests whose name matches
  -j        compile and test jobs (default: all cores)
TEXT
}
# needs WHAT OPTION [VALUE...]: a wrong command line is one line.
needs() {
  if (($# < 3)) || [[ -z $3 ]]; then echo "error: run.sh: $2 needs $1" >&2 && exit 2; fi
}

tier=full
preset=cpu-release
target=all
filter=()
jobs=$(nproc)
while (($#)); do
  case $1 in
    --tier) needs "quick or full" "$@" && tier=$2 && shift ;;
    --preset) needs "a name" "$@" && preset=$2 && shift ;;
    --target) needs "a name" "$@" && target=$2 && shift ;;
    -R) needs "an expression" "$@" && filter=(-R "$2") && shift ;;
    -j) needs "a number" "$@" && jobs=$2 && shift ;;
    -h | --help) usage && exit 0 ;;
    *) echo "error: run.sh: unknown argument $1" >&2 && usage >&2 && exit 2 ;;
  esac
  shift
done
case $tier in
  quick) labels='^L0$' ;;
  full) labels='^L[012]$' ;;
  *) echo "error: run.sh: --tier is quick or full, not $tier" >&2 && exit 2 ;;
esac

in_container() { [[ -e /.dockerenv || -e /run/.containerenv || ${CI:-} == true ]]; }
if [[ $(id -u) == 0 ]] && in_container; then
  echo "run.sh: root inside a container: OMPI_ALLOW_RUN_AS_ROOT=1 is set, Open MPI refuses root without it"
  export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
fi
# Several tests share the cores: a waiting OpenMP thread must not burn one.
export OMP_WAIT_POLICY=passive
export LSAN_OPTIONS=${LSAN_OPTIONS:-suppressions=$PWD/tests/lsan.supp:print_suppressions=0}
export UBSAN_OPTIONS=${UBSAN_OPTIONS:-print_stacktrace=1}

build=build/$preset
launch/scripts/setup.sh
cmake --preset "$preset"
cmake --build "$build" -j "$jobs" --target "$target"
ctest --test-dir "$build" -j "$jobs" -L "$labels" "${filter[@]}" --output-on-failure --no-tests=error
