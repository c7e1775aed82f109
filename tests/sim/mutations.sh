#!/bin/bash
# Every named defect must be caught by a checker (exit 3) within 60,000 seeds. A crash is no catch.
# usage: mutations.sh LOCH_SIM
set -u
sim=$1
failed=0
caught=0
for name in $("$sim" --list-mutations | cut -d' ' -f1); do
    out=$("$sim" --from 1 --count 60000 --mutation "$name" 2>&1)
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
[ "$failed" -eq 0 ] && [ "$caught" -ge 28 ]
