#!/usr/bin/env bash
# Stock pg_receivewal archives a branch from its first segment, out of the archive, from disk and as it is written,
# across a compute's death; stock pg_waldump finds one chain. Whoever has no certificate of the tenant gets nothing.
. "$(dirname "$0")/lib.sh"
BIN=/usr/lib/postgresql/15/bin
OUT=$WORK/wal
PORT=$((PORT_BASE + 60))
SIDE=$((16 * 1024 * 1024))

lsn() { python3 -c 'import sys; a, b = sys.argv[1].split("/"); print(int(a, 16) << 32 | int(b, 16))' "$1"; }
column() {
    psql "host=$DIR/run port=$((PORT_BASE + 1)) dbname=loch user=loch" -X -A -q -v ON_ERROR_STOP=1 -c 'SHOW TIMELINES' |
        python3 -c '
import sys
rows = [l.rstrip("\n").split("|") for l in sys.stdin]
print(next(r for r in rows if r[1] == sys.argv[1])[rows[0].index(sys.argv[2])])' "$MAIN" "$1"
}
timeline() { "$LOCH" branch list --json | python3 -c 'import json, sys; print(next(b for b in json.load(sys.stdin) if b["name"] == "main")[sys.argv[1]])' "$1"; }
cert() { # NAME SUBJECT EXTENSION: signed by our authority
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$WORK/$1.key" -out "$WORK/$1.csr" -subj "$2" 2>/dev/null &&
        openssl x509 -req -in "$WORK/$1.csr" -CA "$WORK/ca.crt" -CAkey "$WORK/ca.key" -CAcreateserial -days 2 \
            -extfile <(echo "$3") -out "$WORK/$1.crt" 2>/dev/null || fail "openssl: $1"
}
trimmed() { [ "$(lsn "$(column trimmed_lsn)")" -ge "$1" ]; }

up
MAIN=$(timeline timeline)
TENANT=$(timeline tenant)
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$WORK/ca.key" -out "$WORK/ca.crt" -days 2 -subj /CN=authority 2>/dev/null || fail openssl
cert server /CN=safekeeper subjectAltName=IP:127.0.0.1
cert exporter "/CN=$TENANT" extendedKeyUsage=clientAuth
cert stranger "/CN=$(printf '%032d' 7)" extendedKeyUsage=clientAuth
printf '\n[export]\nlisten = 127.0.0.1:%d\ncert = %s\nkey = %s\nclient_ca = %s\n' $PORT "$WORK/server.crt" "$WORK/server.key" "$WORK/ca.crt" >>"$DIR/conf/safekeeper-1.ini"
kill "$(daemon_pid safekeeper-1)"
wait_gone "$(daemon_pid safekeeper-1)"
up
q "CREATE TABLE t (n int, pad text)"
q "INSERT INTO t SELECT g, repeat(md5(g::text), 9) FROM generate_series(1, 180000) g"
first=$(lsn "$(column start_lsn)")
caught_up # what is not ingested yet is not written
psql "host=$DIR/run port=$((PORT_BASE + 10)) dbname=loch user=loch" -X -q -c "FLUSH $TENANT $MAIN"
wait_until 90 trimmed $((first / SIDE * SIDE + 2 * SIDE)) || fail "nothing was trimmed: $(column trimmed_lsn)"

conn() { echo "host=127.0.0.1 port=$PORT user=exporter sslmode=verify-full sslrootcert=$WORK/ca.crt sslcert=$WORK/$1.crt sslkey=$WORK/$1.key options='-c loch.timeline=$MAIN'"; }
chmod 0600 "$WORK"/*.key
refused() { # WORDS CONNECTION: pg_receivewal ends at once, with the words
    mkdir -p "$WORK/none"
    timeout 20 "$BIN/pg_receivewal" -n -D "$WORK/none" --slot x -d "$2" >"$WORK/refused" 2>&1 && fail "$1: let in"
    grep -q "$1" "$WORK/refused" || fail "want \"$1\": $(cat "$WORK/refused")"
    [ -z "$(ls "$WORK/none")" ] || fail "$1: it was given WAL"
}
refused 'wants TLS' "host=127.0.0.1 port=$PORT user=exporter sslmode=disable options='-c loch.timeline=$MAIN'"
refused 'certificate required\|handshake' "host=127.0.0.1 port=$PORT user=exporter sslmode=verify-full sslrootcert=$WORK/ca.crt sslcert=$WORK/no.crt options='-c loch.timeline=$MAIN'"
refused 'no such timeline' "$(conn stranger)"
refused 'want user exporter' "$(conn exporter | sed s/user=exporter/user=postgres/)"
note "without TLS, without a certificate, with another tenant's, as another user: refused"

mkdir "$OUT"
"$BIN/pg_receivewal" -D "$OUT" --slot archive -d "$(conn exporter)" >"$WORK/receive.log" 2>&1 &
receiver=$!
BACKGROUND+=($receiver)
q "INSERT INTO t SELECT g, repeat(md5(g::text), 9) FROM generate_series(180001, 220000) g"
destroy_compute main
"$LOCH" compute start main >/dev/null || fail "rebirth"
q "INSERT INTO t SELECT g, repeat(md5(g::text), 9) FROM generate_series(220001, 300000) g"
tip=$(lsn "$(q "SELECT pg_current_wal_flush_lsn()")")
last=$(printf '%08X%08X%08X' 1 0 $((tip / SIDE)))
grown() { [ -f "$OUT/$last" ] || [ -f "$OUT/$last.partial" ]; }
wait_until 120 grown || fail "the receiver is at $(ls "$OUT" | tail -1), want $last: $(cat "$WORK/receive.log")"
# The chain: every record names the one before it, from the branch's first record to the tip.
chain() {
    rm -rf "$WORK/copy"
    cp -r "$OUT" "$WORK/copy"
    for f in "$WORK/copy"/*.partial; do [ ! -f "$f" ] || mv "$f" "${f%.partial}"; done
    # Its last complaint is about the zeros behind the newest record.
    { "$BIN/pg_waldump" -p "$WORK/copy" "$(ls "$WORK/copy" | head -1)" "$(ls "$WORK/copy" | tail -1)" 2>"$WORK/dump.err" || true; } | python3 -c '
import re, sys
first, tip, seen, end = int(sys.argv[1]), int(sys.argv[2]), 0, None
num = lambda s: (int(s.split("/")[0], 16) << 32) | int(s.split("/")[1], 16)
begun = None
for line in sys.stdin:
    m = re.search(r"lsn: ([0-9A-F]+/[0-9A-F]+), prev ([0-9A-F]+/[0-9A-F]+)", line)
    lsn, prev = num(m.group(1)), num(m.group(2))
    if end is not None and prev != end:
        sys.exit(f"the record at {lsn:X} names {prev:X}, the one before it is {end:X}")
    begun = lsn if begun is None else begun
    end, seen = lsn, seen + 1
if not (first <= begun <= first + 64):
    sys.exit(f"the chain begins at {begun:X}, the branch at {first:X}")
if end + 300 < tip:
    sys.exit(f"the chain ends at {end:X}, the tip is {tip:X}")
print(seen, "records in one chain")' "$first" "$tip"
}
whole() { chain >"$WORK/chain" 2>&1; }
wait_until 90 whole || fail "$(cat "$WORK/chain") $(cat "$WORK/dump.err")"
note "$(cat "$WORK/chain"), $(ls "$OUT" | wc -l) segments, the first from the archive"
kill -INT $receiver
wait_until 20 dead $receiver || fail "pg_receivewal does not end"
# It goes on where it stopped.
"$BIN/pg_receivewal" -D "$OUT" --slot archive -d "$(conn exporter)" >>"$WORK/receive.log" 2>&1 &
BACKGROUND+=($!)
q "INSERT INTO t SELECT g, 'more' FROM generate_series(1, 100000) g"
tip=$(lsn "$(q "SELECT pg_current_wal_flush_lsn()")")
wait_until 90 whole || fail "after a restart: $(cat "$WORK/chain") $(cat "$WORK/dump.err")"
curl -sf "http://127.0.0.1:$((PORT_BASE + 21))/metrics" | grep '^loch_safekeeper_exports 1' >/dev/null || fail "metrics do not show the reader"
note "passed"
