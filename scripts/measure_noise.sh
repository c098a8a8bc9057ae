#!/bin/sh
# The gradient noise of BERT-nano and of ResNet18 at three moments of training, three seeds: docs/results.md.
# The CIFAR-10 runs need a folder of JPEG files, see configs/quick/resnet18_cifar10_jpeg.yaml.
# One thread; finished runs are left alone, measurements are made again.
set -eu
export OMP_NUM_THREADS=1
out=${1:-runs/noise}

measure() {
    config=$1 steps=$2 reference=$3
    shift 3
    for seed in 0 1 2; do
        whyadam train "configs/quick/$config.yaml" --out "$out" --seed "$seed" \
            -s training.keep_checkpoints="[0,100,$steps]" "$@"
    done
    name=$(echo "$config" | tr _ -)
    for run in "$out/$name"/*; do
        whyadam noise "$run" --at all -s noise.batches=128 -s noise.reference="$reference"
    done
    whyadam figure noise "$out/$name" --out "$out/$name"
}

measure resnet18_mnist5k 200 full
measure resnet18_cifar10_jpeg 200 full -s model.stem=imagenet -s data.augment=none \
    -s training.steps=200 -s training.batch_size=128 -s optimizer.lr=0.02
measure bert_nano_kjv 300 96 -s data.vocab_size=4096 -s data.block_size=128 -s model.dropout=0.1 \
    -s training.steps=300 -s schedule.warmup_steps=30
