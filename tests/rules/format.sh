#!/usr/bin/env bash
# Every C++ and CUDA file is as clang-format leaves it. `format.sh --fix` rewrites the files instead.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

mode=(--dry-run --Werror)
[[ ${1:-} == --fix ]] && mode=(-i)
git ls-files -z --cached --others --exclude-standard '*.h' '*.cpp' '*.cu' '*.cuh' |
  xargs -0 -r -n 50 -P "$(nproc)" clang-format "${mode[@]}"
echo "format: $(git ls-files --cached --others --exclude-standard '*.h' '*.cpp' '*.cu' '*.cuh' | wc -l) files"
