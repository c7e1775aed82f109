#!/usr/bin/env bash
# vault (transit) against a double that was written from the API's documentation. Usage: vault.sh [BUILD]
set -euo pipefail
. "$(dirname "$0")/lib.sh"
build=$(cd "${1:-$KMS_HERE/../../build}" && pwd)
port=$((${LOCH_TEST_PORT_BASE:-22000} + 91))

trap 'kill "${KMS_DOUBLE:-}" 2>/dev/null || true' EXIT
kms_double "$KMS_HERE/vault_double.mjs" "$port" "$build/vault_double.log"
NO_PROXY=127.0.0.1 no_proxy=127.0.0.1 "$build/tests/contract_vault" "$port" 2>&1
