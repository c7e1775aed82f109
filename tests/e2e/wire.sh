#!/usr/bin/env bash
# The wire against strangers: TLS clients with certificates, without, and with a made-up PSK on every daemon's port; a
# server with a self-signed certificate in a safekeeper's place. Nobody gets in, nobody is believed, and one alert says it.
# Then a relay in that place that flips, replays, cuts and swaps the records of real connections.
. "$(dirname "$0")/lib.sh"

openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj /CN=loch \
    -keyout "$WORK/key.pem" -out "$WORK/cert.pem" 2>/dev/null
up
q "CREATE TABLE t AS SELECT g FROM generate_series(1, 100) g"

# client PORT WHAT OPTIONS...: must not get through the handshake.
client() {
    local port=$1 what=$2 out
    shift 2
    out=$( (sleep 0.2; echo hello) | timeout 10 openssl s_client -connect "127.0.0.1:$port" -tls1_3 -alpn loch/1 "$@" 2>&1) &&
        fail "$what on port $port: openssl is content: $(tail -3 <<<"$out")"
    grep -q 'handshake failure' <<<"$out" || fail "$what on port $port sees something else: $(grep -i alert <<<"$out" || tail -3 <<<"$out")"
}
began=$SECONDS
for port in 1 2 3 10; do
    port=$((PORT_BASE + port))
    client "$port" "no certificate"
    client "$port" "a certificate" -cert "$WORK/cert.pem" -key "$WORK/key.pem"
    client "$port" "a made-up PSK" -psk_identity somebody -psk 00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff \
        -ciphersuites TLS_AES_256_GCM_SHA384
    (echo | timeout 10 openssl s_client -connect "127.0.0.1:$port" -tls1_2 >/dev/null 2>&1) && fail "TLS 1.2 on port $port"
done
note "12 strangers see one and the same alert on four ports; TLS 1.2 is refused"
# Each daemon's audit log names them, counted: a flood makes no more than a record a minute.
refusals() { grep -c '"event":"wire_refused"' "$DIR/$1/audit.log"; }
for _ in $(seq 300); do
    (exec 3<>"/dev/tcp/127.0.0.1/$((PORT_BASE + 1))" && echo "no handshake at all" >&3) 2>/dev/null || true
done
for daemon in safekeeper-1 safekeeper-2 safekeeper-3 pageserver; do
    grep -q '"event":"wire_refused","detail":"handshake: [0-9]* since the last record of the kind, the last from 127.0.0.1:' "$DIR/$daemon/audit.log" ||
        fail "$daemon does not name the strangers: $(tail -3 "$DIR/$daemon/audit.log")"
done
[ "$(refusals safekeeper-1)" -le $((2 + (SECONDS - began) / 60)) ] || fail "a flood fills the audit log: $(refusals safekeeper-1) records"
"$LOCH" key audit verify >/dev/null || fail "audit verify"

# The man in the middle in safekeeper 3's place.
"$LOCH" compute stop main >/dev/null
pid=$(daemon_pid safekeeper-3)
kill -9 "$pid"
wait_gone "$pid"
mkfifo "$WORK/silence"
exec 9<>"$WORK/silence" # keeps its standard input open
openssl s_server -accept "127.0.0.1:$((PORT_BASE + 3))" -tls1_3 -alpn loch/1 -cert "$WORK/cert.pem" -key "$WORK/key.pem" \
    -quiet <&9 >"$WORK/heard" 2>"$WORK/rogue.err" &
rogue=$!
BACKGROUND+=("$rogue")
answers() { timeout 5 openssl s_client -connect "127.0.0.1:$((PORT_BASE + 3))" -tls1_3 </dev/null 2>/dev/null | grep 'CN = loch' >/dev/null; }
wait_until 10 answers || fail "the rogue server does not answer: $(cat "$WORK/rogue.err")"
cp "$WORK/heard" "$WORK/heard.before"
"$LOCH" compute start main >/dev/null || fail "two real safekeepers are a quorum"
q "INSERT INTO t VALUES (0)"
sleep 1 # in which it would be believed
cmp -s "$WORK/heard" "$WORK/heard.before" || fail "the rogue server heard something: $(head -c 200 "$WORK/heard" | od -c | head -5)"
refused() { grep -q "127.0.0.1:$((PORT_BASE + 3)).*TLS" "$DIR/log/compute-main.log"; }
wait_until 20 refused || fail "the agent does not say whom it refused: $(tail -3 "$DIR/log/compute-main.log")"
note "rogue safekeeper: $(grep "127.0.0.1:$((PORT_BASE + 3)).*TLS" "$DIR/log/compute-main.log" | tail -1 | cut -c26-220)"
alerted() { grep -qi 'alert' "$WORK/rogue.err"; }
wait_until 20 alerted || fail "the rogue server was not refused: $(cat "$WORK/rogue.err")"
kill "$rogue"
wait_gone "$rogue"
back() { "$LOCH" up >/dev/null 2>&1; }
wait_until 60 back || fail "safekeeper 3 does not come back"
[ "$(q 'SELECT count(*) FROM t')" = 101 ] || fail "rows"

# A relay before the real safekeeper 3: compute, pageserver and peers all come through it.
q "CREATE TABLE r (n int, pad text)"
pid=$(daemon_pid safekeeper-3)
kill -9 "$pid"
wait_gone "$pid"
echo pass >"$WORK/mode"
"$BUILD/bin/loch-safekeeper" --config "$DIR/conf/safekeeper-3.ini" --safekeeper.listen="127.0.0.1:$((PORT_BASE + 150))" \
    >"$WORK/safekeeper-3.log" 2>&1 &
BACKGROUND+=($!)
python3 "$ROOT/tests/e2e/relay.py" "127.0.0.1:$((PORT_BASE + 3))" "127.0.0.1:$((PORT_BASE + 150))" "$WORK/mode" "$WORK/harm" &
BACKGROUND+=($!)
harm() { python3 -c 'import json, sys; print(json.load(open(sys.argv[1])).get(sys.argv[2], 0))' "$WORK/harm" "$1" 2>/dev/null || echo 0; }
enough() { # MODE: harm was done often enough, while rows come in
    q "INSERT INTO r SELECT g, md5(g::text) FROM generate_series(1, 200) g"
    inserted=$((inserted + 200))
    [ "$(harm "$1")" -ge 3 ]
}
inserted=0
for mode in flip replay cut swap; do
    echo "$mode" >"$WORK/mode"
    wait_until 120 enough "$mode" || fail "$mode: harm was done only $(harm "$mode") times"
done
echo pass >"$WORK/mode"
[ "$(q 'SELECT count(*) FROM r')" = "$inserted" ] || fail "rows behind the relay"
console() { psql "host=$DIR/run port=$((PORT_BASE + $1)) dbname=loch user=loch" -X -A -t -q -c "SHOW TIMELINES" | cut -d'|' -f2-; }
wanted=$(lsn_number "$(q 'SELECT pg_current_wal_flush_lsn()')")
third_has_all() { # its durable LSN, wherever the column stands
    local lsn
    for lsn in $(console 3 | tr '|' '\n' | grep -E '^[0-9A-F]+/[0-9A-F]+$'); do
        [ "$(lsn_number "$lsn")" -lt "$wanted" ] || return 0
    done
    return 1
}
wait_until 60 third_has_all || fail "safekeeper 3 does not catch up behind an honest relay"
grep -qE 'ERROR|damaged|corrupt WAL' "$WORK/safekeeper-3.log" && fail "harm went deeper than the record: $(grep -E 'ERROR|damaged' "$WORK/safekeeper-3.log" | head -2)"
note "a relay did harm $(cat "$WORK/harm"): $inserted rows, every one right, safekeeper 3 caught up"
note "passed"
