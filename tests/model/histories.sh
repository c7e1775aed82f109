#!/bin/bash
# COUNT random histories, half of them in each of two processes. A violation names its seed.
# usage: histories.sh LOCH_MODEL COUNT
set -u
model=$1
half=$(($2 / 2))
"$model" --from 1 --count $half &
first=$!
"$model" --from $((half + 1)) --count $(($2 - half))
second=$?
wait $first && [ $second -eq 0 ]
