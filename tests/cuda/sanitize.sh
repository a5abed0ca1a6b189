#!/usr/bin/env bash
# The kernels on a card under compute-sanitizer: reads and writes outside of memory (memcheck), hazards in shared memory
# (racecheck), barriers (synccheck). Own kernels alone are looked at, in the tests that call all of them in small sizes.
set -euo pipefail

usage() {
  cat <<'TEXT'
usage: tests/cuda/sanitize.sh [--tool NAME]... [--seconds N] [--logs FOLDER] [--gtest_FLAG]... FOLDER
  FOLDER     where the tests are: build/cuda-release/tests/cuda, or bin of a bundle
  --tool     memcheck, racecheck, synccheck or initcheck (default: the first three)
  --seconds  for one program under one tool (default: 300)
  --logs     where the whole output goes (default: sanitizer-logs)
  --gtest_   flags for the tests; default: --gtest_filter='-*udnn*', all but the ones named for cuDNN
Three tools and four programs may take an hour. Where time is short: one tool and a filter a call, such as
  --tool memcheck --gtest_filter='*attention*on_cuda*:*Attention*:-*udnn*'
COMPUTE_SANITIZER names the program where it is neither in PATH nor in the toolkit (CUDA_HOME, /usr/local/cuda).
Exit status: 1 something was found, a test failed, or there was no card; 2 wrong arguments; 4 no compute-sanitizer.
TEXT
}
fail() {
  echo "error[$1]: sanitize.sh: $2" >&2
  exit "$1"
}
needs() {
  if (($# < 3)) || [[ -z $3 ]]; then fail 2 "$2 needs $1"; fi
}

tools=()
seconds=300
logs="sanitizer-logs"
flags=()
folder=
while (($#)); do
  case $1 in
    --tool) needs "a name" "$@" && tools+=("$2") && shift ;;
    --seconds) needs "a number" "$@" && seconds=$2 && shift ;;
    --logs) needs "a folder" "$@" && logs=$2 && shift ;;
    -h | --help) usage && exit 0 ;;
    --gtest_*) flags+=("$1") ;;
    -*) fail 2 "unknown argument $1 (--help lists them)" ;;
    *)
      [[ -z $folder ]] || fail 2 "expected one folder, got $folder and $1"
      folder=$1
      ;;
  esac
  shift
done
[[ -n $folder ]] || fail 2 "expected the folder of the tests, got none (--help)"
((${#tools[@]} > 0)) || tools=(memcheck racecheck synccheck)
[[ ${flags[*]} == *--gtest_filter=* ]] || flags+=('--gtest_filter=-*udnn*')
[[ $seconds =~ ^[1-9][0-9]*$ ]] || fail 2 "expected a number of seconds, got $seconds"
programs=(cuda_ops_test cuda_attention_test cuda_lm_loss_test cuda_linear_test)
for program in "${programs[@]}"; do
  [[ -x $folder/$program ]] || fail 2 "expected $folder/$program, got none; build the tests of a preset with CUDA"
done

sanitizer=${COMPUTE_SANITIZER:-$(PATH=$PATH:${CUDA_HOME:-/usr/local/cuda}/bin command -v compute-sanitizer || true)}
[[ -n $sanitizer ]] || fail 4 "expected compute-sanitizer in PATH, CUDA_HOME or COMPUTE_SANITIZER, got none; it is in the toolkit"

mkdir -p "$logs"
findings=()
for tool in "${tools[@]}"; do
  for program in "${programs[@]}"; do
    log=$logs/$tool-$program.log
    begin=$SECONDS
    status=0
    # Calls that fail on purpose, such as graphs that are refused, are no findings.
    timeout --kill-after=10 "$seconds" "$sanitizer" --tool "$tool" --error-exitcode 9 --report-api-errors no --print-limit 20 \
      --kernel-name kernel_substring=3ink "$folder/$program" --gtest_brief=1 "${flags[@]}" >"$log" 2>&1 || status=$?
    summary=$(grep -E 'SUMMARY|Target application' "$log" | tail -1 | sed 's/^=* *//' || true)
    ((status != 124)) || summary="did not end within $seconds s; what it had found until then is in the log"
    echo "$tool $program: exit status $status after $((SECONDS - begin)) s: ${summary:-see $log}"
    ((status == 0)) || findings+=("$tool-$program")
  done
done
echo "== findings or failures: ${findings[*]:-none}; logs in $logs"
((${#findings[@]} == 0))
