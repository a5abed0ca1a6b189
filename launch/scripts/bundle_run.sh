#!/usr/bin/env bash
# Runs a program of this bundle with the CUDA libraries of this machine.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

usage() {
  cat <<'TEXT'
usage: ./run.sh inkstone ARGUMENTS...   the program (inkstone doctor: what it finds here)
       ./run.sh tests [FLAGS...]        the tests of the CUDA backend, one after another; flags of GoogleTest
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

# The first folder that holds the library; nothing when there is none.
folder_with() {
  local folder
  for folder in "${folders[@]}"; do
    if [[ -n $folder && -e $folder/$1 ]]; then
      echo "$folder"
      return
    fi
  done
}

ranks=1
case ${1:-} in
  "" | -h | --help) usage && exit 0 ;;
  -n)
    ranks=${2:?-n needs a number}
    shift 2
    ;;
esac
program=${1:?a program is missing}
shift

IFS=: read -r -a folders <<<"${INKSTONE_CUDA_LIBS:-}:${LD_LIBRARY_PATH:-}"
folders+=("${CUDA_HOME:-/usr/local/cuda}"/{lib64,lib} /usr/local/cuda/{lib64,lib} /usr/lib/x86_64-linux-gnu /usr/lib64)
mapfile -t python_folders < <(folders_of_python)
folders+=("${python_folders[@]}")
path=$here/lib
missing=()
while read -r library; do
  found=$(folder_with "$library")
  if [[ -z $found ]]; then
    missing+=("$library")
  elif [[ :$path: != *:$found:* ]]; then
    path=$path:$found
  fi
done <"$here/lib/cuda-libraries"
if ((${#missing[@]} > 0)); then
  {
    echo "error[4]: run.sh: expected the CUDA libraries of this machine, got none of: ${missing[*]}"
    echo "hint: install the CUDA 13 toolkit or the Python packages nvidia-cublas and nvidia-nccl-cu13, or name their folders in INKSTONE_CUDA_LIBS"
  } >&2
  exit 4
fi
export LD_LIBRARY_PATH=$path

case $program in
  tests)
    cd "$here"
    failed=()
    for test in bin/*_test; do
      echo "== $(basename "$test")"
      "$test" --gtest_brief=1 "$@" || failed+=("$(basename "$test")")
    done
    echo "== failed: ${failed[*]:-none}"
    ((${#failed[@]} == 0))
    ;;
  *)
    if [[ -x $here/bin/$program ]]; then
      command=("$here/bin/$program")
    elif [[ -e $here/bench/$program ]]; then
      export PATH=$here/bin:$PATH INKSTONE_BUILD=$here INKSTONE_BENCH_OUT=${INKSTONE_BENCH_OUT:-$PWD/bench-gpu}
      command=("$here/bench/$program")
    else
      echo "error[2]: run.sh: expected a program of bin/ or a script of bench/, got $program" >&2
      exit 2
    fi
    ((ranks > 1)) || exec "${command[@]}" "$@"
    meeting=$(mktemp -d)
    trap 'rm -rf "$meeting"' EXIT
    export INKSTONE_RENDEZVOUS_DIR=$meeting INKSTONE_RANKS=$ranks
    children=()
    for ((rank = 0; rank < ranks; ++rank)); do
      INKSTONE_RANK=$rank "${command[@]}" "$@" &
      children+=($!)
    done
    status=0
    for child in "${children[@]}"; do wait "$child" || status=$?; done
    exit "$status"
    ;;
esac
