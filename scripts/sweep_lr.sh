#!/bin/sh
# Learning-rate loop: one optimizer, one config, several rates. Finished runs are left alone, so it can be run again.
#   sh scripts/sweep_lr.sh configs/quick/gpt2_nano_kjv.yaml adam "3e-4 1e-3 3e-3"
#   sh scripts/sweep_lr.sh configs/quick/gpt2_nano_kjv.yaml cclip "0.1 0.3 1" -s optimizer.clip=1e-3
set -eu
config=$1 optimizer=$2 rates=$3
shift 3
for lr in $rates; do
    whyadam train "$config" -s optimizer.name="$optimizer" -s optimizer.lr="$lr" "$@"
done
