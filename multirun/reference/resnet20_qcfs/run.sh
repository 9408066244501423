#!/usr/bin/env bash
# ResNet-20 trained in float, trained on with QCFS of 4 and of 8 levels, made to spike, and measured over T; and ReLU for as many epochs.
#   DATA=folder_of_cifar10 bash multirun/reference/resnet20_qcfs/run.sh cifar10_jpeg|mnist [float|relu|direct|qcfs|distilled|branch|sizes|longer|early|faded|bf16|frozen|adam|unclipped|late|steps|longer_steps|bf16_steps|few]
# A job that has left its summary.json is not run again. qcfs needs float, distilled relu, faded and early longer, steps qcfs, longer_steps and few longer, late, frozen, adam, unclipped and bf16_steps bf16.
set -euo pipefail
dataset=$1 part=${2:-all} seed=${SEED:-0} python=${PYTHON:-python}
out=${OUT:-outputs/resnet20_qcfs}/$1/seed_$seed

case $dataset in
    cifar10_jpeg) float=16 quantized=6 ;;
    mnist) float=4 quantized=2 ;;
    *) echo "unknown data set $dataset" >&2; exit 2 ;;
esac

source "$(dirname "$0")/../jobs.sh"

train() {  # folder, then overrides
    local folder=$1
    shift
    job "$folder" train.py model=resnet20 dataset="$dataset" "dataset.data_dir=${DATA:?}" "seed=$seed" training.batch_size=128 "$@"
}

if wanted float; then train float "training.stages=[float,evaluate]" training.float.epochs=$float; fi
if wanted relu; then train relu "training.stages=[float,evaluate]" training.float.epochs=$((float + quantized)); fi
if wanted direct; then  # as many epochs as relu: two of them in float, from which the thresholds are set
    for T in ${LEVELS:-4 8}; do
        train direct_$T T=$T training.float.epochs=2 training.quantized.epochs=$((float + quantized - 2)) \
            training.quantized.lr=0.1 training.compile=true
    done
fi
if wanted qcfs; then
    for T in 4 8; do
        train qcfs_$T T=$T "checkpoint=$out/float/stages/float" "training.stages=[calibrate,quantized,convert,evaluate]" \
            training.quantized.epochs=$quantized training.compile=true
    done
fi
if wanted distilled; then  # from what ReLU has reached, learning its predictions beside the labels
    for T in 4 8; do
        train distilled_$T T=$T "checkpoint=$out/relu/stages/float" "training.stages=[calibrate,quantized,convert,evaluate]" \
            training.quantized.epochs=8 training.quantized.lr=0.03 training.quantized.distill=0.7 training.compile=true
    done
fi
if wanted branch; then  # one straight fall of the rate over all epochs, with ReLU to the end, or with QCFS that learns from what ReLU becomes
    float() { train "$@" "training.stages=[float,evaluate]" scheduler=linear training.precision=no; }
    float trunk training.float.epochs=12 scheduler.final=0.4545
    float whole training.float.epochs=10 scheduler.warmup=0 training.float.lr=0.04545 "checkpoint=$out/trunk/stages/float"
    train branch_4 T=4 training.quantized.epochs=10 scheduler=linear scheduler.warmup=0 training.quantized.lr=0.04545 \
        "checkpoint=$out/trunk/stages/float" "distillation.teacher=$out/whole" training.quantized.distill=0.7 \
        "training.stages=[calibrate,quantized,convert,evaluate]" training.compile=true training.precision=no
fi
line="scheduler=linear training.precision=no"
tail_of() { echo "$line training.$1.epochs=${3:-5} training.$1.lr=$2 scheduler.warmup=0"; }  # stage, rate, epochs
growing() {  # name, trunk, ReLU's rate and half of it, levels: ten epochs on whole pictures, of QCFS the last five with pictures that are not shifted
    local name=$1 trunk=$2 rate=$3 half=$4 levels=$5 L learn
    train ${name}_relu $(tail_of float "$rate") scheduler.final=0.5 "checkpoint=$out/$trunk/stages/float" "training.stages=[float]"
    relu() { train "$@" $(tail_of float "$half") "checkpoint=$out/${name}_relu/stages/float" "training.stages=[float,evaluate]"; }
    relu ${name}_relu_shifted
    for L in $levels; do
        learn="T=$L training.compile=true training.quantized.distill=0.7 distillation.teacher=$out/${name}_relu_shifted"
        train ${name}_$L $(tail_of quantized 0.05) scheduler.final=0.5 $learn "checkpoint=$out/$trunk/stages/float" \
            "training.stages=[calibrate,quantized]"
        train ${name}_still_$L $(tail_of quantized 0.025) $learn "checkpoint=$out/${name}_$L/stages/quantized" \
            "training.stages=[quantized,convert,evaluate]" dataset.augment_crop=0
    done
    relu ${name}_relu_still dataset.augment_crop=0
}
if wanted sizes || wanted longer; then  # 14 epochs on smaller pictures first; longer: 28
    train sizes_trunk dataset.image_size=24 $line training.float.epochs=14 scheduler.final=0.5 "training.stages=[float]"
fi
if wanted sizes; then growing sizes sizes_trunk 0.05 0.025 4; fi
if wanted longer; then
    train longer_trunk dataset.image_size=24 $line training.float.epochs=14 training.float.lr=0.05 scheduler.warmup=0 \
        scheduler.final=0.6 "checkpoint=$out/sizes_trunk/stages/float" "training.stages=[float]"
    growing longer longer_trunk 0.03 0.015 "${LEVELS:-4 8}"
fi
if wanted early; then  # QCFS takes the place of ReLU half-way through the smaller pictures already; and ReLU for as many epochs
    for L in ${LEVELS:-4}; do
        learn="T=$L training.compile=true training.quantized.distill=0.7 distillation.teacher=$out/longer_relu_still"
        train early_small_$L $(tail_of quantized 0.06 14) scheduler.final=0.6667 T=$L training.compile=true dataset.image_size=24 \
            "checkpoint=$out/sizes_trunk/stages/float" "training.stages=[calibrate,quantized]"
        train early_$L $(tail_of quantized 0.04 8) scheduler.final=0.5 $learn "checkpoint=$out/early_small_$L/stages/quantized" \
            "training.stages=[quantized]"
        train early_still_$L $(tail_of quantized 0.02 5) $learn "checkpoint=$out/early_$L/stages/quantized" \
            "training.stages=[quantized,convert,evaluate]" dataset.augment_crop=0
    done
    train early_relu $(tail_of float 0.03 8) scheduler.final=0.5 "checkpoint=$out/longer_trunk/stages/float" "training.stages=[float]"
    train early_relu_still $(tail_of float 0.015 5) "checkpoint=$out/early_relu/stages/float" "training.stages=[float,evaluate]" dataset.augment_crop=0
fi
if wanted faded; then  # QCFS fades in over the last five epochs alone, and learns from labels alone
    for L in ${LEVELS:-4 8}; do
        train faded_$L $(tail_of quantized 0.025) T=$L training.quantized.fade=0.4 optimizer.weight_decay=1e-4 dataset.augment_crop=0 \
            training.compile=true "checkpoint=$out/longer_relu/stages/float" "training.stages=[calibrate,quantized,convert,evaluate]"
    done
fi
bf16() { train "$@" scheduler=linear; }
from() { echo "checkpoint=$out/$1 scheduler.warmup=0"; }
if wanted bf16; then  # as sizes, in bf16 where the machine has it; the teacher is the best of ReLU
    bf16 bf16_trunk dataset.image_size=24 training.float.epochs=14 scheduler.final=0.5 "training.stages=[float]"
    bf16 bf16_relu $(from bf16_trunk/stages/float) training.float.epochs=5 training.float.lr=0.05 scheduler.final=0.5 "training.stages=[float]"
    bf16 bf16_relu_still $(from bf16_relu/stages/float) training.float.epochs=5 training.float.lr=0.025 dataset.augment_crop=0 \
        "training.stages=[float,evaluate]"
    for L in ${LEVELS:-4 8}; do
        learn="T=$L training.compile=true training.quantized.epochs=5 training.quantized.distill=0.7 distillation.teacher=$out/bf16_relu_still"
        bf16 bf16_$L $(from bf16_trunk/stages/float) $learn training.quantized.lr=0.05 scheduler.final=0.5 "training.stages=[calibrate,quantized]"
        bf16 bf16_still_$L $(from bf16_$L/stages/quantized) $learn training.quantized.lr=0.025 dataset.augment_crop=0 \
            "training.stages=[quantized,convert,evaluate]"
    done
fi
taught() {  # folder, checkpoint, rate, then overrides: five epochs with four levels, in bf16, that learn from the best of ReLU
    bf16 "$1" $(from "$2") T=4 training.compile=true training.quantized.epochs=5 training.quantized.lr=$3 \
        "distillation.teacher=$out/bf16_relu_still" training.quantized.distill=0.7 "${@:4}"
}
first="scheduler.final=0.5 training.stages=[calibrate,quantized]" still="dataset.augment_crop=0 training.stages=[quantized,convert,evaluate]"
if wanted frozen; then  # the last five epochs of bf16 with norms that keep their statistics
    taught bf16_frozen_4 bf16_4/stages/quantized 0.025 $still training.quantized.freeze_norm=0
fi
if wanted adam; then  # bf16, of which QCFS learns with AdamW
    adam="optimizer=adamw optimizer.weight_decay=0.05"
    taught adam_4 bf16_trunk/stages/float 0.001 $first $adam
    taught adam_still_4 adam_4/stages/quantized 0.0005 $still $adam
fi
if wanted unclipped; then  # the first five epochs of bf16's QCFS, with gradients as long as they are
    taught unclipped_4 bf16_trunk/stages/float 0.03 $first training.clip_norm=null
fi
if wanted late; then  # QCFS fades in over the last five epochs of bf16 alone
    late="training.stages=[calibrate,quantized,convert,evaluate]"
    taught late_told_4 bf16_relu/stages/float 0.025 $late training.quantized.fade=0.4 training.quantized.distill=1
    taught late_4 bf16_relu/stages/float 0.02 $late training.quantized.fade=0.3 dataset.augment_crop=0 training.batch_size=64
fi
over_time() {  # checkpoint, what its jobs are called, test pictures of integrate-and-fire: thresholds stay as trained, so one run of integrate-and-fire can be read at every step
    local T
    for T in 1 2 4 8 16 32; do
        job para_inf_$2_$T evaluate.py "checkpoint=$out/$1" conversion.thresholds=fixed neuron=para_inf T=$T execution=collapsed
    done
    job if_$2 evaluate.py "checkpoint=$out/$1" conversion.thresholds=fixed neuron=integrate_fire T=32 execution.chunk=8 ${3:+dataset.limit_test=$3}
}
if wanted steps; then for L in ${LEVELS:-4 8}; do over_time qcfs_$L $L 2000; done; fi
if wanted longer_steps; then for L in ${LEVELS:-4 8}; do over_time longer_still_$L longer_$L 2000; done; fi
if wanted bf16_steps; then for L in ${LEVELS:-4 8}; do over_time bf16_still_$L bf16_$L; done; fi
if wanted few; then  # few steps: charge beside the input, and the converted network trained on through time, on a part of the training pictures
    fixed="conversion.thresholds=fixed dataset.limit_test=2000"
    trained_on() {  # neuron, T, overrides
        local neuron=$1 T=$2 folder=few_$1_$2${3:+_offsets}
        shift 2
        train "$folder" "neuron=$neuron" T=$T "checkpoint=$out/longer_still_4/stages/quantized" $fixed training=spiking \
            "training.stages=[convert,spiking,evaluate]" training.spiking.lr=0.01 dataset.limit_train=20000 "$@"
    }
    for T in 1 2 4; do trained_on integrate_fire $T; done
    for kind in membrane steps; do
        for T in 1 2 4; do
            job few_${kind}_$T evaluate.py "checkpoint=$out/longer_still_4" $fixed neuron=integrate_fire T=$T conversion.offsets=$kind
        done
    done
    for T in 1 2 4; do trained_on integrate_fire $T conversion.offsets=steps; done
    for T in 1 2; do trained_on para_inf $T; done
fi
