#!/usr/bin/env bash
# Runs a program of this bundle with the CUDA libraries of this machine. Called by another name, it is the program of that name.
set -euo pipefail
here=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")

usage() {
  cat <<'TEXT'
usage: ./run.sh inkstone ARGUMENTS...   the program (inkstone doctor: what it finds here)
       ./run.sh tests [NAMES...]        the tests of the CUDA backend, or those named, one after another, each under a time
                                        limit (tests --help): ./run.sh tests cuda_linear_test --gtest_filter='*Bf16*'
       ./run.sh sanitize.sh [FLAGS...]  these tests under compute-sanitizer (sanitize.sh --help)
       ./run.sh gpu.sh kernels          benchmarks beside torch; or another program of bin/ or script of bench/
       ./run.sh -n N inkstone ...       N ranks on this machine, a card each, that meet through a file
The CUDA libraries are looked for in INKSTONE_CUDA_LIBS (folders, separated by colons), LD_LIBRARY_PATH, the toolkit
(CUDA_HOME, /usr/local/cuda) and Python's packages (nvidia/*/lib of INKSTONE_PYTHON, python3 or python).
TEXT
}

folders_of_python() {
  local python
  for python in "${INKSTONE_PYTHON:-}" python3 python; do
    if [[ -z $python ]] || ! command -v "$python" >/dev/null; then continue; fi
    "$python" -c 'import glob, sys
for folder in sys.path:
    print(*sorted(glob.glob(folder + "/nvidia/*/lib")), sep="\n")' 2>/dev/null || true
  done
}

# find_in FOLDERS...: adds the first folder that holds a library to `path`; what none holds is `missing`.
find_in() {
  local library folder found
  missing=()
  while read -r library; do
    found=
    for folder in "$@"; do
      [[ -z $folder || ! -e $folder/$library ]] || { found=$folder && break; }
    done
    if [[ -z $found ]]; then
      missing+=("$library")
    elif [[ :$path: != *:$found:* ]]; then
      path=$path:$found
    fi
  done <"$here/lib/cuda-libraries"
}

wrong() {
  echo "error[2]: run.sh: $1" >&2
  exit 2
}

ranks=1
[[ $(basename "$0") == run.sh ]] || set -- "$(basename "$0")" "$@"
case ${1:-} in
  "" | -h | --help) usage && exit 0 ;;
  -n)
    ranks=${2:-}
    [[ $ranks =~ ^[1-9][0-9]*$ ]] || wrong "expected a number of ranks behind -n, got '$ranks'"
    shift 2
    ;;
esac
program=${1:-}
shift || true
[[ $program == tests || $program == sanitize.sh || -x $here/bin/$program && -f $here/bin/$program || -f $here/bench/$program ]] ||
  wrong "expected tests, a program of bin/ or a script of bench/, got '$program'"

IFS=: read -r -a folders <<<"${INKSTONE_CUDA_LIBS:-}:${LD_LIBRARY_PATH:-}"
folders+=("${CUDA_HOME:-/usr/local/cuda}"/{lib64,lib} /usr/local/cuda/{lib64,lib} /usr/lib/x86_64-linux-gnu /usr/lib64)
path=$here/lib
find_in "${folders[@]}"
if ((${#missing[@]} > 0)); then  # only now: a Python takes its time to start
  mapfile -t -O "${#folders[@]}" folders < <(folders_of_python)
  path=$here/lib
  find_in "${folders[@]}"
fi
if ((${#missing[@]} > 0)); then
  {
    echo "error[4]: run.sh: expected the CUDA libraries of this machine, got none of: ${missing[*]}"
    echo "hint: install the toolkit of CUDA 13, cuDNN and NCCL, or the Python packages nvidia-cublas, nvidia-cuda-nvrtc, nvidia-cudnn-cu13 and nvidia-nccl-cu13, or name the folders in INKSTONE_CUDA_LIBS"
  } >&2
  exit 4
fi

# The caller's folders stay behind: the driver's library may lie in one of them alone.
path=$path${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
case $program in
  tests)
    export LD_LIBRARY_PATH=$path
    exec "$here/tests/programs.sh" "$here/bin" "$@"
    ;;
  sanitize.sh)
    export LD_LIBRARY_PATH=$path
    exec "$here/tests/sanitize.sh" "$@" "$here/bin"
    ;;
  *)
    if [[ -x $here/bin/$program ]]; then
      export LD_LIBRARY_PATH=$path
      command=("$here/bin/$program")
    else  # the libraries of the bundle are for its programs, not for the Python beside them
      export INKSTONE_BUILD=$here INKSTONE_BENCH_OUT=${INKSTONE_BENCH_OUT:-$PWD/bench-gpu}
      command=("$here/bench/$program")
    fi
    ((ranks > 1)) || exec "${command[@]}" "$@"
    meeting=$(mktemp -d)
    trap 'rm -rf "$meeting"' EXIT
    export INKSTONE_RENDEZVOUS_DIR=$meeting INKSTONE_RANKS=$ranks
    children=()
    # What asks to stop may have reached the ranks already, from a terminal say, and of two requests they take the second as
    # one to leave without a save. USR1 is never taken so.
    asked=0
    pass_on() {
      kill -s "$1" "${children[@]}" 2>/dev/null || true
    }
    trap 'if ((asked++)); then pass_on TERM; else pass_on USR1; fi' INT TERM
    trap 'pass_on USR1' USR1
    for ((rank = 0; rank < ranks; ++rank)); do
      INKSTONE_RANK=$rank "${command[@]}" "$@" &
      children+=($!)
    done
    status=0
    for child in "${children[@]}"; do
      code=0
      wait "$child" 2>/dev/null || code=$?
      # A signal ends the wait, and not the rank, which saves first.
      while kill -0 "$child" 2>/dev/null; do
        code=0
        wait "$child" 2>/dev/null || code=$?
      done
      # 6 is what those say that another one left.
      ((code == 0 || (code == 6 && status != 0))) || { ((status != 0 && status != 6)) || status=$code; }
    done
    exit "$status"
    ;;
esac
