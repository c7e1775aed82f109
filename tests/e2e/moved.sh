#!/usr/bin/env bash
# Whole, valid files in the wrong place: another safekeeper's directory, another branch's layer, an older keyring. Each is
# refused by name, nothing is overwritten, and what is not concerned serves on.
. "$(dirname "$0")/lib.sh"

up
q "CREATE TABLE t AS SELECT g FROM generate_series(1, 1000) g"
tenant=$("$LOCH" tenant list --json | python3 -c 'import json, sys; print(json.load(sys.stdin)[0]["tenant"])')
keyring=$DIR/store/tenants/$tenant/keyring

# An older keyring, while the pageserver knows a newer one.
still() { local was; was=$(sha256sum <"$keyring"); sleep 1; [ "$was" = "$(sha256sum <"$keyring")" ]; } # keys of branches to come are made
wait_until 20 still || fail "the keyring is written again and again"
cp "$keyring" "$WORK/old"
"$LOCH" branch create one >/dev/null || fail "branch one"
wait_until 20 still || fail "the keyring is written again and again"
cp "$keyring" "$WORK/new"
cp "$WORK/old" "$keyring"
said=$("$LOCH" branch create two 2>&1) && fail "a branch was made over an older keyring"
grep -q 'generation' <<<"$said" || fail "an older keyring: $said"
cmp -s "$keyring" "$WORK/old" || fail "the older keyring was overwritten"
note "older keyring: $(tail -1 <<<"$said" | cut -c1-160)"
cp "$WORK/new" "$keyring"
"$LOCH" branch create two >/dev/null || fail "branch two with the right keyring"
[ "$(q 'SELECT count(*) FROM t')" = 1000 ] || fail "rows"

# Safekeeper 1's files in safekeeper 2's place: two votes would be one. (The branch that was not made has left something
# at the safekeepers, which goes with the next start: not while somebody looks.)
"$LOCH" compute stop main >/dev/null
"$LOCH" down >/dev/null
up
"$LOCH" compute stop main >/dev/null
"$LOCH" down >/dev/null
cp -a "$DIR/safekeeper-2/tenants" "$WORK/tenants-2"
rm -rf "$DIR/safekeeper-2/tenants"
cp -a "$DIR/safekeeper-1/tenants" "$DIR/safekeeper-2/tenants"
sum() { find "$DIR/safekeeper-2/tenants" -type f -exec sha256sum {} + | sort | sha256sum; }
before=$(sum)
"$LOCH" up >/dev/null 2>&1 || true
"$LOCH" compute start main >/dev/null || fail "two good safekeepers are a quorum"
[ "$(q 'SELECT count(*) FROM t')" = 1000 ] || fail "rows with a copied safekeeper"
[ "$before" = "$(sum)" ] || fail "safekeeper 2 changed files that are not its own"
refuses() { grep -q 'another name or node' "$DIR/log/safekeeper-2.log"; }
wait_until 20 refuses || fail "safekeeper 2 does not say what is wrong"
note "copied safekeeper: $(grep 'another name or node' "$DIR/log/safekeeper-2.log" | tail -1 | cut -c26-220)"
"$LOCH" compute stop main >/dev/null
"$LOCH" down >/dev/null
rm -rf "$DIR/safekeeper-2/tenants"
mv "$WORK/tenants-2" "$DIR/safekeeper-2/tenants"
"$LOCH" up >/dev/null 2>&1 || true
"$LOCH" compute start main >/dev/null || fail "compute after putting it back"
q "INSERT INTO t VALUES (0)"

# A layer under another layer's name.
"$LOCH" tenant create other >/dev/null || fail "a second tenant"
# The largest of each tenant: the imported one, which every start reads (a small one may never be asked).
mapfile -t layers < <(find "$DIR/pageserver" -name '*.layer' -printf '%s %p\n' | sort -n | cut -d' ' -f2-)
[ "${#layers[@]}" -ge 2 ] || fail "fewer than two layers"
mine=; theirs=
for f in "${layers[@]}"; do
    case $f in */"$tenant"/*) mine=$f ;; *) theirs=$f ;; esac
done
[ -n "$mine" ] && [ -n "$theirs" ] || fail "layers of two tenants: ${layers[*]}"
"$LOCH" compute stop main >/dev/null
"$LOCH" down >/dev/null
cp "$mine" "$WORK/mine"
cp "$theirs" "$mine"
"$LOCH" up >/dev/null 2>&1 || true
timeout 30 "$LOCH" compute start main >"$WORK/out" 2>&1 && q 'SELECT count(*) FROM t' >"$WORK/rows" 2>&1 && fail "another tenant's layer is read: $(cat "$WORK/rows")"
grep -qE 'belongs to another|footer says|too short' "$DIR/log/pageserver.log" || fail "the pageserver does not say what is wrong"
note "foreign layer: $(grep -E 'belongs to another|footer says|too short' "$DIR/log/pageserver.log" | tail -1 | cut -c26-240)"
"$LOCH" down --immediate >/dev/null 2>&1 || true
cp "$WORK/mine" "$mine"
"$LOCH" up >/dev/null 2>&1 || true
"$LOCH" compute start main >/dev/null || fail "compute with the right layer"
[ "$(q 'SELECT count(*) FROM t')" = 1001 ] || fail "rows in the end"
note "passed"
