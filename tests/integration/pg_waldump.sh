#!/bin/bash
# Loch's reading of WAL against stock PostgreSQL's own tools, on a server that ran a wide workload:
#  - every record's resource manager, lengths, xid, LSNs, block references and images: pg_waldump
#  - boundaries whatever the chunking; single bit flips noticed
#  - every effect applied from initdb on: SLRU pages, VM pages, sizes, maps, two-phase files as the server's
#    own; again where transaction ids, multixacts and their members wrap
#  - the control machine, followed from an early checkpoint to the shutdown: pg_controldata
#  - a synthetic checkpoint at awkward places: a stock server starts on it, pg_waldump reads over the seam
# usage: pg_waldump.sh [BUILD_DIR [SCRATCH_DIR]]
set -eu
here=$(cd "$(dirname "$0")" && pwd)
build=$(cd "${1:-${LOCH_BUILD:-$here/../../build}}" && pwd)
tool=$build/bin/pg-walread
bin=$(pg_config --bindir 2>/dev/null || echo /usr/lib/postgresql/15/bin)
[ -x "$bin/initdb" ] || bin=/usr/lib/postgresql/15/bin
port=${LOCH_TEST_PORT:-21000}
work=${2:-$(mktemp -d /dev/shm/pg-waldump-XXXXXX)}
mkdir -p "$work"
as() { if [ "$(id -u)" = 0 ]; then setpriv --reuid=postgres --regid=postgres --clear-groups "$@"; else "$@"; fi; }
[ "$(id -u)" != 0 ] || chown postgres:postgres "$work"
running=
stop() { [ -z "$running" ] || as "$bin/pg_ctl" -D "$running" -m "${1:-fast}" -w stop >/dev/null; running=; }
cleanup() { stop immediate || true; [ -n "${KEEP:-}" ] || rm -rf "$work"; }
trap cleanup EXIT
fail() { echo "FAIL: $*"; exit 1; }
start() { as "$bin/pg_ctl" -D "$1" -l "$work/log" -w -o "-p $port -k $work ${2:-}" start >/dev/null || { tail -5 "$work/log"; fail start; }; running=$1; }
sql() { as "$bin/psql" -X -q -h "$work" -p "$port" -d postgres -v ON_ERROR_STOP=1 "$@"; }
control() { as "$bin/pg_controldata" "$1" | sed 's/:  */: /'; }
field() { control "$1" | sed -n "s/^$2: *//p"; }

as "$bin/initdb" -D "$work/d" -E UTF8 --locale=C -A trust -N >/dev/null
cat >> "$work/d/postgresql.conf" <<C
listen_addresses = ''
wal_keep_size = 4GB
max_prepared_transactions = 8
wal_level = logical
fsync = off
autovacuum = off
shared_buffers = 16MB
C
cp "$work/d/global/pg_control" "$work/control.0"; chmod a+r "$work/control.0"
cp -a "$work/d" "$work/base"
start "$work/d" "-c track_commit_timestamp=on"
sql -f "$here/pg_workload.sql" >/dev/null
# multixacts from two sessions at once
sql -c "create table m as select generate_series(1,50) a" -c "alter table m add primary key (a)"
for i in 1 2 3; do
  sql -c "begin; select count(*) from (select 1 from m where a <= 40 for key share) s; select pg_sleep(0.6); commit" >/dev/null &
done
for _ in $(seq 400); do [ "$(sql -Atc "select count(*) from pg_stat_activity where wait_event = 'PgSleep'")" = 0 ] || break; sleep 0.02; done
sql -c "begin; select count(*) from (select 1 from m for share) s; update m set a = a where false; commit" >/dev/null
wait %1 %2 %3 2>/dev/null || wait
sql -c "vacuum (freeze) m"
stop
for method in pglz lz4 zstd; do
  start "$work/d" "-c wal_compression=$method -c max_connections=40"
  sql -c "checkpoint; update stock set qty = qty + 1; update kv set v = v || '+'; checkpoint"
  stop
done
# Images only for checking, hints logged, and a crash: WAL goes on behind what recovery replayed.
start "$work/d" "-c wal_consistency_checking=all -c wal_log_hints=on"
sql -c checkpoint -c "delete from m where a > 45; update stock set name = name || 'c' where id % 7 = 0" \
  -c "vacuum stock" -c "select pg_logical_emit_message(false, 'huge', repeat('y', 5000000))" -c checkpoint \
  -c "vacuum (freeze) kv" >/dev/null
stop immediate
start "$work/d" "-c full_page_writes=off -c track_commit_timestamp=on"
cp "$work/d/global/pg_control" "$work/control.1"; chmod a+r "$work/control.1"
sql -f "$here/pg_counters.sql" >/dev/null
sql -c "update kv set v = v || '-'; checkpoint" -c "insert into kv select g, 'end' from generate_series(20000,20100) g"
stop
wal=$work/d/pg_wal

echo "== records"
first=000000010000000000000001
last=$(ls "$wal" | grep -E '^[0-9A-F]{24}$' | sort | tail -1)
as "$bin/pg_waldump" -p "$wal" $first "$last" > "$work/dump" 2>"$work/dump.err" || true
perl -ne 'next unless /^(rmgr: .*? prev [0-9A-F]+\/[0-9A-F]+, )desc: (.*)$/; my ($h, $d) = ($1, $2);
  my @b = $d =~ /(, blkref #\d+: rel \d+\/\d+\/\d+ (?:fork \w+ )?blk \d+(?: FPW for WAL verification| FPW)?)/g;
  print $h, @b, "\n";' "$work/dump" > "$work/theirs"
[ "$(wc -l < "$work/dump")" = "$(wc -l < "$work/theirs")" ] || fail "pg_waldump's lines not understood"
"$tool" records "$wal" 0/1000000 > "$work/ours" 2>"$work/ours.err"
cmp "$work/ours" "$work/theirs" || { diff "$work/ours" "$work/theirs" | head -10; fail records; }
echo "$(wc -l < "$work/ours") records, $(cut -c1-18 "$work/ours" | sort -u | wc -l) resource managers"

echo "== boundaries"
"$tool" bounds "$wal" 0/1000000 > "$work/b0" 2>/dev/null
[ "$(wc -l < "$work/b0")" = "$(wc -l < "$work/ours")" ] || fail "count of boundaries"
for chunk in 1 7 8191 8192 8193 100000; do
  "$tool" bounds "$wal" 0/1000000 --chunk $chunk 2>/dev/null | cmp - "$work/b0" || fail "chunk $chunk"
  [ $chunk = 1 ] || "$tool" records "$wal" 0/1000000 --chunk $chunk 2>/dev/null | cmp - "$work/ours" || fail "records, chunk $chunk"
done
"$tool" flips "$wal" 0/1000000 0/0 2000 1 | tee "$work/flips"
[ "$(cut -d' ' -f1 "$work/flips")" -ge 1950 ] || fail "bit flips"

# OIDs are logged ahead: as after a crash, up to 8192 may be skipped.
oid_close() { [ "$1" -ge "$2" ] && [ "$1" -le $(($2 + 8192)) ] || fail "NextOID $1, theirs $2"; }
echo "== control"
end=$(field "$work/d" "Latest checkpoint location")
for c in 0 1; do
  "$tool" follow "$wal" "$work/control.$c" --end "$end" 2>"$work/follow.err" > "$work/follow" || { cat "$work/follow.err"; fail follow; }
  control "$work/d" > "$work/cd"
  while IFS= read -r line; do
    case $line in
    "last record:"*|*oldestXID*|*oldestMulti*) continue ;; # these may lag until a checkpoint
    *NextOID*) oid_close "${line##*: }" "$(field "$work/d" "Latest checkpoint's NextOID")"; continue ;;
    esac
    grep -qxF "$(echo "$line" | sed 's/:  */:/')" <(sed 's/:  */:/' "$work/cd") || { grep -F "${line%:*}" "$work/cd"; fail "control.$c: $line"; }
  done < "$work/follow"
  prev=$(sed -n 's/last record: //p' "$work/follow")
  [ "$(tail -2 "$work/b0" | head -1)" = "$prev" ] || true
done
"$tool" effects "$wal" 0/1000000 --control "$work/control.0"

echo "== effects against the server's files"
"$build/bin/pg-walapply" "$work/base" "$work/d" || fail effects

echo "== counters that wrap"
# Everything frozen, then the counters set close to their ends: xids, multixacts and members wrap, and
# vacuuming cuts the old pages off.
as "$bin/initdb" -D "$work/w" -E UTF8 --locale=C -A trust -N >/dev/null
cp "$work/d/postgresql.conf" "$work/w/"
zeros() { as dd if=/dev/zero of="$1" bs=8192 count="${2:-32}" status=none; }
# In steps of less than half the circle: each freezes what the one before left. Segment names: xid / 2^20,
# multixact / 2^16, member offset / 52352, in hexadecimal.
jump() { # xid, its segment, multixact, its segment, member offset, its segment, pages of that
  as "$bin/pg_resetwal" -D "$work/w" -x "$1" -m "$3,$3" -O "$5" >/dev/null
  zeros "$work/w/pg_xact/$2"; zeros "$work/w/pg_multixact/offsets/$4"; zeros "$work/w/pg_multixact/members/$6" "${7:-32}"
}
freeze_all() {
  start "$work/w"
  sql -c "update pg_database set datallowconn = true"
  as "$bin/vacuumdb" -q -h "$work" -p "$port" --all --freeze
  stop
}
freeze_all
jump 2000000000 0773 2000000000 7735 2000000000 953A; freeze_all
jump 4000000000 0EE6 4000000000 EE6B 4000000000 12A75; freeze_all
jump 4294965000 0FFF 4294966500 FFFF 4294965500 14078 6
cp -a "$work/w" "$work/base.w"
start "$work/w" "-c track_commit_timestamp=on"
sql -f "$here/pg_counters.sql" >/dev/null
as "$bin/vacuumdb" -q -h "$work" -p "$port" --all --freeze
sql -c checkpoint -f "$here/pg_counters.sql" >/dev/null
stop
"$build/bin/pg-walapply" "$work/base.w" "$work/w" || fail "effects over the wrap"
"$tool" follow "$work/w/pg_wal" "$work/base.w/global/pg_control" \
  --end "$(field "$work/w" "Latest checkpoint location")" > "$work/follow.w" 2>/dev/null
for f in NextXID NextOID NextMultiXactId NextMultiOffset oldestXID oldestMultiXid oldestCommitTsXid newestCommitTsXid; do
  ours=$(sed -n "s/Latest checkpoint's $f: *//p" "$work/follow.w"); theirs=$(field "$work/w" "Latest checkpoint's $f")
  echo "$f $ours"
  if [ $f = NextOID ]; then oid_close "$ours" "$theirs"; else [ "$ours" = "$theirs" ] || fail "$f is $theirs"; fi
done

echo "== synthetic checkpoints"
# A copy started on our checkpoint in place of the real one, at L = the end of the last record before it.
prev=$(sed -n 's/last record: \([^ ]*\) .*/\1/p' "$work/follow")
L=$(sed -n 's/last record: [^ ]* //p' "$work/follow")
try() { # name, data directory, L, prev
  mkdir -p "$work/out"; rm -f "$work/out"/*
  "$tool" synth "$2/pg_wal" "$2/global/pg_control" "$3" "$4" "$work/out" > "$work/synth"
  rm -rf "$work/c"; cp -a "$2" "$work/c"; rm -f "$work/c/pg_wal"/0*
  cp "$work/out/pg_control" "$work/c/global/pg_control"
  cp "$work/out"/0* "$work/c/pg_wal/"
  [ "$(id -u)" != 0 ] || chown -R postgres:postgres "$work/c"
  start "$work/c"
  sql -Atc "insert into kv values (-$RANDOM, 'new') returning 1" >/dev/null
  sql -Atc "select count(*) > 0 from stock" | grep -q t || fail "$1: no rows"
  stop
  # Named files: a preallocated segment has no header to learn the segment size from.
  as "$bin/pg_waldump" -p "$work/c/pg_wal" -s "$(cut -d' ' -f1 "$work/synth")" \
    $(ls "$work/c/pg_wal" | grep ^0 | sort | sed -n '1,2p') > "$work/seam" 2>"$work/seam.err" || true
  head -1 "$work/seam" | grep -q "CHECKPOINT_SHUTDOWN" || fail "$1: pg_waldump over the seam"
  [ "$(wc -l < "$work/seam")" -gt 3 ] || fail "$1: no WAL behind the seam"
  echo "ok $1: L $3, checkpoint $(cat "$work/synth")"
}
try "mid-page" "$work/d" "$L" "$prev"
# Places made up: nothing before L is read by a server that was shut down cleanly, so any L will do.
base=$(printf '%X' $((0x${L#*/} / 0x1000000 + 4)))
for at in 000028 000030 002000 002018 002020 003F88 003F90 003F98 003FF0 003FF8 FFFF88 FFFF90 FFFF98 FFFFF8; do
  try "at $at" "$work/d" "0/$base$at" "$prev"
done
try "segment start" "$work/d" "0/${base}000000" "$prev"
echo "all well"
