#!/usr/bin/env bash
# A compute of a tenant whose CMK is customer-held (SoftHSM2) does not start on a disk in the clear; on ext4 that can
# encrypt it sets up its own key: marked rows, sorts that spill and the server log leave no mark in the raw image. A tenant
# whose CMK is a file is only warned about. Needs root and a loop device for its second half.
. "$(dirname "$0")/lib.sh"

MARK=nrAwKq8ZLx5sCVhUYtF2 # would not be there by chance
compute_note() { printf '%s/computes/%s.json' "$DIR" "$1"; }
# put_scratch COMPUTE DIR
put_scratch() {
    python3 - "$(compute_note "$1")" "$2" <<'PY'
import json, sys
note = json.load(open(sys.argv[1]))
note["scratch"] = sys.argv[2]
json.dump(note, open(sys.argv[1], "w"))
PY
    mkdir -p "$2" && chmod 0711 "$2"
}
workload() {
    q "CREATE TABLE m AS SELECT g, '$MARK' || md5(g::text) AS t FROM generate_series(1, 60000) g" "$1"
    q "SET work_mem = '64kB'; SET temp_buffers = '800kB';
       CREATE TEMP TABLE tt AS SELECT * FROM m; SELECT count(*) FROM (SELECT t FROM m ORDER BY md5(t) OFFSET 1) s" "$1" >/dev/null
    q "SELECT nosuch('$MARK')" "$1" 2>/dev/null || true
    q "CHECKPOINT" "$1"
}

mkdir "$WORK/tokens"
printf 'directories.tokendir = %s/tokens\nlog.level = ERROR\n' "$WORK" >"$WORK/softhsm2.conf"
export SOFTHSM2_CONF=$WORK/softhsm2.conf
owner() { "$BUILD/bin/p11_admin" /usr/lib/softhsm/libsofthsm2.so loch 4711 "$@" || fail "p11_admin $*"; }
owner init
owner generate cmk
printf '4711\n' >"$WORK/pin" && chmod 600 "$WORK/pin"
HSM="pkcs11:token=loch;object=cmk?module-path=/usr/lib/softhsm/libsofthsm2.so&pin-source=file:$WORK/pin"

up
"$LOCH" tenant create hsm --kms-uri "$HSM" >/dev/null || fail "tenant create"
"$LOCH" compute start hsm --tenant hsm >/dev/null || fail "a compute on tmpfs"
grep -q 'scratch .*: tmpfs' "$DIR/log/compute-hsm.log" || fail "tmpfs is not called so"
for pid in $(compute_pids hsm); do
    grep -qs '^Max core file size *0 *0 ' "/proc/$pid/limits" || dead "$pid" || fail "process $pid may dump core"
done
"$LOCH" compute stop hsm >/dev/null

# A disk in the clear: refused with the cause, or warned about for a file's CMK.
if [ "$(stat -f -c %T "$WORK")" != tmpfs ]; then
    put_scratch hsm "$WORK/plain"
    said=$("$LOCH" compute start hsm 2>&1) && fail "a customer-held tenant's compute started on a plain disk"
    grep -q 'neither tmpfs nor encrypted' <<<"$said" || fail "the refusal says: $said"
    [ -z "$(find "$WORK/plain" -name 'boot-*')" ] || fail "a refused compute left files"
    note "refused: $(grep -o 'the scratch .*' <<<"$said" | head -1 | cut -c1-150)"
    "$LOCH" compute stop hsm >/dev/null
    "$LOCH" compute stop main >/dev/null
    put_scratch main "$WORK/warned"
    "$LOCH" compute start main >/dev/null || fail "a file's CMK: warned only"
    grep -q 'WARN.*not customer-held' "$DIR/log/compute-main.log" || fail "no warning"
    "$LOCH" compute stop main >/dev/null
fi

# ext4 that encrypts, on a loop device: the image is searched for marks after a workload, and after a kill.
MNT=$WORK/mnt
mkdir "$MNT"
truncate -s 700M "$WORK/image"
if ! mkfs.ext4 -q -O encrypt "$WORK/image" 2>/dev/null || ! mount -o loop "$WORK/image" "$MNT" 2>/dev/null; then
    note "no loop device or no ext4 here: fscrypt was not tested"
    exit 0
fi
unmount() { for _ in $(seq 100); do umount "$MNT" 2>/dev/null && return 0; sleep 0.1; done; umount -l "$MNT" || true; }
trap 'code=$?; set +e; "$LOCH" down --immediate >/dev/null 2>&1 || true; unmount; (exit $code); cleanup' EXIT
chmod 0711 "$MNT"
marks() { sync -f "$MNT"; { grep -c -a -o "$MARK" "$WORK/image" || true; } | head -1; }

put_scratch hsm "$MNT/hsm"
"$LOCH" compute start hsm >/dev/null || fail "a compute on ext4 that encrypts"
grep -q 'encrypted by a key of this start' "$DIR/log/compute-hsm.log" || fail "fscrypt was not set up"
workload hsm
rows=$(q "SELECT count(*) FROM m" hsm)
[ "$rows" = 60000 ] || fail "rows: $rows"
files=$(find "$MNT/hsm/sealed" -type f | wc -l)
[ "$files" -gt 100 ] || fail "only $files files below the sealed directory"
[ "$(marks)" = 0 ] || fail "marks in the raw image while the compute runs"
printf '%s\n' "$MARK planted" >"$MNT/planted"
[ "$(marks)" -gt 0 ] || fail "the planted control is not found: the search is blind"
rm "$MNT/planted"
note "fscrypt: $files files, $rows marked rows, no mark in the raw image; the planted control is found"

# Killed: its key is removed by the next start, its files are noise until then.
old=$(cat "$MNT/hsm/fscrypt.id")
destroy_compute hsm
"$LOCH" compute start hsm >/dev/null || fail "a start after a kill"
[ "$old" != "$(cat "$MNT/hsm/fscrypt.id")" ] || fail "a key was used twice"
[ "$(q 'SELECT count(*) FROM m' hsm)" = 60000 ] || fail "rows after a kill"
"$LOCH" compute stop hsm >/dev/null
[ ! -e "$MNT/hsm/sealed" ] && [ ! -e "$MNT/hsm/fscrypt.id" ] || fail "a clean stop left its files or key"
note "a new key for every start; nothing left after a stop"
