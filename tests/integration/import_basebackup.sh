#!/bin/bash
# Import and FULL base backup: what a stock server wrote comes back, byte for byte as seen through SQL, in a
# stock server that starts on the base backup alone; amcheck clean; odd directories are refused.
# usage: import_basebackup.sh [BUILD_DIR] [PORT]
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
build=$(cd "${1:-$here/../../build}" && pwd)
port=${2:-21610}
bin=/usr/lib/postgresql/15/bin
check=$build/bin/import_check
work=$(mktemp -d /dev/shm/redo-XXXXXX)
chmod 755 "$work"
as=()
if [ "$(id -u)" = 0 ]; then
    chown postgres "$work"
    as=(setpriv --reuid=postgres --regid=postgres --clear-groups)
fi
cd "$work"
up=()
finish() {
    for d in "${up[@]}"; do "${as[@]}" "$bin/pg_ctl" -D "$d" -m immediate -w stop >/dev/null 2>&1 || true; done
    cd /
    rm -rf "$work"
}
trap finish EXIT
start() { # DIR OPTIONS
    up+=("$1")
    "${as[@]}" "$bin/pg_ctl" -D "$1" -w -l "$work/$(basename "$1").log" \
        -o "-p $port -k $work -c listen_addresses='' -c fsync=off $2" start >/dev/null ||
        { tail -20 "$work/$(basename "$1").log"; exit 1; }
}
stop() { "${as[@]}" "$bin/pg_ctl" -D "$1" -w -m fast stop >/dev/null; }
sql() { "${as[@]}" "$bin/psql" -X -q -A -t -v ON_ERROR_STOP=1 -h "$work" -p "$port" -U postgres -d "${db:-postgres}" "$@"; }
dump() { "${as[@]}" "$bin/pg_dumpall" -h "$work" -p "$port" -U postgres | grep -v '^-- \|^\\restrict\|^\\unrestrict'; }
amcheck() { "${as[@]}" "$bin/pg_amcheck" -h "$work" -p "$port" -U postgres --all --install-missing --heapallindexed 2>&1 |
    { ! grep -v "already exists, skipping"; }; }
refused() { # TEXT DIR
    if out=$("$check" inspect "$2" 2>&1); then echo "FAILED: $2 was not refused ($1)"; exit 1; fi
    grep -q -- "$1" <<<"$out" || { echo "FAILED: wrong reason: $out"; exit 1; }
}

for variant in plain checksums; do
    opts="-c max_prepared_transactions=5 -c allow_in_place_tablespaces=on -c track_commit_timestamp=on"
    "${as[@]}" "$bin/initdb" -D "$variant" -A trust -U postgres -E UTF8 --locale C -N \
        $([ $variant = checksums ] && echo --data-checksums) >/dev/null
    start "$variant" "$opts"
    sql >/dev/null <<'SQL'
CREATE TABLE many (id int PRIMARY KEY, t text);
INSERT INTO many SELECT g, repeat(md5(g::text), 1 + g % 80) FROM generate_series(1, 20000) g;
CREATE INDEX many_t ON many (md5(t)); CREATE INDEX many_g ON many USING gin (string_to_array(left(t, 9), 'a'));
DELETE FROM many WHERE id % 5 = 0; VACUUM many;
UPDATE many SET t = 'short' WHERE id % 7 = 0;
CREATE TABLE empty (a int); CREATE SEQUENCE s; SELECT nextval('s');
CREATE UNLOGGED TABLE light (id int PRIMARY KEY, t text); INSERT INTO light SELECT g, g FROM generate_series(1, 900) g;
CREATE TABLESPACE inplace LOCATION ''; CREATE TABLESPACE bare LOCATION '';
CREATE TABLE elsewhere (a int) TABLESPACE inplace; INSERT INTO elsewhere SELECT generate_series(1, 3000);
CREATE DATABASE copied STRATEGY file_copy; CREATE DATABASE there TABLESPACE inplace;
SELECT pg_replication_origin_create('far'); SELECT pg_replication_origin_advance('far', '0/ABCDEF');
SELECT count(*) FROM (SELECT 1 FROM many WHERE id < 500 FOR SHARE) x;
BEGIN; INSERT INTO many VALUES (-1, 'prepared'); PREPARE TRANSACTION 'waiting';
BEGIN; CREATE TEMP TABLE gone (a int); INSERT INTO gone VALUES (1); COMMIT;
SQL
    db=there sql -c 'CREATE TABLE far (a int); INSERT INTO far SELECT generate_series(1, 100)'
    refused "not shut down\|may be running" "$variant"
    # multixacts with two members
    sql -c "BEGIN; SELECT id FROM many WHERE id = 1 FOR SHARE; SELECT pg_sleep(1); COMMIT" >/dev/null &
    sleeper=$!
    for _ in $(seq 400); do [ "$(sql -c "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'")" = 0 ] || break; sleep 0.02; done
    sql -c "BEGIN; SELECT id FROM many WHERE id = 1 FOR SHARE; COMMIT" >/dev/null; wait $sleeper
    sql -c "DELETE FROM light"  # the unlogged table comes back empty: dumps must agree
    dump >"$variant.before"
    stop "$variant"
    "$check" copy "$variant" "$variant.tar" full
    "${as[@]}" mkdir -m 700 "$variant-reborn"
    "${as[@]}" tar -xf "$variant.tar" -C "$variant-reborn"
    "${as[@]}" "$bin/pg_controldata" "$variant-reborn" | grep -q 'Data page checksum version: *0'
    start "$variant-reborn" "$opts"
    dump >"$variant.after"
    diff <(grep -v setval "$variant.before") <(grep -v setval "$variant.after")
    [ "$(sql -c 'SELECT count(*) FROM light')" = 0 ]
    [ "$(sql -c "SELECT remote_lsn FROM pg_replication_origin_status")" = 0/ABCDEF ]
    [ "$(sql -c "SELECT count(*) FROM many WHERE pg_xact_commit_timestamp(xmin) IS NOT NULL")" -gt 1000 ]
    amcheck
    sql -c "COMMIT PREPARED 'waiting'" -c "INSERT INTO many SELECT g, 'new' FROM generate_series(30000, 31000) g" \
        -c "INSERT INTO light VALUES (1, 'x')" -c "INSERT INTO elsewhere VALUES (1)" -c "DROP TABLESPACE bare"
    [ "$(sql -c "SELECT t FROM many WHERE id = -1")" = prepared ]
    amcheck
    "${as[@]}" "$bin/pg_ctl" -D "$variant-reborn" -w -m immediate stop >/dev/null # crash recovery works too
    start "$variant-reborn" "$opts"
    amcheck
    stop "$variant-reborn"
    # out and in again
    "$check" copy "$variant-reborn" again.tar
    tar -tf again.tar >names
    grep -q '^global/1262$' names
    if grep -q '^base/5/1259$' names; then echo "FAILED: normal mode holds relations"; exit 1; fi
    echo "$variant: ok"
done

touch plain/backup_label; refused "base backup" plain; rm plain/backup_label
mkdir plain/pg_tblspc/x; refused "not a tablespace" plain; rmdir plain/pg_tblspc/x
ln -s /tmp plain/pg_tblspc/99999; refused "LOCATION" plain; rm plain/pg_tblspc/99999
cp plain/global/pg_control c; dd if=/dev/zero of=plain/global/pg_control bs=1 seek=100 count=8 conv=notrunc status=none
refused "pg_control" plain; cp c plain/global/pg_control
refused "no PostgreSQL data directory" "$work"
"${as[@]}" "$bin/initdb" -D seg -A trust -U postgres -N --wal-segsize=1 >/dev/null; refused "segment" seg
echo x >plain/base/1/strange
if "$check" copy plain x.tar full 2>err; then echo "FAILED: a strange file was taken"; exit 1; fi
grep -q "no place" err; rm plain/base/1/strange
printf 'x' | dd of=plain/base/1/1259 bs=1 seek=8204 conv=notrunc status=none
printf '\377\377\377\377' | dd of=plain/base/1/1259 bs=1 seek=8204 conv=notrunc status=none
if "$check" copy plain x.tar full 2>err; then echo "FAILED: a broken page was taken"; exit 1; fi
grep -q "valid page header" err
echo "refusals: ok"

# the directory CREATE TENANT makes
printf 'CREATE SCHEMA planted;\n\n' >ext.sql; chmod 644 ext.sql
"${as[@]}" mkdir -m 711 scratch
read -r dir password < <("$check" initdb scratch "$build/lib" "$work/ext.sql")
"$check" copy "$dir" tenant.tar full >/dev/null
"${as[@]}" mkdir -m 700 tenant; "${as[@]}" tar -xf tenant.tar -C tenant
start tenant ""
export PGPASSWORD=$password
[ "$(sql -c "SELECT count(*) FROM pg_namespace WHERE nspname = 'planted'")" = 1 ]
[ "$(sql -c "SHOW server_encoding")" = UTF8 ]
if PGPASSWORD=wrong sql -c "SELECT 1" 2>/dev/null; then echo "FAILED: no password wanted"; exit 1; fi
printf 'CREATE SCHEMA bad; SELECT nonsense;\n\n' >bad.sql; chmod 644 bad.sql
if "$check" initdb scratch "$build/lib" "$work/bad.sql" 2>err; then echo "FAILED: bad SQL passed"; exit 1; fi
grep -q nonsense err
[ "$(ls scratch | wc -l)" = 1 ] # a failed one leaves nothing
echo "initdb: ok"
