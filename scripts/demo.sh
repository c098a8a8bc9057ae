#!/bin/sh
# The README's demo: the same small GPT2 with five optimizers, each at the best rate of its grid (scripts/demo_grid.sh),
# and a ResNet18 whose gradient noise is compared with that of the GPT2. Two runs at a time, one thread each. Finished
# runs are left alone.
set -eu
export OMP_NUM_THREADS=1

train() {
    optimizer=$1
    shift
    whyadam train configs/quick/demo.yaml --out runs -s optimizer.name="$optimizer" "$@"
}

train_resnet18() {
    whyadam train configs/quick/resnet18_mnist5k.yaml --out runs -s name=demo-resnet18 \
        -s training.steps=60 -s noise.at=[0,60]
}

train sgd -s optimizer.momentum=0.9 -s optimizer.lr=0.1 &
train adam -s optimizer.lr=1e-3 -s noise.at=[0,300] -s noise.reference=128
wait $!
train gclip -s optimizer.momentum=0.9 -s optimizer.clip=1 -s optimizer.lr=0.3 &
train cclip -s optimizer.momentum=0.9 -s optimizer.clip=1e-3 -s optimizer.lr=0.3
wait $!
train acclip -s optimizer.lr=1 &
train_resnet18
wait $!

whyadam figure loss runs/demo --out runs/demo/loss
whyadam figure noise runs/demo runs/demo-resnet18 --out runs/demo/gradient
