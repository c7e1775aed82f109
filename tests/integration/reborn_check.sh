#!/bin/bash
# The engine against a stock server: import, ingest of everything the server wrote, every key compared with the
# server's own directory, then a FULL base backup of the ingested timeline starts as a stock server: dump equal, amcheck
# clean. usage: reborn_check.sh [BUILD_DIR] [PORT]
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
build=$(cd "${1:-$here/../../build}" && pwd)
port=${2:-21620}
bin=/usr/lib/postgresql/15/bin
work=$(mktemp -d /dev/shm/redo-XXXXXX)
chmod 755 "$work"
as=()
if [ "$(id -u)" = 0 ]; then
    chown postgres "$work"
    as=(setpriv --reuid=postgres --regid=postgres --clear-groups)
fi
cd "$work"
running=
finish() {
    [ -z "$running" ] || "${as[@]}" "$bin/pg_ctl" -D "$running" -m immediate -w stop >/dev/null 2>&1 || true
    cd /
    [ -n "${KEEP:-}" ] || rm -rf "$work"
}
trap finish EXIT
start() {
    running=$1
    "${as[@]}" "$bin/pg_ctl" -D "$1" -w -l "$1.log" -o "-p $port -k $work -c listen_addresses='' $2" start >/dev/null ||
        { tail -20 "$1.log"; exit 1; }
}
stop() { "${as[@]}" "$bin/pg_ctl" -D "$1" -w -m fast stop >/dev/null; running=; }
sql() { "${as[@]}" "$bin/psql" -X -q -h "$work" -p "$port" -U postgres -d postgres "$@"; }
dump() { "${as[@]}" "$bin/pg_dumpall" -h "$work" -p "$port" -U postgres | grep -v '^-- \|^\\restrict\|^\\unrestrict\|setval'; }
amcheck() {
    "${as[@]}" "$bin/pg_amcheck" -h "$work" -p "$port" -U postgres --all --install-missing --heapallindexed 2>&1 |
        { ! grep -v "already exists, skipping"; }
}
opts="-c max_prepared_transactions=5 -c allow_in_place_tablespaces=on -c track_commit_timestamp=on -c fsync=off"
opts="$opts -c full_page_writes=off -c wal_keep_size=20GB -c max_wal_size=256MB -c autovacuum_naptime=1s"
"${as[@]}" "$bin/initdb" -D data -A trust -U postgres -E UTF8 --locale C -N >/dev/null
cp -a data base
start data "$opts"
sql -v csv="$work/rows.csv" -f "$here/redo_consistency.sql" >out 2>err || { cat err; exit 1; }
# several sessions at once: multixacts, interleaved transactions
cat >share.sql <<'SQL'
\set id random(1, 40)
BEGIN; SELECT id FROM items WHERE id = :id FOR SHARE; UPDATE once SET v = v + 1 WHERE id = :id; COMMIT;
SQL
"${as[@]}" "$bin/pgbench" -n -h "$work" -p "$port" -U postgres -f share.sql -c 4 -t 300 postgres >bench 2>&1 ||
    { cat bench; exit 1; }
sql -f "$here/reborn_extra.sql" >out 2>err || { cat err; exit 1; }
"${as[@]}" "$bin/pg_ctl" -D data -w -m immediate stop >/dev/null # crash recovery's records too
start data "$opts"
sql -c "INSERT INTO shrink VALUES (-70, 'after the crash')"
sql -c "SELECT count(*) FROM shrink" >/dev/null
dump >before
stop data
mkdir engine; chmod 711 engine
"$build/bin/reborn_check" base data "$work/engine" out.tar ${REOPEN:+reopen} || failed=1
[ -z "${failed:-}" ] || exit 1
"${as[@]}" mkdir -m 700 reborn
"${as[@]}" tar -xf out.tar -C reborn
start reborn "$opts"
dump >after
diff before after
amcheck
origins=$(sql -A -t -c "SELECT string_agg(external_id || ' ' || remote_lsn, ', ' ORDER BY external_id) FROM pg_replication_origin_status")
[ "$origins" = "done 0/6100, undone 0/7100, upstream 0/12345678, waits 0/5000" ] || { echo "origins: $origins"; exit 1; }
sql -c "COMMIT PREPARED 'left waiting'" -c "COMMIT PREPARED 'also'" -c "COMMIT PREPARED 'of an origin'" -c "INSERT INTO faint VALUES (1, 'empty before')"
[ "$(sql -A -t -c "SELECT count(*) FROM promised")" = 400 ]
amcheck
stop reborn
echo "ingest, base backup: ok"
