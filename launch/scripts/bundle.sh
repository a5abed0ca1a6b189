#!/usr/bin/env bash
# Packs what a machine with cards needs into one file: the program, the tests of the CUDA backend with the golden files they
# read, GPU benchmarks, configs and shared libraries. It runs where there is a driver, glibc 2.36 or newer and the CUDA
# libraries of the toolkit or of Python packages; nothing is installed there. Several ranks meet through a file (no MPI).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

usage() {
  cat <<'TEXT'
usage: launch/scripts/bundle.sh [--out FOLDER] [--cards LIST] [-j N]
  --out    where the archive goes (default: bundle, which git ignores)
  --cards  architectures as CMake names them, such as '90a-real' (default: those of the preset, all that are supported)
  -j       compile jobs (default: all cores)
Exit status: 1 the build failed, 2 wrong arguments, 3 no nvcc or a missing library, 4 an archive of more than 45 MiB
(it stays beside its name, as .part).
TEXT
}
fail() {
  echo "error: bundle.sh: $2" >&2
  exit "$1"
}
needs() {
  if (($# < 3)) || [[ -z $3 ]]; then fail 2 "$2 needs $1"; fi
}

out=bundle
cards=()
jobs=$(nproc)
while (($#)); do
  case $1 in
    --out) needs "a folder" "$@" && out=$2 && shift ;;
    --cards) needs "a list of architectures" "$@" && cards=("-DCMAKE_CUDA_ARCHITECTURES=$2") && shift ;;
    -j) needs "a number" "$@" && jobs=$2 && shift ;;
    -h | --help) usage && exit 0 ;;
    *) fail 2 "unknown argument $1 (--help lists them)" ;;
  esac
  shift
done
[[ $jobs =~ ^[1-9][0-9]*$ ]] || fail 2 "expected a number of jobs behind -j, got $jobs"
PATH=$PATH:${CUDA_HOME:-/usr/local/cuda}/bin command -v nvcc >/dev/null ||
  fail 3 "expected nvcc in PATH or CUDA_HOME, got none: a bundle without the CUDA backend is of no use"

limit_mib=45
build=build/bundle
cmake --preset bundle "${cards[@]}"
cmake --build "$build" -j "$jobs" --target inkstone gpu_programs

name=inkstone-$(sed -n 's/^CMAKE_PROJECT_VERSION:STATIC=//p' "$build/CMakeCache.txt")-linux-x86_64
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/$name
mkdir -p "$root"/{bin,lib,tests}
programs=("$build/launch/inkstone")
mapfile -t gpu_programs <"$build/gpu_programs.txt"
programs+=("${gpu_programs[@]}")
for program in "${programs[@]}"; do
  strip --strip-unneeded -o "$root/bin/$(basename "$program")" "$program"
done

# Shared libraries: all but those of glibc, which belong to the machine, and those of CUDA, which run.sh looks for.
glibc='^(linux-vdso|ld-linux.*|lib(c|m|dl|rt|util|anl|mvec|resolv|pthread|nss_.*|BrokenLocale|thread_db))\.so'
cuda='^lib(cuda|cublas|cudart|cudnn|nccl|nvJitLink|nvrtc|nvToolsExt|cupti|cusparse|cusolver|cufft|curand|nvidia)'
ldd "${programs[@]}" | awk '/=>/ { print $1, $3 }' | sort -u >"$work/libraries"
if grep ' not$' "$work/libraries" >&2; then
  fail 3 "expected every shared library to be there, got none of the ones above"
fi
while read -r library path; do
  [[ ! $library =~ $glibc ]] || continue
  if [[ $library =~ $cuda ]]; then
    echo "$library" >>"$root/lib/cuda-libraries"
  else
    strip --strip-unneeded -o "$root/lib/$library" "$path"
  fi
done <"$work/libraries"
touch "$root/lib/cuda-libraries"

cp launch/scripts/bundle_run.sh "$root/run.sh"
cp -r configs LICENSE "$root"
find "$root/configs" -type f ! -name '*.yaml' -delete
find "$root/configs" -type d -empty -delete
mkdir "$root/tests/golden"
cp -r tests/golden/models "$root/tests/golden"
cp tests/cuda/{programs,sanitize}.sh "$root/tests"
find bench \( -name '*.py' -o -name '*.sh' \) -exec cp --parents -t "$root" {} +
# Where the benchmarks look for programs in a build folder: run.sh, which starts the program of the name it is called by.
mkdir -p "$root/launch" "$root/bench/gpu"
ln -s ../run.sh "$root/launch/inkstone"
ln -s ../../run.sh "$root/bench/gpu/inkstone_gpu_bench"
git rev-parse HEAD >"$root/COMMIT"

mkdir -p "$out"
archive=$out/$name.tar.xz
# Every program has the same kernels: a dictionary that reaches back over all of them makes the archive a sixth smaller. It
# takes 5 GiB to pack and half a gigabyte to unpack.
tar --sort=name --owner=0 --group=0 --numeric-owner -C "$work" -cf - "$name" | xz --lzma2=preset=9,dict=512MiB -T1 >"$archive.part"
size=$(stat -c %s "$archive.part")
if ((size > limit_mib << 20)); then
  fail 4 "expected at most $limit_mib MiB, got $((size >> 20)) MiB in $archive.part; --cards with fewer makes it smaller"
fi
mv "$archive.part" "$archive"
printf 'bundle: %s, %.1f MiB, %d programs; unpack it and call ./run.sh\n' "$archive" \
  "$(awk "BEGIN { print $size / 1048576 }")" "${#programs[@]}"
