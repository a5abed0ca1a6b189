#!/usr/bin/env bash
# Installs the Debian 12 packages that Inkstone needs and does nothing when all of them are there.
set -euo pipefail

build=(g++ cmake ninja-build pkg-config ccache git)
libraries=(libdnnl-dev ocl-icd-opencl-dev libopenmpi-dev openmpi-bin libhdf5-dev libsentencepiece-dev
  libyaml-cpp-dev libspdlog-dev libfmt-dev nlohmann-json3-dev libcli11-dev libpcre2-dev libssl-dev
  libutf8proc-dev zlib1g-dev libzstd-dev libgtest-dev libbenchmark-dev strace)
# Formatter, linter, and libFuzzer with clang's sanitizer runtimes.
dev=(clang-format clang-tidy clang libclang-rt-14-dev libomp-14-dev)

usage() {
  cat <<'TEXT'
usage: launch/scripts/setup.sh [--check] [--dev]
  --check  list what is missing and install nothing; exit status 1 if something is
  --dev    also what contributors need: clang-format, clang-tidy, libFuzzer
TEXT
}

check=no
wanted=("${build[@]}" "${libraries[@]}")
for argument in "$@"; do
  case $argument in
    --check) check=yes ;;
    --dev) wanted+=("${dev[@]}") ;;
    -h | --help) usage && exit 0 ;;
    *) echo "error: setup.sh: unknown argument $argument" >&2 && usage >&2 && exit 2 ;;
  esac
done

if ! command -v dpkg-query >/dev/null; then
  {
    echo "error: setup.sh: this is not a Debian system, so the packages cannot be installed from here"
    echo "hint: install what these Debian packages hold, then build (docs/building.md): ${wanted[*]}"
  } >&2
  exit 3
fi

# What a CUDA build wants besides. Debian has no package of it, and without it the own kernels run: its absence fails nothing.
cudnn_frontend() {
  command -v nvcc >/dev/null || [[ -x ${CUDA_HOME:-/usr/local/cuda}/bin/nvcc ]] || return 0
  "$(dirname "${BASH_SOURCE[0]}")/cudnn_frontend.sh" "$@" || true
}

missing=()
for package in "${wanted[@]}"; do
  state=$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null || true)
  [[ $state == installed ]] || missing+=("$package")
done

if ((${#missing[@]} == 0)); then
  echo "setup: all ${#wanted[@]} packages are installed"
  if [[ $check == yes ]]; then cudnn_frontend --check; else cudnn_frontend; fi
  exit 0
fi
echo "setup: ${#missing[@]} of ${#wanted[@]} packages are missing: ${missing[*]}"
[[ $check == no ]] || exit 1

as_root=()
if [[ $(id -u) != 0 ]]; then
  if ! command -v sudo >/dev/null; then
    {
      echo "error: setup.sh: installing packages needs root, and there is no sudo here"
      echo "hint: run this as root: apt-get update && apt-get install -y ${missing[*]}"
    } >&2
    exit 3
  fi
  as_root=(sudo)
fi

# apt-get is asked to be quiet; its messages are shown only when it fails.
log=$(mktemp)
trap 'rm -f "$log"' EXIT
run_apt() {
  if ! "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Use-Pty=0 "$@" \
    </dev/null >"$log" 2>&1; then
    tail -n 20 "$log" >&2
    echo "error: setup.sh: apt-get $1 failed; its last lines are above" >&2
    exit 3
  fi
}
echo "setup: installing (a few minutes on a bare machine)"
run_apt update
run_apt install -y --no-install-recommends "${missing[@]}"
cudnn_frontend
echo "setup: done"
