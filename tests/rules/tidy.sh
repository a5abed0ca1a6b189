#!/usr/bin/env bash
# clang-tidy over the .cpp files that the cpu-release build compiles, the latest changed first, until the budget is spent.
# engine/kernels/cpu is left out: clang does not know g++'s vector extensions.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

usage() {
  cat <<'TEXT'
usage: tests/rules/tidy.sh [--budget SECONDS] [--build DIR] [FILE...]
  --budget  stop starting new files after this time (default: no limit)
  --build   the folder with compile_commands.json (default: build/cpu-release)
  FILE      these files only (default: every folder of the program)
TEXT
}

budget=0
build=build/cpu-release
files=()
while (($#)); do
  case $1 in
    --budget) budget=${2:?--budget needs seconds} && shift ;;
    --build) build=${2:?--build needs a folder} && shift ;;
    -h | --help) usage && exit 0 ;;
    -*) echo "error: tidy.sh: unknown argument $1" >&2 && usage >&2 && exit 2 ;;
    *) files+=("$1") ;;
  esac
  shift
done
[[ -f $build/compile_commands.json ]] || cmake --preset cpu-release -B "$build" >/dev/null

# Files of the newest commits come first, each once; of those that are named, the others last.
newest_first() {
  git log --format= --name-only -- engine configs data models parallel optim launch |
    awk '/\.cpp$/ && !/^engine\/kernels\/cpu\// && !seen[$0]++'
}
if ((${#files[@]} == 0)); then
  mapfile -t files < <(newest_first)
else
  mapfile -t files < <({ newest_first && printf '%s\n' "${files[@]}"; } |
    awk 'NR == FNR { named[$0] = 1; next } named[$0] && !seen[$0]++' <(printf '%s\n' "${files[@]}") -)
fi
existing=()
for file in "${files[@]}"; do
  if [[ -f $file ]] && grep -qF "/$file\"" "$build/compile_commands.json"; then existing+=("$file"); fi
done

status=$(mktemp -d)
trap 'rm -rf "$status"' EXIT
export build status
# The build's warnings are g++'s: clang does not know each of their names.
check_one() {
  (($1 == 0 || $(date +%s) < $1)) || return 0
  touch "$status/checked-${2//\//%}"
  clang-tidy --quiet -p "$build" --extra-arg=-Wno-unknown-warning-option "$2" 2>/dev/null ||
    touch "$status/failed-${2//\//%}"
}
export -f check_one
deadline=0
((budget == 0)) || deadline=$(($(date +%s) + budget))
printf '%s\0' "${existing[@]}" | xargs -0 -r -n 1 -P "$(nproc)" bash -c 'check_one "$0" "$1"' "$deadline"

count() { find "$status" -name "$1-*" | wc -l; }
echo "tidy: checked $(count checked) of ${#existing[@]} files, $(count failed) with findings"
find "$status" -name 'failed-*' -printf '%f\n' | sed 's/^failed-/tidy: findings in /; s/%/\//g'
(($(count failed) == 0))
