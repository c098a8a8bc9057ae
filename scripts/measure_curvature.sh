#!/bin/sh
# The curvature of five networks, three seeds each, at initialisation and after training: block spectra, their
# distances with noise floors, and the pictures. Everything that is finished already is left alone, so it can be
# stopped and run again. Further options go to `whyadam hessian`:
#   sh scripts/measure_curvature.sh
#   sh scripts/measure_curvature.sh --processes 8 -s hessian.adam=true
set -eu
export OMP_NUM_THREADS=1
out=runs/curvature

for seed in 0 1 2; do
    # A batch of text has as many tokens as 8 x 64 or 8 x 128; one of images has 32 images.
    while read -r config batch_size options; do
        # $options is split on purpose.
        line=$(whyadam train "configs/quick/$config.yaml" --seed "$seed" --out "$out" $options </dev/null)
        whyadam hessian "${line%%: *}" --at 0,100% -s hessian.batch_size="$batch_size" "$@" </dev/null
    done <<'NETWORKS'
resnet18_mnist5k 32
vgg16_mnist5k 32
vit_nano_mnist5k 32
gpt2_nano_kjv 8
bert_nano_kjv 8 -s data.vocab_size=4096 -s data.block_size=128 -s model.dropout=0.1 -s training.steps=300 -s schedule.warmup_steps=30
NETWORKS
done

# The pictures of the first seed.
for network in resnet18-mnist5k vgg16-mnist5k vit-nano-mnist5k gpt2-nano-kjv bert-nano-kjv; do
    set -- "$out/$network"/*-seed0-*
    whyadam figure blocks "$1" --out "$out/$network-blocks"
    whyadam figure js "$1" --out "$out/$network-js"
    whyadam figure js "$1" --measure scale_free_js_distance --out "$out/$network-js-scale-free"
done
