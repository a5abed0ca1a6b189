#!/usr/bin/env bash
# Builds the libFuzzer targets and runs each one for some seconds from its seeds in tests/fuzz/corpus/NAME.
# What libFuzzer finds lands in build/fuzz/findings; re-run a finding with build/fuzz/fuzz/NAME FILE.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

seconds=${1:?usage: tests/fuzz/run.sh SECONDS [NAME...]}
shift
if ! command -v clang++ >/dev/null; then
  echo "error: fuzz/run.sh: clang++ is not installed" >&2
  echo "hint: launch/scripts/setup.sh --dev" >&2
  exit 3
fi
cmake --preset fuzz
cmake --build build/fuzz -j "$(nproc)" --target fuzz_targets

names=("$@")
if ((${#names[@]} == 0)); then
  for source in tests/fuzz/*_fuzz.cpp; do
    [[ -e $source ]] && names+=("$(basename "$source" .cpp)")
  done
fi

findings=$PWD/build/fuzz/findings
mkdir -p "$findings"
failed=()
for name in "${names[@]}"; do
  grown=build/fuzz/corpus/$name
  mkdir -p "$grown"
  seeds=()
  [[ -d tests/fuzz/corpus/$name ]] && seeds=("tests/fuzz/corpus/$name")
  echo "fuzz: $name, $seconds s"
  if ! build/fuzz/fuzz/"$name" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -print_final_stats=0 \
    -verbosity=0 -artifact_prefix="$findings/$name-" "$grown" "${seeds[@]}"; then
    failed+=("$name")
  fi
done
echo "fuzz: ${#names[@]} targets, failed: ${failed[*]:-none}"
((${#failed[@]} == 0))
