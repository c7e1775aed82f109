#!/bin/bash
# Every named defect of the engine must be caught by a check (exit 3) within 2,000 histories. A crash is no catch.
# usage: mutations.sh LOCH_MODEL
set -u
model=$1
failed=0
caught=0
for name in $("$model" --list-mutations | cut -d' ' -f1); do
    out=$("$model" --count 2000 --mutation "$name" 2>&1)
    code=$?
    if [ $code -ne 3 ]; then
        echo "NOT CAUGHT: $name (exit $code)"
        failed=1
    else
        caught=$((caught + 1))
        echo "caught: $name: $(grep -m1 '^violation' <<<"$out")"
    fi
done
echo "$caught mutations caught"
[ "$failed" -eq 0 ] && [ "$caught" -ge 23 ]
