#!/usr/bin/env bash
# A small ViT with ReLU, LSQ of 16 levels and ST-BIF until nothing changes, on all of MNIST: what enters is the picture itself, or spread over time.
#   DATA=folder_of_mnist bash multirun/reference/spikezip_vit_mnist/run.sh [analog|spread]
# A job that has left its summary.json is not run again. spread needs analog.
set -euo pipefail
part=${1:-all} seed=${SEED:-0} python=${PYTHON:-python}
out=${OUT:-outputs/spikezip_vit_mnist}/seed_$seed

source "$(dirname "$0")/../jobs.sh"

if wanted analog; then job analog train.py experiment=spikezip_vit_micro_mnist "dataset.data_dir=${DATA:?}" "seed=$seed"; fi
if wanted spread; then job spread evaluate.py "checkpoint=$out/analog" neuron=st_bif neuron.spread=16 dataset.limit_test=2000; fi
