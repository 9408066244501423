#!/usr/bin/env bash
# SpikingBERT of two layers of width 384, distilled from MiniLM in three stages, beside the same network trained on labels alone.
#   DATA=folder_of_the_folders SEED=0 bash multirun/reference/spikingbert_text/run.sh sst2|trec [general|labels|general_labels|distilled|converted|steps]
# A job that has left its summary.json is not run again. The teacher is the float network of minilm_text/run.sh.
set -euo pipefail
dataset=$1 part=${2:-all} seed=${SEED:-0} python=${PYTHON:-python}
out=${OUT:-outputs/spikingbert_text} teacher=${TEACHERS:-outputs/minilm_text}/$1/seed_0/float

case $dataset in
    sst2) limit=8000 labels=3 logits=2 ;;  # of 67,349 phrases
    trec) limit=null labels=8 logits=6 ;;
    *) echo "unknown data set $dataset" >&2; exit 2 ;;
esac
layers=$((labels - logits))

student="T=8 seed=$seed optimizer=adamw training.clip_norm=1.0 model.args.hidden_size=384
    model.args.num_hidden_layers=2 model.args.intermediate_size=1536"
task="dataset.data_dir=${DATA:?}/$dataset dataset.limit_train=$limit"

source "$(dirname "$0")/../jobs.sh"

if wanted general; then  # plain text, the outputs and attention scores of MiniLM before it learns a task
    job general_$seed train.py experiment=spikingbert_general_wikitext $student optimizer.lr=5e-4 distillation.teacher=minilm distillation.start=true \
        dataset.data_dir="$DATA/wikitext2" dataset.splits.train=valid dataset.splits.validation=null dataset.max_length=64 \
        dataset.limit_train=2000 dataset.limit_validation=100 dataset.limit_test=100 \
        distillation.attention=0.1 training.general.epochs=1 training.general.lr=null
fi
if wanted labels; then  # as many passes over the data, from random weights
    job "$dataset/labels_$seed" train.py model=spikingbert dataset="$dataset" $student $task scheduler=linear \
        optimizer.lr=5e-4 training.native.epochs=$labels
fi
if wanted general_labels; then  # the same from the general stage
    job "$dataset/general_labels_$seed" train.py model=spikingbert dataset="$dataset" $student $task scheduler=linear \
        "checkpoint=$out/general_$seed" optimizer.lr=5e-4 training.native.epochs=$labels
fi
if wanted distilled; then
    job "$dataset/distilled_$seed" train.py experiment=spikingbert_all_sst2 dataset="$dataset" $student $task optimizer.lr=5e-4 \
        "checkpoint=$out/general_$seed" "training.stages=[layers,logits,evaluate]" "distillation.teacher=$teacher" \
        training.layers.distillation.attention=0.1 training.layers.epochs=$layers training.logits.epochs=$logits \
        training.layers.lr=null training.logits.lr=null
fi
if wanted converted; then  # the same layers of MiniLM as a BERT that is trained in float, then quantised, and made to spike
    layer='encoder\.layer'
    rename="{match: 're:$layer\.[0134]\..*', to: null}, {match: 're:($layer)\.2\.(.*)', to: '\1.0.\2'}"
    rename="[$rename, {match: 're:($layer)\.5\.(.*)', to: '\1.1.\2'}]"
    job "$dataset/converted_$seed" train.py model=bert dataset="$dataset" $task neuron=para_inf T=8 seed=$seed optimizer.lr=1e-4 \
        model.args.num_hidden_layers=2 "model.rename=$rename" training.float.epochs=$((labels - 1)) \
        "training.quantized={epochs: 1, distill: 0.5}"
fi
if wanted steps; then
    for T in 1 2 4 8 16 32; do
        job "$dataset/steps_${seed}_$T" evaluate.py "checkpoint=$out/$dataset/distilled_$seed" T=$T
    done
fi
