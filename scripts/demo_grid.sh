#!/bin/sh
# Where the demo's learning rates come from: five rates for each optimizer, equally many, one seed; the table tells the
# best. A best rate at the end of its row would mean that the row is too short.
set -eu
export OMP_NUM_THREADS=1

sweep() {
    optimizer=$1 rates=$2
    shift 2
    for lr in $rates; do
        whyadam train configs/quick/demo.yaml --out runs/grid -s name=demo-grid \
            -s optimizer.name="$optimizer" -s optimizer.lr="$lr" "$@"
    done
}

{
    sweep sgd "0.03 0.1 0.3 1 3" -s optimizer.momentum=0.9
    sweep gclip "0.03 0.1 0.3 1 3" -s optimizer.momentum=0.9 -s optimizer.clip=1
    sweep acclip "0.3 1 3 10 30"
} &
{
    sweep adam "3e-4 1e-3 3e-3 1e-2 3e-2"
    sweep cclip "0.03 0.1 0.3 1 3" -s optimizer.momentum=0.9 -s optimizer.clip=1e-3
}
wait
whyadam figure loss runs/grid --out runs/grid/loss
