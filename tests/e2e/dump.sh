#!/usr/bin/env bash
# loch-dump over every file that a living cluster stores: each is recognised and proven; a flipped byte, a cut and
# a file in the place of another are seen; without keys nothing of the content is told.
. "$(dirname "$0")/lib.sh"
DUMP=$BUILD/bin/loch-dump

up
q "CREATE TABLE t AS SELECT g, repeat('loch', 20) FROM generate_series(1, 50000) g"
q "CHECKPOINT"
"$LOCH" branch create side >/dev/null || fail "branch create"
"$LOCH" compute stop main
"$LOCH" down >/dev/null || fail "down"

dump() { "$DUMP" "$1" --store "$DIR/store" --kms "file:$DIR/cmk.key" 2>&1; }

count=0
declare -A first
while read -r f; do
    out=$(dump "$f") || fail "$f: $out"
    grep -q '^proven: ' <<<"$out" || fail "$f is not proven: $out"
    kind=$(sed -n 's/^kind: //p' <<<"$out")
    [ -n "${first[$kind]:-}" ] || first[$kind]=$f
    "$DUMP" "$f" >"$WORK/plain" 2>&1 || fail "$f without keys"
    ! grep -qE 'frames:|content bytes|commit_lsn' "$WORK/plain" || fail "$f tells content without keys"
    count=$((count + 1))
done < <(find "$DIR/store" "$DIR/pageserver" "$DIR"/safekeeper-* -type f \
    \( -name '*.layer' -o -name '*.wal' -o -name control -o -name members -o -name manifest -o -name keyring \))
for kind in layer wal control membership 'timeline manifest' 'tenant manifest' keyring; do
    [ -n "${first[$kind]:-}" ] || fail "no file of kind $kind among $count"
done
note "$count files of seven kinds are recognised and proven"

# The path stays, so that only the damage differs.
hurt() { # KIND FILE WHAT: with FILE's bytes in the stored file's place, it must not pass
    local f=${first[$1]} out
    cp "$f" "$WORK/saved"
    cp "$2" "$f"
    if out=$(dump "$f") && ! grep -q 'verdict: torn' <<<"$out"; then
        fail "$1: $3 went unnoticed: $out"
    fi
    cp "$WORK/saved" "$f"
}
seen=0
for kind in "${!first[@]}"; do
    f=${first[$kind]}
    # Of a WAL file only what holds frames; the rest is preallocated zeros.
    size=$(stat -c %s "$f")
    [ "$kind" != wal ] || size=$(dump "$f" | sed -n 's/^end: .* at offset //p')
    # Before an object stands the store's own head, which the store itself checks.
    base=0
    case $kind in *manifest | keyring | membership) base=48 ;; esac
    for at in 9 20 33 50 70 100 120 150 180 215 240 $((size / 3)) $((size / 2)) $((size - 3)); do
        at=$((at + base))
        [ "$at" -lt "$size" ] || continue
        python3 - "$f" "$WORK/hurt" "$at" <<'PY'
import sys
data = bytearray(open(sys.argv[1], "rb").read())
data[int(sys.argv[3])] ^= 0x21
open(sys.argv[2], "wb").write(data)
PY
        hurt "$kind" "$WORK/hurt" "a flipped byte at $at"
        seen=$((seen + 1))
    done
    head -c $((size * 2 / 3)) "$f" >"$WORK/hurt"
    [ "$kind" = wal ] || hurt "$kind" "$WORK/hurt" "truncation"
    dump "$f" >/dev/null || fail "$f no longer opens after being put back"
done
note "$seen flipped bytes and the truncations are seen"

head -c 32 /dev/urandom >"$WORK/other.key"
chmod 0600 "$WORK/other.key"
"$DUMP" "${first[layer]}" --store "$DIR/store" --kms "file:$WORK/other.key" >"$WORK/out" 2>&1 && fail "another CMK opens a layer"
grep -q denied "$WORK/out" || fail "another CMK: $(cat "$WORK/out")"
"$DUMP" "$ROOT/README.md" >/dev/null 2>&1 && fail "a text passes as a file of Loch"
"$DUMP" >/dev/null 2>&1 && fail "no arguments"
"$DUMP" --help | sees Usage || fail "--help"
note "passed"
