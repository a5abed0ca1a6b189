#!/usr/bin/env bash
# The tests of the CUDA backend, a program after another, each under a time limit: a kernel that waits for ever never ends on a
# card. What is least likely to hang goes first; a line says how each ended, and what came before a limit is kept.
set -euo pipefail

usage() {
  cat <<'TEXT'
usage: tests/cuda/programs.sh [--seconds N] [--logs FOLDER] [--gtest_FLAG]... FOLDER [PROGRAM]...
  FOLDER     where the tests are: build/cuda-release/tests/cuda, or bin of a bundle
  PROGRAM    such as cuda_linear_test; default: all that are there
  --seconds  for one program (default: 180)
  --logs     where the whole output goes (default: test-logs)
  --gtest_   flags for the tests, such as --gtest_filter='-*wgmma*'
Exit status: 1 a test failed or a program did not end within its time, 2 wrong arguments. Tests that are skipped do not fail.
TEXT
}
fail() {
  echo "error[2]: programs.sh: $1" >&2
  exit 2
}
needs() {
  if (($# < 3)) || [[ -z $3 ]]; then fail "$2 needs $1"; fi
}

seconds=180
logs=test-logs
flags=()
names=()
while (($#)); do
  case $1 in
    --seconds) needs "a number" "$@" && seconds=$2 && shift ;;
    --logs) needs "a folder" "$@" && logs=$2 && shift ;;
    -h | --help) usage && exit 0 ;;
    --gtest_*) flags+=("$1") ;;
    -*) fail "unknown argument $1 (--help lists them)" ;;
    *) names+=("$1") ;;
  esac
  shift
done
((${#names[@]} > 0)) || fail "expected the folder of the tests, got none (--help)"
[[ $seconds =~ ^[1-9][0-9]*$ ]] || fail "expected a number of seconds, got $seconds"
[[ -d ${names[0]} ]] || fail "expected a folder, got ${names[0]}"
folder=$(cd "${names[0]}" && pwd)
names=("${names[@]:1}")

# Products and row kernels; then what has most code that waits: kernels with barriers, several ranks, whole runs.
last=(cuda_ops_test cuda_attention_test cuda_layout_test cuda_nccl_group_test cuda_peak_test cuda_cli_test)
if ((${#names[@]} == 0)); then
  mapfile -t names < <(cd "$folder" && find . -maxdepth 1 -name '*_test' -printf '%f\n' | sort |
    grep -vxF "$(printf '%s\n' "${last[@]}")")
  for name in "${last[@]}"; do
    [[ ! -x $folder/$name ]] || names+=("$name")
  done
fi
((${#names[@]} > 0)) || fail "expected tests in $folder, got none"
for name in "${names[@]}"; do
  [[ -x $folder/$name ]] || fail "expected a program of $folder, got $name"
done

# Failures, where it stopped, and the reason to skip, which is one for many tests, once.
# shellcheck disable=SC2016
digest='
  function say(text) { if (++lines <= 40) print text; else if (lines == 41) print "..." }
  /^\[ RUN      \] / { running = $4; next }
  /^\[       OK \] |^\[  SKIPPED \] / { running = ""; next }
  /^\[  FAILED  \] .* ms\)$/ { running = ""; say($0); next }
  /: Skipped$/ { if (getline && !said[$0]++) say("skipped: " $0); next }
  /^\[[-=]+\]|^\[  (PASSED|FAILED)  \]|FAILED TESTS?$|^(Note: |Running main)|^$/ { next }
  { say($0) }
  END { if (running != "") print "stopped in: " running }'
count() {
  grep -cE "^\[ +$1 +\] .* ms\)$" "$log" || true
}

mkdir -p "$logs"
logs=$(cd "$logs" && pwd)
cd "$folder/.."  # of a bundle: where the golden files are
failed=()
late=()
skipped=0
for name in "${names[@]}"; do
  log=$logs/$name.log
  begin=$SECONDS
  status=0
  timeout --kill-after=10 "$seconds" "$folder/$name" "${flags[@]}" >"$log" 2>&1 || status=$?
  took=$((SECONDS - begin))
  awk "$digest" "$log"
  skipped=$((skipped + $(count SKIPPED)))
  how="exit status $status"
  if ((status == 124 || status == 137 && took >= seconds)); then
    how="did not end"
    late+=("$name")
  elif ((status != 0)); then
    failed+=("$name")
  fi
  echo "$name: $how after $took s: $(count OK) passed, $(count FAILED) failed, $(count SKIPPED) skipped"
done
echo "== ${#names[@]} programs, $skipped tests skipped; failed: ${failed[*]:-none}; did not end: ${late[*]:-none}; logs in $logs"
((${#failed[@]} + ${#late[@]} == 0))
