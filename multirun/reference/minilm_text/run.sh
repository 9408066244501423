#!/usr/bin/env bash
# MiniLM on one data set: trained in float, quantised, trained on, made to spike and measured, at several numbers of levels.
#   DATA=folder_with_the_files SEED=0 bash multirun/reference/minilm_text/run.sh trec [float|lsq|copied|layers|spikezip|para_inf|training_free|solved|solved_more|corrected|refined|pairs|varied|told|exit|if]
# A job that has left its summary.json is not run again. The second argument runs one part alone; all others need float. A third
# names the codes or time steps to run, per channel: bash run.sh trec para_inf "8 4"
set -euo pipefail
dataset=$1 part=${2:-all} only=${3:-} seed=${SEED:-0} out=${OUT:-outputs/minilm_text}/$1/seed_${SEED:-0} python=${PYTHON:-python}

# Epochs in float, then JOB:EPOCHS of quantised training (codes of LSQ, time steps of ParaInf), per channel and per tensor;
# towards the float network's predictions alone JOB:EPOCHS:RATE, since the fewer levels, the further weights have to go; :FADE of
# the steps let quantisers fade in; :BATCHES that thresholds and weights start from, all of their tokens (24 of MRPC take 6 GB).
batch=32 lsq=16:2 para_inf="8:2 4:3 2:6 16:0" corrected="8:3:2e-5 4:4:4e-5 2:8:1e-4" lsq_tensor= para_inf_tensor= spikezip= copied= layers= refined= pairs= pairs_lsq= varied= told= solved_more= training_free=8
float_lr=null  # rate of training in float; null: that of the optimiser
lr=1e-4 share=0.5  # of quantised training: rate, and share of the float network's predictions in the loss
lesson=  # of quantised training with shift and height: what else is learnt from the float network
layers_lesson="training.quantized.lr=2e-4 training.quantized.distill=0.7"  # of LSQ that learns layers' outputs: how
rows=  # of the test split that spiking networks are measured on, classes in proportion; all of them if empty
small="distillation.hidden=1 distillation.adapter=null"  # on a small set its predictions say little that labels do not
alone="training.quantized.distill=1.0 training.quantized.dropout=false"  # those predictions and no labels
case $dataset in
    trec)
        float=4 lsq="16:2 8:6 4:12 32:2" para_inf="8:2 4:3 2:6 16:2 1:12" lsq_tensor="16:2 8:2 4:2 32:2"
        para_inf_tensor="8:2 4:2 2:2 16:2 1:2" spikezip="16:2 8:6" layers=4:12 ;;
    sst2) batch=64 float=2 lsq=16:1 para_inf="8:1 4:1 2:1 16:0 1:1" refined="4:1:5e-5" copied=16:1:5e-5 ;;
    cola) float=4 ;;
    mrpc) float=5 lsq=16:4 para_inf="8:4 4:4 2:8 16:0 1:12" lr=3e-5 share=0.9
        corrected="8:2:2e-5 4:4:5e-5 2:6:1e-4" refined="8:4:5e-5 4:4:5e-5 2:6:1e-4" layers=16:4
        lesson="$small training.monitor=loss"  # 408 pairs say little about which epoch is best
        layers_lesson="training.quantized.lr=5e-5 $alone training.monitor=loss"
        pairs="8:2:5e-5 4:3:5e-5:0.4 2:4:1e-4:0.4" pairs_lsq=16:2:5e-5
        varied="4:5:1e-4:0.3 2:6:1e-4:0.3:24" told="4:2:3e-5 2:2:5e-5" solved_more=8 ;;
    rte) float=5 float_lr=3e-5 lsq=16:1 para_inf="8:1 4:1 2:1 16:0" lr=3e-5 share=0.9 ;;
    stsb) float=4 ;;
    imdb) float=2 lsq=16:1 para_inf="8:0 4:1 2:1 16:0" rows=500 ;;
    *) echo "unknown data set $dataset" >&2; exit 2 ;;
esac

source "$(dirname "$0")/../jobs.sh"

chosen() {  # those of the jobs that the third argument names
    for at in "$@"; do
        [[ -z $only || " $only " == *" ${at%%:*} "* ]] && echo "$at"
    done
    true
}
[ -n "$only" ] && lsq_tensor= para_inf_tensor=
lsq=$(chosen $lsq) para_inf=$(chosen $para_inf) spikezip=$(chosen $spikezip) layers=$(chosen $layers) copied=$(chosen $copied)
training_free=$(chosen $training_free) corrected=$(chosen $corrected) refined=$(chosen $refined) pairs=$(chosen $pairs) pairs_lsq=$(chosen $pairs_lsq) varied=$(chosen $varied) told=$(chosen $told) solved_more=$(chosen $solved_more)

train() {  # folder, then overrides
    local folder=$1
    shift
    job "$folder" train.py dataset="$dataset" "dataset.data_dir=${DATA:?}" "seed=$seed" "training.batch_size=$batch" \
        training.eval_batch_size=16 "$@"
}

spiking() {  # folder, epochs of quantised training, then overrides
    local folder=$1 epochs=$2
    shift 2
    train "$folder" "checkpoint=$out/float/stages/float" "training.stages=[calibrate,quantized,convert,evaluate]" \
        "training.quantized={epochs: $epochs, lr: $lr, distill: $share}" training.compile=true \
        ${rows:+dataset.limit_test=$rows} "$@"
}

cache=true  # the float network's outputs: computed once and kept
copying() {  # at which rate
    echo "training.quantized.lr=$1 $alone distillation.cache=$cache"
}
settle="T=128 execution.chunk=8 training.quantized.threshold_lr=1e-5"
if wanted float; then train float "training.float={epochs: $float, lr: $float_lr}" "training.stages=[float,evaluate]"; fi
if wanted lsq; then
    for granularity in channel tensor; do
        [ $granularity = channel ] && jobs=$lsq || jobs=$lsq_tensor
        for at in $jobs; do
            spiking "lsq_${granularity}_${at%:*}" "${at#*:}" neuron=st_bif $settle \
                quantization.levels="${at%:*}" quantization.granularity=$granularity
        done
    done
fi
if wanted copied; then  # as lsq, towards the float network's predictions alone
    for at in $copied; do
        IFS=: read -r levels epochs rate <<<"$at"
        spiking "copied_channel_$levels" "$epochs" neuron=st_bif $settle quantization.levels="$levels" $(copying "$rate")
    done
fi
if wanted spikezip; then  # quantisers behind every projection too
    for at in $spikezip; do
        spiking "spikezip_channel_${at%:*}" "${at#*:}" conversion=spikezip $settle \
            quantization.levels="${at%:*}"
    done
fi
if wanted layers; then  # as lsq, learning the outputs of the float network's layers too
    for at in $layers; do
        spiking "layers_channel_${at%:*}" "${at#*:}" neuron=st_bif $settle quantization.levels="${at%:*}" \
            $small $layers_lesson
    done
fi
if wanted para_inf; then
    for granularity in channel tensor; do
        [ $granularity = channel ] && jobs=$para_inf || jobs=$para_inf_tensor
        for at in $jobs; do
            spiking "para_inf_${granularity}_${at%:*}" "${at#*:}" neuron=para_inf T="${at%:*}" execution=collapsed \
                quantization.granularity=$granularity
        done
    done
fi
solved="conversion=training_free conversion.correction.weights=true"
untrained() {  # folder, time steps, then overrides: shift and height of every channel from the same training batches
    local folder=$1 steps=$2
    shift 2
    train "$folder" "checkpoint=$out/float/stages/float" T="$steps" execution=collapsed ${rows:+dataset.limit_test=$rows} "$@"
}
many() { echo "quantization.batches=$1 conversion.correction.rows=65536"; }
trained_on() {  # folder, STEPS:EPOCHS:RATE:FADE:BATCHES, overrides: no labels, no dropout, towards the float network's predictions, and $lesson
    local folder=$1 steps epochs rate fade batches
    IFS=: read -r steps epochs rate fade batches <<<"$2"
    shift 2
    spiking "${folder}_$steps" "$epochs" T="$steps" execution=collapsed $(copying "$rate") \
        ${fade:+training.quantized.fade=$fade} "$@" ${batches:+$(many "$batches")} $lesson
}
if wanted training_free; then for at in $training_free; do untrained "training_free_channel_$at" "$at" conversion=training_free; done; fi
if wanted solved; then for at in $training_free; do untrained "solved_channel_$at" "$at" $solved; done; fi
if wanted solved_more; then for at in $solved_more; do untrained "solved_more_channel_$at" "$at" $solved $(many 24); done; fi
if wanted corrected; then for at in $corrected; do trained_on corrected_channel "$at" conversion=training_free; done; fi
if wanted refined; then for at in $refined; do trained_on refined_channel "$at" $solved; done; fi
own=training.quantized.dataset
more_pairs() {  # folder: those of other sets too, whose labels are left alone; PAIRS names their folders
    local folder
    number=0
    mkdir -p "$1"
    for folder in "$DATA" ${PAIRS:-"${DATA%/*}/stsb" "${DATA%/*}/rte"}; do
        ln -sf "$(realpath "$folder")/train.tsv" "$1/train_$number.tsv"
        number=$((number + 1))
    done
    ln -sf "$(realpath "$DATA")/validation.tsv" "$1/validation.tsv"
    cache=false
    more="+dataset@$own=unlabelled $own.data_dir=$1 $own.text_fields=[sentence1,sentence2]"
    splits="$own.splits={train: train, validation: validation, test: validation}"
}
if wanted pairs; then  # as refined, and LSQ as copied, on more pairs
    more_pairs "$out/pairs"
    for at in $pairs; do trained_on pairs_channel "$at" $solved $more "$splits"; done
    for at in $pairs_lsq; do
        IFS=: read -r levels epochs rate <<<"$at"
        spiking "pairs_lsq_channel_$levels" "$epochs" neuron=st_bif $settle quantization.levels="$levels" $(copying "$rate") $more "$splits" $lesson
    done
fi
if wanted varied; then  # on more pairs still: the set's own with their texts in the other order too, and all with tokens drawn anew
    more_pairs "$out/varied"
    sed '1{s/sentence1/other/;s/sentence2/sentence1/;s/other/sentence2/}' "$DATA/train.tsv" >"$out/varied/train_$number.tsv"
    for at in $varied; do trained_on varied_channel "$at" $solved $more $own.augment_tokens=0.3 "$splits"; done
fi
if wanted told; then  # from varied on, where layers were learnt: predictions alone, of the same texts
    more_pairs "$out/varied"
    lesson=
    for at in $told; do
        trained_on told_channel "$at" conversion=training_free $more $own.augment_tokens=0.3 "$splits" \
            "checkpoint=$out/varied_channel_${at%%:*}/stages/quantized" "distillation.teacher=$out/float" \
            "training.stages=[quantized,convert,evaluate]" training.monitor=loss
    done
fi
if wanted exit; then  # a sample stops once it is certain: the margin is chosen on validation
    for at in $lsq; do
        job "exit_channel_${at%:*}" evaluate.py "checkpoint=$out/lsq_channel_${at%:*}" analysis=early_exit execution.chunk=8 \
            execution.integer=true training.eval_batch_size=16 dataset.limit_validation=1000
    done
fi
if wanted if; then  # the same quantised networks, with neurons that fire as soon as they can
    for at in $para_inf; do
        steps=${at%:*}
        job "if_channel_$steps" evaluate.py "checkpoint=$out/para_inf_channel_$steps" neuron=integrate_fire T="$steps"
    done
fi
