#!/bin/sh
# Optimizer x seed loop: each optimizer with its own settings, three seeds, then one table and one picture.
#   sh scripts/sweep_seeds.sh configs/quick/gpt2_nano_kjv.yaml
set -eu
config=$1
shift
for seed in 0 1 2; do
    while read -r optimizer settings; do
        # $settings is split on purpose: each word is one -s option's value.
        whyadam train "$config" --seed "$seed" --out runs/seeds -s optimizer.name="$optimizer" \
            $(printf -- '-s optimizer.%s ' $settings) "$@"
    done <<'OPTIMIZERS'
sgd lr=0.1 momentum=0.9
adam lr=1e-3
gclip lr=0.1 clip=1 momentum=0.9
cclip lr=0.3 clip=1e-3 momentum=0.9
acclip lr=1
OPTIMIZERS
done
whyadam figure loss runs/seeds --out runs/seeds/loss
