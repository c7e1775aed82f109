#!/usr/bin/env bash
# vault (transit) against a double that was written from the API's documentation. Usage: vault.sh [BUILD]
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
build=$(cd "${1:-$here/../../build}" && pwd)
port=$((${LOCH_TEST_PORT_BASE:-22000} + 91))
log=$build/vault_double.log

node "$here/vault_double.mjs" "$port" >"$log" 2>&1 &
double=$!
trap 'kill $double 2>/dev/null || true' EXIT
for _ in $(seq 200); do grep -q ready "$log" && break; sleep 0.05; done
grep -q ready "$log" || { cat "$log"; exit 1; }
NO_PROXY=127.0.0.1 no_proxy=127.0.0.1 "$build/tests/contract_vault" "$port" 2>&1
