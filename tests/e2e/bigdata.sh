#!/usr/bin/env bash
# Data far larger than buffers and scratch: load, index, update, read back, amcheck; the scratch never fills
# with pages that the pageserver has.
#   bigdata.sh [MEGABYTES=3000] [SCRATCH_LIMIT_MB=1024]
. "$(dirname "$0")/lib.sh"
MB=${1:-3000}
LIMIT=${2:-1024}

up
"$LOCH" compute stop main
CACHE=128 # of that, for the local cache, whose file has no name: du does not see it
"$LOCH" compute start main --set shared_buffers=128MB,maintenance_work_mem=128MB,loch.cache_size=${CACHE}MB >/dev/null || fail "compute start --set"
(
    while sleep 0.5; do du -sm "$(scratch)/compute-main" 2>/dev/null | cut -f1; done >"$WORK/scratch-mb"
) &
BACKGROUND+=($!)
rows=$((MB * 1024 * 1024 / 1100))
note "loading $rows rows of about 1 kB"
q "CREATE TABLE big (id bigint, v int, pad text)"
step=$((rows / 10))
for i in $(seq 0 9); do
    q "INSERT INTO big SELECT g, g % 1000, repeat(md5(g::text), 32) FROM generate_series($((i * step + 1)), $(((i + 1) * step))) g"
    note "$(((i + 1) * 10)) %; scratch $(tail -1 "$WORK/scratch-mb") MB"
done
total=$((step * 10))
q "ALTER TABLE big ADD PRIMARY KEY (id)"
q "CREATE INDEX big_v ON big (v)"
note "indexed; scratch $(tail -1 "$WORK/scratch-mb") MB"
q "UPDATE big SET v = v + 1000 WHERE id % 10 = 3"
note "updated; scratch $(tail -1 "$WORK/scratch-mb") MB"
size=$(q "SELECT pg_total_relation_size('big') / 1048576")
[ "$size" -ge "$MB" ] || fail "only $size MB of data"
[ "$(q "SELECT count(*), sum(id) FROM big")" = "$total|$((total * (total + 1) / 2))" ] || fail "rows: $(q "SELECT count(*), sum(id) FROM big")"
[ "$(q "SELECT count(*) FROM big WHERE pad <> repeat(md5(id::text), 32)")" = 0 ] || fail "wrong bytes"
[ "$(q "SET enable_seqscan = off; SELECT count(*) FROM big WHERE v >= 1000")" = "$((total / 10))" ] || fail "index count"
q "VACUUM big"
[ "$(q "SET enable_seqscan = off; SELECT count(id) FROM big WHERE id > 0")" = "$total" ] || fail "index-only count"
amcheck
peak=$(($(sort -n "$WORK/scratch-mb" | tail -1) + CACHE))
note "data $size MB, scratch peak $peak MB (limit $LIMIT)"
[ "$peak" -le "$LIMIT" ] || fail "the scratch filled"
destroy_compute main
"$LOCH" compute start main >/dev/null || fail "compute start"
[ "$(q "SELECT count(*), sum(id) FROM big")" = "$total|$((total * (total + 1) / 2))" ] || fail "rows after rebirth"
note "passed"
