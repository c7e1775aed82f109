#!/usr/bin/env bash
# While a branch is idle, pages with long chains of records get images, once: later reads apply at most layers.idle_records,
# and an idle branch costs nothing any more. A branch that is written to is left alone.
. "$(dirname "$0")/lib.sh"

export LOCH_LAYERS_UPKEEP=100ms LOCH_LAYERS_IDLE=1s LOCH_LAYERS_IDLE_RECORDS=2 LOCH_PAGESERVER_CHECKPOINT=1h
export LOCH_PAGESERVER_PAGE_CACHE=1MiB
up
port=$(sed -n 's/^console = .*PGSQL\.//p' "$DIR/conf/pageserver.ini")
metrics=$(sed -n 's/^metrics = //p' "$DIR/conf/pageserver.ini")
console() { psql "host=$DIR/run port=$port dbname=loch" -X -A -t -q -v ON_ERROR_STOP=1 -c "$1"; }
metric() { curl -s "http://$metrics/metrics" | awk -v n="loch_pageserver_$1" '$1 == n {print $2}'; }
q "CREATE TABLE t (id int PRIMARY KEY, v int) WITH (fillfactor = 40)"
q "INSERT INTO t SELECT g, 0 FROM generate_series(1, 2000) g; CHECKPOINT"
for i in $(seq 12); do q "UPDATE t SET v = v + 1 WHERE id % 100 = 0"; done
caught_up
console "FLUSH main main" >/dev/null

# Idle: the compute stops, so that it writes nothing of its own.
"$LOCH" compute stop main >/dev/null || fail "stop"
imaged() { [ "$(metric idle_images_total)" -gt 0 ]; }
wait_until 60 imaged || fail "no images while it was idle"
done_with=0
figures() { local name; for name in merges_total idle_images_total flushes_total upkeep_backlog memory_layer_bytes; do metric $name; done | xargs; }
at_rest() { # the same figures at two looks that are several upkeeps apart; what takes longer than that is not at rest, either
    local before
    before=$(figures)
    sleep 1
    [[ $before == *" 0 0" ]] && [ "$before" = "$(figures)" ]
}
wait_until 60 at_rest || fail "it does not come to rest"
done_with=$(metric merges_total)
note "$(metric idle_images_total) images, $done_with merges, then nothing"
for _ in 1 2 3; do at_rest || fail "an idle branch is worked on again"; done

# Also after a restart, which remembers nothing: what is read applies at most the bound. Only the rows that were changed are
# read: a start reads catalogs, whose pages are of the import.
kill -9 "$(daemon_pid pageserver)"
"$LOCH" up >/dev/null || fail "up again"
wait_until 60 at_rest || fail "it does not come to rest after a restart"
[ "$(metric idle_images_total)" = 0 ] || fail "$(metric idle_images_total) images were made again"
"$LOCH" branch create look >/dev/null || fail "branch"
"$LOCH" compute start look --branch look >/dev/null || fail "compute"
[ "$(q 'SELECT sum(v) FROM t' look)" = 240 ] || fail "rows: $(q 'SELECT sum(v) FROM t' look)"
wait_until 60 at_rest || fail "it does not come to rest beside a compute: $(figures)" # the gauge is set at each upkeep
[ "$(metric read_records_most)" -le 2 ] || fail "a read applied $(metric read_records_most) records"
note "the most that a read applied afterwards: $(metric read_records_most) records"
note "passed"
