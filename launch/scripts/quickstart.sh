#!/usr/bin/env bash
# From a bare Debian 12 machine to a small InternLM2 that was trained on real text. Finished stages are
# not repeated: a second call goes on where the first one stopped.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

usage() {
  cat <<'TEXT'
usage: launch/scripts/quickstart.sh [--zh] [--fresh] [--seconds N]
  --zh         train on Chinese text too (the Debian package fortunes-zh)
  --fresh      forget the tokenizer, tokens and model of an earlier call and make them again
  --seconds N  how long to pretrain (default: 120)
TEXT
}
# needs WHAT OPTION [VALUE...]: a wrong command line is one line.
needs() {
  if (($# < 3)) || [[ -z $3 ]]; then echo "error: quickstart.sh: $2 needs $1" >&2 && exit 2; fi
}

run=runs/quickstart
seconds=120
fresh=no
packages=(dict-gcide)
while (($#)); do
  case $1 in
    --zh) run=runs/quickstart-zh && packages+=(fortunes-zh) ;;
    --fresh) fresh=yes ;;
    --seconds) needs "a number" "$@" && seconds=$2 && shift ;;
    -h | --help) usage && exit 0 ;;
    *) echo "error: quickstart.sh: unknown argument $1" >&2 && usage >&2 && exit 2 ;;
  esac
  shift
done
if [[ ! $seconds =~ ^[1-9][0-9]*$ ]]; then
  echo "error: quickstart.sh: expected a number of seconds, got $seconds" >&2
  exit 2
fi
[[ $fresh == no ]] || rm -rf "$run"
mkdir -p "$run" .cache/text

stages=8
number=0
stage() {
  number=$((number + 1))
  printf '\n[%d/%d] %s  (%d:%02d so far)\n' "$number" "$stages" "$1" $((SECONDS / 60)) $((SECONDS % 60))
}
skip() { echo "      done before: $1"; }

inkstone=build/cpu-release/launch/inkstone
tokenizer=$run/tokenizer/tokenizer.model
store=$run/tokens.h5
train=$run/train
model=$run/hf

# apt_fetch PACKAGE: unpacks a Debian package into .cache/text without installing it.
apt_fetch() {
  local package=$1 folder
  [[ ! -d .cache/text/$package ]] || return 0
  folder=$(mktemp -d -p .cache/text)
  if ! (cd "$folder" && apt-get -qq download "$package" >log 2>&1); then
    # A machine on which nothing had to be installed may never have fetched the package lists.
    local as_root=()
    [[ $(id -u) == 0 ]] || as_root=(sudo)
    "${as_root[@]}" apt-get -qq update </dev/null
    (cd "$folder" && apt-get -qq download "$package")
  fi
  dpkg -x "$folder/$package"_*.deb "$folder/unpacked"
  mv "$folder/unpacked" ".cache/text/$package"
  rm -rf "$folder"
}

stage "Packages"
launch/scripts/setup.sh

stage "Build (build/cpu-release)"
cmake --preset cpu-release >"$run/build.log" 2>&1 || { cat "$run/build.log" >&2 && exit 1; }
cmake --build build/cpu-release --target inkstone

stage "Text: ${packages[*]}"
texts=()
for package in "${packages[@]}"; do
  apt_fetch "$package"
  case $package in
    dict-gcide) texts+=(.cache/text/dict-gcide/usr/share/dictd/gcide.index) ;;
    fortunes-zh) texts+=(.cache/text/fortunes-zh/usr/share/games/fortunes/{chinese,song100,tang300}) ;;
  esac
done
du -hL --apparent-size "${texts[@]}" | sed 's/^/      /'

stage "Tokenizer: 8192 pieces from a 10 MB sample"
if [[ -s $tokenizer ]]; then
  skip "$tokenizer"
else
  "$inkstone" data tokenizer --in "${texts[@]}" --out "$(dirname "$tokenizer")" --vocab-size 8192 --sample 10MB
fi

stage "Tokens: the whole text, packed"
if [[ -s $store ]]; then
  skip "$store"
else
  "$inkstone" data prepare --in "${texts[@]}" --out "$store" --tokenizer "$tokenizer" --max-length 256 \
    --eval-fraction 0.005 --seed 0
fi

run_file=configs/runs/pretrain_internlm2_tiny.yaml
settings=(model.tokenizer="$tokenizer" data.train.0.path="$store" data.max_length=256 data.eval.fraction=0.005)

# The learning rate falls to its end over train.steps, so the number of steps is chosen for this machine:
# ten steps are timed, and the first three of them, which warm up, are left out.
steps_for() {
  local probe=$run/probe
  "$inkstone" train "$run_file" "${settings[@]}" checkpoint.dir="$probe" checkpoint.hf=never \
    train.eval_batches=1 train.steps=10 optim.warmup_steps=1 --overwrite --quiet
  sed -n 's/.*"event":"step".*"step_time":\([0-9.e+-]*\).*/\1/p' "$probe/metrics.jsonl" |
    awk -v seconds="$1" 'NR > 3 { sum += $1; n++ } END { s = int(seconds * n / sum); print s < 20 ? 20 : s }'
  rm -rf "$probe"
}

stage "Pretraining: InternLM2 with 9.7 million parameters, about $seconds s"
if [[ -d $model ]] || compgen -G "$train/step-*/manifest.json" >/dev/null; then
  skip "$train"
else
  steps=$(steps_for "$seconds")
  "$inkstone" train "$run_file" "${settings[@]}" checkpoint.dir="$train" train.steps="$steps" \
    train.eval_every=$((steps / 4)) checkpoint.every="$steps" optim.warmup_steps=$((steps / 20 + 1)) --overwrite
fi

stage "Export: a Hugging Face folder"
if [[ -s $model/config.json ]]; then
  skip "$model"
else
  "$inkstone" export hf --in "$train" --out "$model"
fi

stage "Samples"
for prompt in "Water is" "A kind of"; do
  echo "--- $prompt"
  "$inkstone" generate --model "$model" --prompt "$prompt" --max-new-tokens 60 --temperature 0.8 --top-k 40
done

cat <<TEXT

Done in $((SECONDS / 60)):$(printf %02d $((SECONDS % 60))).
  $tokenizer   the tokenizer
  $store   the tokens
  $train/   the run: run.yaml, metrics.jsonl, loss.svg, log.txt, checkpoints
  $model/   the model; transformers loads it as it lies

To try next:
  $inkstone generate --model $model --prompt "The sea"
  $inkstone data inspect $train/run.yaml --packed
  $inkstone train $run_file model.tokenizer=my.model data.train.0.path=my.txt data.train.0.format=lines checkpoint.dir=runs/mine
  mpirun -np 2 --bind-to none $inkstone train $train/run.yaml checkpoint.dir=runs/two-ranks
TEXT
