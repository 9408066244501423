#!/usr/bin/env bash
# VGG-16 and ResNet-18 at full size, one epoch of QCFS from random weights, made to spike: whether all of it runs, and the conversion is exact.
#   DATA=folder_of_cifar10 [PICTURES=5000] bash multirun/reference/full_size_cifar10/run.sh [vgg16|resnet18]
# PICTURES of the training split (null: all 45,000); a job that has left its summary.json is not run again.
set -euo pipefail
part=${1:-all} out=${OUT:-outputs/full_size_cifar10} python=${PYTHON:-python}

source "$(dirname "$0")/../jobs.sh"

for model in vgg16 resnet18; do
    if wanted $model; then
        job $model train.py experiment=parainf_vgg16_cifar10 name=parainf_$model model=$model dataset=cifar10_jpeg \
            "dataset.data_dir=${DATA:?}" "dataset.limit_train=${PICTURES:-5000}" dataset.limit_test=2000 training.batch_size=64 \
            training.quantized.epochs=1 optimizer.lr=0.05 optimizer.norm_weight_decay=0 optimizer.threshold_weight_decay=0 \
            training.compile=true execution=collapsed
    fi
done
