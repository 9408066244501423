#!/usr/bin/env bash
# Small spiking transformers trained directly, beside a ViT and a ResNet-20 trained in float, quantised and converted: each gets about
# the same time on one core (a quarter of an hour on CIFAR-10, five to six minutes on MNIST), and sees as many pictures as it can in that time.
#   DATA=folder_of_the_folders bash multirun/reference/spiking_transformers/run.sh mnist|cifar10_jpeg|synthetic_events [model|exact]
# A job that has left its summary.json is not run again.
set -euo pipefail
dataset=$1 part=${2:-all} seed=${SEED:-0} python=${PYTHON:-python}
out=${OUT:-outputs/spiking_transformers}/$1/seed_$seed

source "$(dirname "$0")/../jobs.sh"

train() {  # model, then overrides
    if wanted "$1"; then job "$1" train.py "model=$1" "dataset=$dataset" "seed=$seed" training.log_every=50 "${@:2}"; fi
}

if [ "$dataset" = synthetic_events ]; then
    small="T=8 training.batch_size=32 optimizer.lr=1e-3 training.native.epochs=15 model.args.depth=1 model.args.pooled_stages=[1,2,3]
        model.args.embed_dim=64 model.args.num_heads=4"
    train tim $small model.args.image_size=32
    train spikformer_dvs $small
    exit
fi

case $dataset in
    mnist) folder=mnist fast=48000 epochs=1 slow=22000 slow_epochs=1 vit=15000 vit_epochs=2 vit_batch=32 resnet=54000 resnet_epochs=1 ;;
    cifar10_jpeg) folder=cifar10 fast=36000 epochs=3 slow=27000 slow_epochs=2 vit=30000 vit_epochs=3 vit_batch=64 resnet=null resnet_epochs=7 ;;
    *) echo "unknown data set $dataset" >&2; exit 2 ;;
esac
data="dataset.data_dir=${DATA:?}/$folder dataset.limit_validation=1000 dataset.limit_test=4000 training.compile=true"
native="T=4 training.batch_size=32 optimizer.lr=1e-3 model.args.embed_dim=64 model.args.num_heads=4"
train spikformer $data $native model.args.depth=2 dataset.limit_train=$fast training.native.epochs=$epochs
train sdt $data $native model.args.depth=2 dataset.limit_train=$fast training.native.epochs=$epochs
train qkformer $data $native "model.args.depths=[1,1,1]" dataset.limit_train=$slow \
    training.native.epochs=$slow_epochs
converted="T=4 neuron=para_inf"
train vit_micro $data $converted training.batch_size=$vit_batch optimizer.lr=1e-3 optimizer.weight_decay=0.05 dataset.limit_train=$vit \
    training.float.epochs=$vit_epochs "training.quantized={epochs: 1, lr: 3e-4, distill: 0.5}"
train resnet20 $data $converted training.batch_size=128 dataset.limit_train=$resnet training.float.epochs=$resnet_epochs \
    training.quantized.epochs=1
if wanted exact; then  # the converted ViT beside its quantised network, on every test picture
    job vit_micro_exact evaluate.py "checkpoint=$out/vit_micro" dataset.limit_test=null
fi
