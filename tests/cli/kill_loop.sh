#!/usr/bin/env bash
# kill -9 at random moments around saves, many times: no round may lose a checkpoint or a bit of the run.
# usage: tests/cli/kill_loop.sh [ROUNDS] [BUILD]   (default: 100 rounds of one process and 20 of two ranks, build/cpu-release)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

rounds=${1:-100}
build=${2:-build/cpu-release}
[[ $rounds =~ ^[1-9][0-9]*$ ]] || { echo "error: kill_loop.sh: expected a number of rounds, got $rounds" >&2 && exit 2; }
program=$build/tests/cli/cli_kill_test
[[ -x $program ]] || { echo "error: kill_loop.sh: expected $program: cmake --build $build --target cli_kill_test" >&2 && exit 2; }
# A waiting OpenMP thread must not burn the core that a save needs.
export OMP_WAIT_POLICY=passive INKSTONE_KILL_ROUNDS=$rounds
exec "$program"
