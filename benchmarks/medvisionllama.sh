#!/bin/sh
# MedVisionLlama's ablation: does a pretrained block help more than the same block with other numbers in it, than none,
# than as many plain parameters? Every row is trained alike, with three seeds, on 0.3 and on all of
# the training patients of a fold.
#
# Usage: benchmarks/medvisionllama.sh RUNS TASK...
#     RUNS   folder of the results
#     TASK   msd-prostate (its phantom), or the folder of a task in MSD layout, whose labels are merged to one
#
# FOLDS=0 SEEDS="0 1 2" SHARES=0.3,1 ROWS="name ..." in the environment change what is computed; a table compares rows
# of which all folds are there, the default. Killed and started again it goes on: a finished cell is not computed again.
set -eu
runs=$1
shift
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
usbench="${USBENCH:-usbench}"
all="none smollm2 random shuffled vit-depth vit-mlp rank-2 rank-4 rank-16 inner after-embedding"

settings() { # What a row changes.
    case $1 in
    none | smollm2 | random | shuffled) echo "method.llm=$1" ;;
    vit-depth | vit-mlp) echo "method.control=$1" ;;
    rank-*) echo "method.rank=${1#rank-} method.lora_rank=${1#rank-}" ;;
    inner) echo "method.residual=inner" ;;
    after-embedding) echo "method.place=after-embedding" ;;
    *) echo "unknown row '$1'; choose from $all" >&2 && exit 1 ;;
    esac
}

for task in "$@"; do
    # As many tokens, 256, for both: the phantom has 13 to 15 slices, a brain 155.
    if [ -d "$task" ]; then
        where="--task-dir $task --merge-labels tumour"
        size="volume.shape=32,64,64 method.patch=8,8,8"
    else
        where="--task $task --data phantom"
        size="volume.shape=16,64,64 method.patch=4,8,8"
    fi
    for seed in ${SEEDS:-0 1 2}; do
        for row in ${ROWS:-$all}; do
            words=""
            for setting in $size train.epochs=6 train.patience=6 $(settings "$row"); do
                words="$words --set $setting"
            done
            # shellcheck disable=SC2086
            $usbench run --method medvisionllama --fusion early $where --preset quick --device cpu \
                --folds "${FOLDS:-all}" --train-share "${SHARES:-0.3,1}" --seed "$seed" --no-keep-weights \
                --runs-dir "$runs" $words
        done
    done
done
