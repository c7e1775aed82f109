#!/usr/bin/env bash
# Garbage on every port, a second daemon on the same directory, a wrong key, a flipped byte in stored files, somebody
# else's directory: a clear refusal, nothing overwritten, and the cluster serves on.
. "$(dirname "$0")/lib.sh"

# A directory with something else in it is not taken, nor one whose path cannot be written down.
mkdir "$WORK/project" && echo mine >"$WORK/project/README"
said=$(cd "$WORK/project" && "$LOCH" up --dir . --port-base "$PORT_BASE" 2>&1) && fail "a cluster in somebody's directory"
grep -q "$WORK/project is not empty (README)" <<<"$said" || fail "the refusal: $said"
[ "$(ls -A "$WORK/project")" = README ] || fail "a refused up left something: $(ls -A "$WORK/project")"
for path in "a,b" "a ;b"; do
    said=$("$LOCH" up --dir "$WORK/$path" --port-base "$PORT_BASE" 2>&1) && fail "a cluster in '$path'"
    grep -q "choose a --dir without" <<<"$said" || fail "the refusal of '$path': $said"
done

(umask 077 && up) # PostgreSQL's user passes all the same
q "CREATE TABLE t AS SELECT g FROM generate_series(1, 1000) g"
for port in 1 2 3 10 21 22 23 30; do
    for kind in random tls zeros; do
        case $kind in
        random) head -c 5000 /dev/urandom ;;
        tls) printf '\026\003\001\002\000\001\000\001\374\003\003'; head -c 600 /dev/urandom ;;
        zeros) head -c 5000 /dev/zero ;;
        esac | timeout 2 bash -c "cat >/dev/tcp/127.0.0.1/$((PORT_BASE + port))" 2>/dev/null || true
    done
done
python3 - "$DIR/run" "$PORT_BASE" <<'PY'
import os, socket, sys
for port in (1, 2, 3, 10):
    for junk in (os.urandom(3000), b"\0\0\0\x08\x04\xd2\x16\x2f", b"\xff" * 100, b"\0\0\0\0", b"\x7f\xff\xff\xff" + b"x" * 100):
        s = socket.socket(socket.AF_UNIX)
        s.connect(f"{sys.argv[1]}/.s.PGSQL.{int(sys.argv[2]) + port}")
        s.settimeout(0.5)
        try:
            s.sendall(junk)
            s.recv(100)
        except OSError:
            pass
        s.close()
PY
q "INSERT INTO t VALUES (0)"
[ "$(q 'SELECT count(*) FROM t')" = 1001 ] || fail "rows"
"$LOCH" status | grep -E 'safekeeper|pageserver' | sees -v ' up ' && fail "a daemon did not survive garbage: $("$LOCH" status)"
note "garbage on every port: served on"

said=$("$BUILD/bin/loch-pageserver" --config "$DIR/conf/pageserver.ini" 2>&1) && fail "a second pageserver started"
note "second pageserver: $(tail -1 <<<"$said")"
said=$("$BUILD/bin/loch-safekeeper" --config "$DIR/conf/safekeeper-1.ini" 2>&1) && fail "a second safekeeper started"
note "second safekeeper: $(tail -1 <<<"$said")"

# Results that could not be written are no success.
for words in "status --json" "compute list" --help; do
    # shellcheck disable=SC2086
    said=$("$LOCH" $words 2>&1 >/dev/full) && fail "loch $words on a full disk succeeds"
    grep -q "the output could not be written: No space left" <<<"$said" || fail "loch $words on a full disk says: $said"
done

# A wrong key: the daemon says so, touches nothing, and the right key brings it all back.
"$LOCH" compute stop main
"$LOCH" down
# But for what says who ran when (the node files, their witnesses), and the audit log, which has a line more for every refusal.
sums() { find "$DIR/store" "$DIR/pageserver" "$DIR/safekeeper-1" -type f ! -name 'daemon.*' ! -name witness ! -name 'audit.log' -exec sha256sum {} + | sort; }
sums >"$WORK/before"
cp "$DIR/cmk.key" "$WORK/right.key"
head -c 32 /dev/urandom >"$DIR/cmk.key"
"$LOCH" up >"$WORK/wrong" 2>&1 && [ "$("$LOCH" compute list --json | grep -c running)" -gt 0 ] && fail "it runs with a wrong key"
note "wrong key: $(tail -1 "$WORK/wrong" | cut -c1-200)"
"$LOCH" down --immediate >/dev/null 2>&1 || true
sums >"$WORK/after"
diff "$WORK/before" "$WORK/after" || fail "something was overwritten under a wrong key"
cp "$WORK/right.key" "$DIR/cmk.key"
"$LOCH" compute start main >/dev/null 2>&1 || true
"$LOCH" up >/dev/null || fail "up with the right key"
"$LOCH" compute start main >/dev/null || fail "compute with the right key"
[ "$(q 'SELECT count(*) FROM t')" = 1001 ] || fail "rows after the wrong key"

# A control file from the future, then a timeline's directory copied from another node: refused with a reason, nothing
# changed on disk, the others serve. With its own files the safekeeper is back.
"$LOCH" compute stop main
"$LOCH" down
mine=$(dirname "$(find "$DIR/safekeeper-1" -name 'control' -type f | head -1)")
other=$(dirname "$(find "$DIR/safekeeper-2" -name 'control' -type f | head -1)")
cp -a "$mine" "$WORK/mine"
own() { rm -rf "$mine" && cp -a "$WORK/mine" "$mine"; }
refused() { # NAME REASON: the safekeeper with these files
    local before after
    before=$(cd "$mine" && sha256sum ./*)
    "$LOCH" up >/dev/null 2>&1 || true
    said() { tail -n +"$lines" "$DIR/log/safekeeper-1.log" | sees "$2"; }
    wait_until 20 said "$@" || fail "$1 is not refused: $(tail -n 3 "$DIR/log/safekeeper-1.log")"
    "$LOCH" compute start main >/dev/null || fail "$1: two good safekeepers are a quorum"
    [ "$(q 'SELECT count(*) FROM t')" = 1001 ] || fail "$1: rows"
    after=$(cd "$mine" && sha256sum ./*)
    [ "$before" = "$after" ] || fail "$1: something was changed on disk"
    note "$1: $(tail -n +"$lines" "$DIR/log/safekeeper-1.log" | grep -o "$2.*" | head -1 | cut -c1-120)"
    "$LOCH" compute stop main
    "$LOCH" down
}
python3 - "$mine/control" <<'PY'
import sys
with open(sys.argv[1], "r+b") as f:
    f.seek(10)  # the least reader's version
    f.write(b"\xff\x00")
PY
lines=$(($(wc -l <"$DIR/log/safekeeper-1.log") + 1))
refused "a control file from the future" "wants a reader of"
own
rm -rf "$mine" && cp -a "$other" "$mine"
lines=$(($(wc -l <"$DIR/log/safekeeper-1.log") + 1))
refused "a directory copied from another node" "belongs to another name or node"
own
"$LOCH" up >/dev/null 2>&1 || true
"$LOCH" compute start main >/dev/null || fail "compute start after the refusals"

# A flipped byte in a safekeeper's control file: that safekeeper says which file; the others serve.
"$LOCH" compute stop main
"$LOCH" down
control=$(find "$DIR/safekeeper-1" -name 'control*' -type f | head -1)
[ -n "$control" ] || fail "no control file"
python3 - "$control" <<'PY'
import sys
with open(sys.argv[1], "r+b") as f:
    data = bytearray(f.read())
    data[len(data) // 2] ^= 1
    f.seek(0)
    f.write(data)
PY
"$LOCH" up >/dev/null 2>&1 || true
"$LOCH" compute start main >/dev/null || fail "two good safekeepers are a quorum"
[ "$(q 'SELECT count(*) FROM t')" = 1001 ] || fail "rows with one bad safekeeper"
grep -rq "control" "$DIR/log/safekeeper-1.log" || fail "safekeeper 1 does not name the file"
note "flipped control byte: $(grep control "$DIR/log/safekeeper-1.log" | tail -1 | cut -c1-200)"

# The scratch's place made by somebody else: not used.
"$LOCH" down >/dev/null
place=$(scratch)
[ -n "$place" ] && [ ! -e "$place" ] || fail "down left the scratch: $place"
mkdir -m 0777 "$place"
said=$("$LOCH" up 2>&1) && fail "a scratch that others may write is used"
grep -q "is there already, and is not a directory of ours" <<<"$said" || fail "the refusal: $said"
rmdir "$place"
mkdir -m 0700 "$place" "$place/lib" "$place/pageserver" # ours, as an up under another umask left it
"$LOCH" up >/dev/null 2>&1 || true
[ "$(q 'SELECT count(*) FROM t')" = 1001 ] || fail "rows with a scratch of our own"

# Five commands at once start one compute.
"$LOCH" compute stop main >/dev/null
starters=()
for i in 1 2 3 4 5; do
    "$LOCH" compute start main >"$WORK/start.$i" 2>&1 &
    starters+=($!)
done
for s in "${starters[@]}"; do wait "$s" || fail "one of five starts: $(cat "$WORK"/start.*)"; done
agents=$(pgrep -f -c "loch-compute --config $DIR/conf/compute-main.ini" || true)
[ "$agents" = 1 ] || fail "five commands at once started $agents agents"
[ "$(q 'SELECT count(*) FROM t')" = 1001 ] || fail "rows after five starts"

# Six computes at once have a port each. One that is stopped takes another, if it is nobody's.
starters=()
for i in 1 2 3 4 5 6; do "$LOCH" branch create "b$i" >/dev/null || fail "branch create"; done
for i in 1 2 3 4 5 6; do
    "$LOCH" compute start "c$i" --branch "b$i" >"$WORK/start.$i" 2>&1 &
    starters+=($!)
done
for s in "${starters[@]}"; do wait "$s" || fail "one of six computes: $(cat "$WORK"/start.*)"; done
ports=$("$LOCH" compute list --json | grep -o '"port": [0-9]*' | sort -u | wc -l)
[ "$ports" = 7 ] || fail "seven computes have $ports ports"
moved() { "$LOCH" compute start c1 --port "$1" >/dev/null 2>"$WORK/err"; }
moved $((PORT_BASE + 77)) && fail "another port for a compute that runs"
grep -q "stop it first" "$WORK/err" || fail "another port: $(cat "$WORK/err")"
for i in 1 2 3 4 5 6; do "$LOCH" compute stop "c$i" >/dev/null 2>&1 || fail "compute stop"; done
moved $((PORT_BASE + 40)) && fail "another compute's port"
grep -q "is another compute's" "$WORK/err" || fail "another compute's port: $(cat "$WORK/err")"
moved $((PORT_BASE + 77)) || fail "another port: $(cat "$WORK/err")"
[ "$(field c1 port)" = $((PORT_BASE + 77)) ] && [ "$(q 'SELECT count(*) FROM t' c1)" = 1001 ] || fail "rows at another port"
"$LOCH" compute stop c1 >/dev/null 2>&1
# One that does not listen on 127.0.0.1 is reached where it does.
"$LOCH" compute start far --branch b1 --listen 127.0.0.2 >/dev/null 2>"$WORK/err" || fail "a compute that listens elsewhere: $(cat "$WORK/err")"
[ "$(q 'SELECT count(*) FROM t' far)" = 1001 ] || fail "rows at another address"
"$LOCH" compute stop far >/dev/null 2>&1

# Forty credentials of one branch at once: each is issued, each with an epoch of its own.
askers=()
for i in $(seq 40); do
    psql "host=$DIR/run port=$((PORT_BASE + 10)) dbname=loch" -X -A -t -q -c "ISSUE CREDENTIAL main main $(printf '%032x' "$i")" >"$WORK/credential.$i" 2>&1 &
    askers+=($!)
done
for a in "${askers[@]}"; do wait "$a" || fail "one of forty credentials: $(grep -h -v compute_epoch "$WORK"/credential.*)"; done
epochs=$(grep -ho '"compute_epoch":[0-9]*' "$WORK"/credential.* | sort -u | wc -l)
rm -f "$WORK"/credential.*
[ "$epochs" = 40 ] || fail "forty credentials have $epochs epochs"
destroy_compute main
"$LOCH" compute start main >/dev/null || fail "compute start after forty credentials"
[ "$(q 'SELECT count(*) FROM t')" = 1001 ] || fail "rows after forty credentials"

# A wipe takes what the cluster made, and names the rest.
echo mine >"$DIR/README"
place=$(scratch)
said=$(cd "$DIR" && "$LOCH" down --wipe --dir . 2>&1) || fail "down --wipe: $said"
grep -q "left in $DIR, .*: README$" <<<"$said" || fail "down --wipe says: $said"
[ "$(ls -A "$DIR")" = README ] && [ ! -e "$place" ] || fail "after a wipe: $(ls -A "$DIR" "$place")"
note "passed"
