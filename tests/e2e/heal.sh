#!/usr/bin/env bash
# Layers with a copy in the object store: flipped bits and lost files heal from it, a damaged copy from the file; what has no
# good copy is named exactly and never served, and other branches are not concerned.
. "$(dirname "$0")/lib.sh"

export LOCH_LAYERS_COPIES=on LOCH_LAYERS_UPKEEP=200ms LOCH_PAGESERVER_PAGE_CACHE=1MiB LOCH_PAGESERVER_FRAME_CACHE=1MiB
up
port=$(sed -n 's/^console = .*PGSQL\.//p' "$DIR/conf/pageserver.ini")
metrics=$(sed -n 's/^metrics = //p' "$DIR/conf/pageserver.ini")
console() { psql "host=$DIR/run port=$port dbname=loch" -X -A -t -q -v ON_ERROR_STOP=1 -c "$1"; }
metric() { curl -s "http://$metrics/metrics" | awk -v n="loch_pageserver_$1" '$1 == n {print $2}'; }
healed() { metric "healed{what=\"$1\"}"; }
timeline() { "$LOCH" branch show "$1" --json | python3 -c 'import json, sys; print(json.load(sys.stdin)[0]["timeline"])'; }
q "CREATE TABLE t (n int, pad text)"
q "INSERT INTO t SELECT g, (SELECT string_agg(md5(random()::text || g || k), '') FROM generate_series(1, 20) k) FROM generate_series(1, 8000) g"
sum=$(q "SELECT count(*), sum(n), md5(string_agg(pad, '' ORDER BY n)) FROM t")
"$LOCH" branch create other >/dev/null || fail "branch"
"$LOCH" compute start other --branch other >/dev/null || fail "compute"
q "INSERT INTO t SELECT g, repeat('o', 600) FROM generate_series(1, 3000) g" other
flushed() { # everything is in layers
    console "FLUSH main main" >/dev/null
    console "FLUSH main other" >/dev/null
    [ "$(metric memory_layer_bytes)" = 0 ]
}
caught_up
wait_until 30 flushed || fail "not everything is flushed"
main_dir=$(find "$DIR/pageserver" -type d -name "$(timeline main)" -path '*timelines*')
other_dir=$(find "$DIR/pageserver" -type d -name "$(timeline other)" -path '*timelines*')
store=$(sed -n '/^\[store\]/,/^\[/s/^path = //p' "$DIR/conf/pageserver.ini")
copies_of() { find "$store/tenants" -path "*/timelines/$1/layers/*.layer"; }
all_copied() { [ "$(copies_of "$(timeline main)" | wc -l)" = "$(find "$main_dir" -name '*.layer' | wc -l)" ]; } # unless one comes or goes
wait_until 20 all_copied || fail "not every layer has a copy"

# Flips a bit in every 64 KiB of the files named on stdin, behind the header and before the footer.
flip() {
    python3 -c '
import os, sys
for path in sys.stdin.read().split():
    size = os.path.getsize(path)
    with open(path, "r+b") as f:
        for at in range(5000, size - 9000, 65536):
            f.seek(at); b = f.read(1); f.seek(at); f.write(bytes([b[0] ^ 16]))'
}
again() { # the pageserver and the compute of $1 with nothing in memory
    kill -9 "$(daemon_pid pageserver)"
    destroy_compute "$1"
    "$LOCH" up >/dev/null || fail "up again"
    "$LOCH" compute start "$1" >/dev/null || fail "compute $1"
}
contents() { q "SELECT count(*), sum(n), md5(string_agg(pad, '' ORDER BY n)) FROM t" "${1:-main}"; }

find "$main_dir" -name '*.layer' | flip
again main
[ "$(contents)" = "$sum" ] || fail "the table after bits were flipped"
healthy() { [ "$(healed file)" -ge 1 ]; }
wait_until 30 healthy || fail "no file was healed; blocks: $(healed block)"
note "flipped bits: $(healed block) blocks read from copies, $(healed file) files written anew, $(metric unhealed) without a copy"
[ "$(healed block)" -ge 1 ] || fail "no block was read from a copy"
console "CHECK LAYERS main main" >/dev/null || fail "CHECK LAYERS after healing"
console "CHECK LAYERS main main" | sees '|0$' || fail "damage is left: $(console "CHECK LAYERS main main")"

copies_of "$(timeline main)" | flip
console "CHECK LAYERS main main" >/dev/null || fail "CHECK LAYERS with damaged copies"
put_again() { [ "$(healed copy)" -ge 1 ]; } # the figures are set at each upkeep
wait_until 30 put_again || fail "no copy was put again"

find "$main_dir" -name '*.layer' -delete
again main
[ "$(contents)" = "$sum" ] || fail "the table after the files were lost"
note "lost files: $(healed file) came back"
console "CHECK LAYERS main main" | sees '|0$' || fail "damage after the files came back"

# Both damaged: exact, and only there.
find "$other_dir" -name '*.layer' | flip
copies_of "$(timeline other)" | flip
kill -9 "$(daemon_pid pageserver)"
destroy_compute other
"$LOCH" up >/dev/null || fail "up with damage that cannot be healed"
said=$(console "CHECK LAYERS main other" 2>&1) && fail "damage without a copy went unnoticed"
grep -q '[.]layer: block [0-9]*: .*; and there is no good copy' <<<"$said" || fail "it says: $said"
said=$({ timeout 60 "$LOCH" compute start other && contents other; } 2>&1) && fail "a damaged block was served: $said"
counted() { [ "$(metric unhealed)" -ge 1 ]; }
wait_until 30 counted || fail "what could not be healed is not counted"
grep -q "tenant [0-9a-f]*, timeline $(timeline other), layer [0-9a-f]*, block [0-9]*: " <<<"$said" || fail "the block is not named: $said"
[ "$(contents)" = "$sum" ] || fail "another branch is concerned"
q "INSERT INTO t VALUES (-1, 'goes on')" || fail "another branch does not go on"
note "both damaged: $(grep -o "layer [0-9a-f]*, block [0-9]*: .*" <<<"$said" | head -1)"
note "passed"
