#!/usr/bin/env bash
# The way in and the way out: a stock cluster's data directory becomes a tenant, and a branch at a point becomes a data
# directory that a stock server starts on. The oracles are pg_dumpall and amcheck of the stock server.
. "$(dirname "$0")/lib.sh"
BIN=/usr/lib/postgresql/15/bin
STOCK_PORT=$((PORT_BASE + 120))
as=()
[ "$(id -u)" != 0 ] || as=(setpriv --reuid=postgres --regid=postgres --clear-groups)
STOCK=
stock_start() { # DIRECTORY [setting...]
    STOCK=$1
    "${as[@]}" "$BIN/pg_ctl" -D "$1" -w -l "$1.log" -o "-p $STOCK_PORT -k $WORK/stock -c listen_addresses='' ${2:-}" start >/dev/null ||
        fail "a stock server on $1: $(tail -5 "$1.log")"
    BACKGROUND+=("$(head -1 "$1/postmaster.pid")")
}
stock_stop() { "${as[@]}" "$BIN/pg_ctl" -D "$STOCK" -w -m "${1:-fast}" stop >/dev/null; STOCK=; }
stock() { psql -h "$WORK/stock" -p "$STOCK_PORT" -U postgres -d shop -XAtq -v ON_ERROR_STOP=1 -c "$1"; }
dump() { PGPASSWORD=secret pg_dumpall "$@" | grep -v '^-- \|^\\restrict\|^\\unrestrict\|^SELECT pg_catalog.setval'; }
refused() { # PATTERN COMMAND...
    local pattern=$1 said; shift
    said=$("$@" 2>&1) && fail "not refused: $*"
    grep -q -- "$pattern" <<<"$said" || fail "refused by other words: $said"
}

export LOCH_PAGESERVER_OPEN_LAYER=4MiB # an import of many parts
up
mkdir -m 0777 "$WORK/stock"
echo secret >"$WORK/stock/password"
"${as[@]}" "$BIN/initdb" -D "$WORK/stock/in" -U postgres -E UTF8 --locale C --data-checksums -A scram-sha-256 \
    --pwfile="$WORK/stock/password" -N >/dev/null
sed -i '1i local all all trust' "$WORK/stock/in/pg_hba.conf"
stock_start "$WORK/stock/in"
psql -h "$WORK/stock" -p "$STOCK_PORT" -U postgres -d postgres -Xqc "CREATE DATABASE shop" -c "CREATE ROLE clerk LOGIN PASSWORD 'clerk'"
"$BIN/pgbench" -h "$WORK/stock" -p "$STOCK_PORT" -U postgres -i -s 5 -q shop >/dev/null 2>&1
"$BIN/pgbench" -h "$WORK/stock" -p "$STOCK_PORT" -U postgres -t 500 -c 4 -n shop >/dev/null 2>&1
stock "SET client_min_messages = error; CREATE UNLOGGED TABLE fleeting AS SELECT 1; CREATE SEQUENCE numbers; SELECT nextval('numbers');
       CREATE TABLE blobs AS SELECT g, (SELECT string_agg(md5((g * i)::text), '') FROM generate_series(1, 200) i) FROM generate_series(1, 500) g;
       CREATE INDEX ON blobs USING gin (to_tsvector('simple', string_agg)); SELECT lo_from_bytea(4711, 'large'); DELETE FROM blobs WHERE g % 3 = 0" >/dev/null
relation=$(stock "SELECT pg_relation_filepath('pgbench_accounts')")
dump -h "$WORK/stock" -p "$STOCK_PORT" -U postgres >"$WORK/before"

refused "a server may be running" "$LOCH" tenant create shop --import "$WORK/stock/in"
stock_stop immediate
refused "a server may be running\|not shut down cleanly" "$LOCH" tenant create shop --import "$WORK/stock/in"
refused "No such file" "$LOCH" tenant create shop --import "$WORK/nothing"
refused "no PostgreSQL data directory" "$LOCH" tenant create shop --import "$WORK"
stock_start "$WORK/stock/in"
stock_stop
(cd "$WORK/stock/in" && find . -type f -exec sha256sum {} + | sort) >"$WORK/files"
"$LOCH" tenant create shop --import "$WORK/stock/in" >/dev/null || fail "import"
(cd "$WORK/stock/in" && find . -type f -exec sha256sum {} + | sort) | cmp -s - "$WORK/files" || fail "the import changed its directory"
refused "there already" "$LOCH" tenant create shop --import "$WORK/stock/in"
# A damaged page of a cluster with checksums is not sealed as a good one.
damaged=$WORK/stock/in/$relation
byte() { dd if="$damaged" bs=1 skip=20000 count=1 status=none; }
put_byte() { dd of="$damaged" bs=1 seek=20000 count=1 conv=notrunc status=none; }
byte >"$WORK/byte"
tr '\000-\377' '\001-\377\000' <"$WORK/byte" | put_byte
refused "$relation: block 2 of the relation has checksum" "$LOCH" tenant create damaged --import "$WORK/stock/in"
put_byte <"$WORK/byte"
"$LOCH" compute start shop --tenant shop --set max_prepared_transactions=5 >/dev/null || fail "compute of the imported tenant"
port=$(field shop port)
url="host=127.0.0.1 port=$port user=postgres password=secret"
psql "host=127.0.0.1 port=$port user=clerk password=wrong dbname=shop" -c "SELECT 1" >/dev/null 2>&1 && fail "any password is taken"
[ "$(psql "host=127.0.0.1 port=$port user=clerk password=clerk dbname=shop" -XAtc 'SELECT current_user')" = clerk ] || fail "its own user"
dump -d "$url dbname=postgres" >"$WORK/after"
# What was unlogged is empty, as after a crash.
diff <(grep -v '^1$' "$WORK/before") <(grep -v '^1$' "$WORK/after") >"$WORK/diff" || { head -20 "$WORK/diff"; fail "the import differs"; }
note "imported: $(wc -l <"$WORK/after") lines of dump are equal"

# Work goes on, and a past moment of it is exported while it does.
shop() { psql "$url dbname=shop" -XAtq -v ON_ERROR_STOP=1 -c "$1"; }
shop "CREATE TABLE t AS SELECT g FROM generate_series(1, 10000) g"
shop "BEGIN; INSERT INTO t VALUES (-2); PREPARE TRANSACTION 'pending'"
at=$(shop "SELECT pg_current_wal_insert_lsn()"); dump -d "$url dbname=postgres" >"$WORK/at"
shop "DELETE FROM t; DROP TABLE blobs"
"$BIN/pgbench" -n -T 10 -c 2 "$url dbname=shop" >"$WORK/bench" 2>&1 &
BACKGROUND+=($!)
mkdir "$WORK/full" && touch "$WORK/full/file"
refused "not an empty directory" "$LOCH" branch export main --tenant shop --to "$WORK/full"
refused "want: loch branch export" "$LOCH" branch export main --tenant shop
refused "beyond the tip" "$LOCH" branch export main --tenant shop --to "$WORK/stock/none" --at FF/0
[ ! -e "$WORK/stock/none" ] || fail "a refused export left its directory"
refused "one of --keep-prepared" "$LOCH" branch export main --tenant shop --to "$WORK/stock/none" --keep-prepared --rollback-prepared
refused "are for" "$LOCH" compute start other --tenant shop --read-only --keep-prepared
"$LOCH" branch export main --tenant shop --at "$at" --to "$WORK/stock/out" >"$WORK/said" 2>&1 || fail "export"
grep -q "came along: 1 .* max_prepared_transactions = 5" "$WORK/said" || fail "what was prepared: $(cat "$WORK/said")"
"$LOCH" branch export main --tenant shop --to "$WORK/stock/tip" --rollback-prepared --json | sees '"prepared": 0' || fail "export of the tip"
[ "$("$LOCH" branch list --tenant shop | wc -l)" = 2 ] || fail "an export left a branch: $("$LOCH" branch list --tenant shop)"
[ "$(stat -c %a "$WORK/stock/out")" = 700 ] || fail "others may read the export"
stock_start "$WORK/stock/out" "-c max_wal_senders=0"
dump -h "$WORK/stock" -p "$STOCK_PORT" -U postgres >"$WORK/out"
diff "$WORK/at" "$WORK/out" >"$WORK/diff" || { head -20 "$WORK/diff"; fail "the export differs from the branch at $at"; }
"$BIN/pg_amcheck" -h "$WORK/stock" -p "$STOCK_PORT" -U postgres --all --install-missing --heapallindexed >"$WORK/amcheck" 2>&1 || { cat "$WORK/amcheck"; fail "amcheck"; }
[ "$(stock "SELECT count(*) FROM t WHERE g = -2")" = 0 ] || fail "a prepared row is seen"
stock "COMMIT PREPARED 'pending'"
[ "$(stock "SELECT count(*) FROM t WHERE g = -2")" = 1 ] || fail "a prepared transaction's row after its commit"
stock "INSERT INTO t VALUES (-1); SELECT nextval('numbers')" >/dev/null
stock_stop
note "exported at $at: equal to the branch, clean, and it lives on"
stock_start "$WORK/stock/tip"
[ "$(stock "SELECT count(*) FROM pg_prepared_xacts")" = 0 ] || fail "--rollback-prepared kept one"
[ "$(stock "SELECT (SELECT sum(bbalance) FROM pgbench_branches) = (SELECT sum(abalance) FROM pgbench_accounts), (SELECT count(*) FROM t)")" = "t|0" ] || fail "the tip's sums"
stock_stop

# An export that is ended takes its branch with it; one that is killed leaves it to the next `up`, which leaves a running one's alone.
exports() { "$LOCH" branch list --tenant shop --json | grep -o '"name": "export-main-[^"]*"' || true; }
noted() { compgen -G "$DIR/run/export-main-*.side" >/dev/null; }
begin_export() { # in steps, until its note is there
    rm -rf "$WORK/stock/part"
    "$LOCH" branch export main --tenant shop --to "$WORK/stock/part" >"$WORK/said" 2>&1 &
    exporting=$!
    until noted; do dead "$exporting" && fail "an export without a note: $(cat "$WORK/said")"; done
    kill -STOP "$exporting"
}
for signal in HUP TERM; do
    begin_export
    kill -s "$signal" "$exporting"
    kill -CONT "$exporting"
    wait "$exporting" && fail "an export that got SIG$signal ended well"
    grep -q "interrupted" "$WORK/said" || fail "SIG$signal: $(cat "$WORK/said")"
    [ -z "$(exports)" ] || fail "SIG$signal left $(exports)"
    noted && fail "SIG$signal left a note"
done
begin_export
while [ -z "$(exports)" ]; do # its branch is made between two looks
    kill -CONT "$exporting"; sleep 0.01; kill -STOP "$exporting"
    dead "$exporting" && fail "an export that was to be killed ended: $(cat "$WORK/said")"
done
"$LOCH" up >/dev/null 2>"$WORK/err" || fail "up beside an export"
[ -n "$(exports)" ] || fail "up removed a running export's branch: $(cat "$WORK/err")"
grep -q "export-" "$WORK/err" && fail "up names a running export's branch: $(cat "$WORK/err")"
kill -9 "$exporting"
wait "$exporting" 2>/dev/null && fail "killed, and well"
"$LOCH" branch create export-mine-0123abcd --tenant shop >/dev/null || fail "branch"
"$LOCH" up >/dev/null 2>"$WORK/err" || fail "up after a killed export"
[ "$(exports)" = "" ] || fail "a killed export's branch stays: $(cat "$WORK/err")"
noted && fail "a killed export's note stays"
read -ra delete < <(grep -o "loch branch delete export-mine-0123abcd --tenant shop" "$WORK/err") || fail "a branch that only looks so is not named: $(cat "$WORK/err")"
"$LOCH" "${delete[@]:1}" >/dev/null || fail "the command that up names"
note "exports that end early leave nothing"

# Out and in again.
"$LOCH" tenant create again --import "$WORK/stock/out" >/dev/null || fail "the export is imported"
"$LOCH" compute start again --tenant again >/dev/null || fail "compute of the export"
[ "$(psql "host=127.0.0.1 port=$(field again port) user=postgres password=secret dbname=shop" -XAtc 'SELECT count(*) FROM t')" = 10002 ] || fail "rows after out and in"

# The pageserver dies in the middle of an import: nothing of it stays, and the next import goes through.
parts() { grep -c "importing: " "$DIR/log/pageserver.log"; }
before=$(parts)
more() { [ "$(parts)" -gt "$((before + 1))" ]; }
"$LOCH" tenant create third --import "$WORK/stock/tip" >"$WORK/said" 2>&1 &
importing=$!
until more || dead "$importing"; do :; done # without a pause: it may be short
kill -9 "$(daemon_pid pageserver)"
wait "$importing" && fail "an import without its pageserver ended well"
"$LOCH" up >/dev/null 2>&1 || fail "up again"
grep -q "removing what is left of tenant .*, whose creation or removal was cut short" "$DIR/log/pageserver.log" || fail "nothing says that it is removed"
for d in "$DIR/pageserver/tenants" "$DIR/store/tenants"; do
    [ "$(find "$d" -type f ! -name .lock -printf '%P\n' | cut -d/ -f1 | sort -u | wc -l)" = 3 ] || fail "something of it stays: $(find "$d" -type f | tail -20)"
done
"$LOCH" tenant create third --import "$WORK/stock/tip" >/dev/null || fail "the next import"
"$LOCH" compute start third --tenant third >/dev/null || fail "compute of the third"
[ "$(psql "host=127.0.0.1 port=$(field third port) user=postgres password=secret dbname=shop" -XAtc 'SELECT count(*) FROM pgbench_accounts')" = 500000 ] ||
    fail "rows of the third"
note "passed"
