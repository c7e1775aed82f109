#!/usr/bin/env bash
# Commands that take long (here: creations of tenants whose template does not come) hold up nobody else, though there are more
# of them than the pageserver has pool threads: another tenant's WAL is ingested, its cold pages are read. Three work at a
# time; the others come after them.
. "$(dirname "$0")/lib.sh"
CREATIONS=9
AT_A_TIME=3

cold() { # with nothing of its pages here
    destroy_compute main
    "$LOCH" compute start main --set loch.cache_size=0,loch.prewarm=off >/dev/null || fail "compute start main"
}
template() { compgen -G "$(scratch)/pageserver/node-*/template.tar"; }
begun() { compgen -G "$(scratch)/pageserver/node-*/initdb-*" | wc -l; }
have_begun() { [ "$(begun)" -ge "$AT_A_TIME" ]; }
console() { psql "host=$DIR/run port=$port dbname=loch" -XAtq -v ON_ERROR_STOP=1 -c "$1"; }
all_asked() { # a tenant that is being created cannot be removed
    local i
    for i in $(seq "$CREATIONS"); do { console "DROP TENANT new$i" 2>&1 || true; } | sees 'in progress' || return 1; done
}

up
q "CREATE TABLE t AS SELECT g a, repeat('x', 200) b FROM generate_series(1, 5000) g"
caught_up
cold
port=$(sed -n 's/^console = .*PGSQL\.//p' "$DIR/conf/pageserver.ini")

# Whoever takes the template waits for somebody who writes it; the others for him.
made=$(template) || fail "no template of new tenants"
rm "$made"
mkfifo "$made"
pids=()
for i in $(seq "$CREATIONS"); do
    timeout 150 psql "host=$DIR/run port=$port dbname=loch" -XAtq -v ON_ERROR_STOP=1 -c "CREATE TENANT new$i" >"$WORK/new.$i" 2>&1 &
    pids+=($!)
done
wait_until 30 all_asked || fail "not all creations have been asked for: $(tail -n 2 "$WORK"/new.*)"
wait_until 10 have_begun || fail "$(begun) creations have begun"

began=$(date +%s%N)
[ "$(timeout 30 psql "$(url)" -XAtq -c 'SELECT count(*), sum(length(b)) FROM t')" = "5000|1000000" ] || fail "another tenant's rows"
timeout 30 psql "$(url)" -Xq -v ON_ERROR_STOP=1 -c "INSERT INTO t SELECT g, repeat('y', 200) FROM generate_series(1, 5000) g" || fail "another tenant's INSERT"
wait_until 15 has_ingested "$(q 'SELECT pg_current_wal_insert_lsn()')" || fail "another tenant's WAL is not ingested"
took=$((($(date +%s%N) - began) / 1000000))
[ "$(begun)" = "$AT_A_TIME" ] || fail "$(begun) creations work at a time"
for i in "${pids[@]}"; do kill -0 "$i" || fail "a creation has ended: $(tail -n 2 "$WORK"/new.*)"; done
note "with $CREATIONS creations that wait, another tenant reads, and its WAL is ingested: $took ms"

# That one has no template; the next makes one.
mv "$made" "$made.fifo"
exec 9<>"$made.fifo"
exec 9>&-
failed=0
for i in "${pids[@]}"; do wait "$i" || failed=$((failed + 1)); done
[ "$failed" = 1 ] || fail "$failed creations failed: $(tail -n 2 "$WORK"/new.*)"
[ "$(console 'SHOW TENANTS' | grep -c '|new[0-9]*|1|active')" = $((CREATIONS - 1)) ] || fail "tenants: $(console 'SHOW TENANTS')"
note "passed"
