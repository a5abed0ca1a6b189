#!/usr/bin/env bash
# Unpacks the headers of cudnn-frontend, which Debian does not have, into third_party/: cuDNN's attention is built where they
# are. Only the include/ folder of the PyPI wheel is kept, and only of the one file that the hash names.
set -euo pipefail

version=1.32.0
sha256=c6006556017a4d1c914c52a556c71b1267f2d6a0500f742e7b4edef539878df0
target=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)/third_party/cudnn-frontend

check=no
case ${1:-} in
  "") ;;
  --check) check=yes ;;
  *) echo "usage: launch/scripts/cudnn_frontend.sh [--check]" >&2 && exit 2 ;;
esac

if [[ $(cat "$target/version" 2>/dev/null) == "$version" ]]; then
  echo "setup: the headers of cudnn-frontend $version are there"
  exit 0
fi
echo "setup: the headers of cudnn-frontend $version are missing"
[[ $check == no ]] || exit 1

if ! python3 -m pip --version >/dev/null 2>&1; then
  {
    echo "error: cudnn_frontend.sh: pip is needed to fetch nvidia-cudnn-frontend==$version, and python3 has none here"
    echo "hint: apt-get install -y python3-pip; without the headers attention runs by the own kernels"
  } >&2
  exit 3
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# One wheel for every machine: the headers in all of them are the same, the hash is that of this one.
if ! python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: --implementation cp \
  --python-version 3.11 --abi cp311 --platform manylinux_2_28_x86_64 --dest "$work" \
  "nvidia-cudnn-frontend==$version" 2>"$work/log"; then
  tail -n 5 "$work/log" >&2
  echo "error: cudnn_frontend.sh: pip could not fetch nvidia-cudnn-frontend==$version; its last lines are above" >&2
  exit 3
fi
wheel=$(find "$work" -name '*.whl')
if ! echo "$sha256  $wheel" | sha256sum --check --quiet --status; then
  echo "error: cudnn_frontend.sh: expected SHA-256 $sha256, got $(sha256sum "$wheel" | cut -d' ' -f1)" >&2
  exit 4
fi
python3 - "$wheel" "$work/unpacked" <<'PYTHON'
import sys
import zipfile

with zipfile.ZipFile(sys.argv[1]) as wheel:
    wheel.extractall(sys.argv[2], [name for name in wheel.namelist() if name.startswith("include/")])
PYTHON
rm -rf "$target"
mkdir -p "$target"
mv "$work/unpacked/include" "$target/include"
echo "$version" >"$target/version"
echo "setup: unpacked the headers of cudnn-frontend $version; configure again to build with them"
