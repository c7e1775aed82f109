#!/usr/bin/env bash
# aws-kms against a double of AWS KMS that checks every signature with AWS's own signer; the official SDK drives the same
# double first. Usage: aws.sh [BUILD]. The packages come from the npm registry, into BUILD/npm.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
build=$(cd "${1:-$here/../../build}" && pwd)
port=$((${LOCH_TEST_PORT_BASE:-22000} + 90))
npm=$build/npm

mkdir -p "$npm"
cp "$here/package.json" "$here"/*.mjs "$npm/"
if ! command -v npm >/dev/null; then
    # shellcheck source=scripts/lib/packages.sh
    . "$here/../../scripts/lib/packages.sh"
    install_packages npm
fi
if ! [ -d "$npm/node_modules/@aws-sdk/client-kms" ]; then
    (cd "$npm" && npm install --no-audit --no-fund --loglevel=error) || { echo "npm install failed: is the npm registry reachable?"; exit 1; }
fi
node "$npm/aws_double.mjs" "$port" >"$npm/aws_double.log" 2>&1 &
double=$!
trap 'kill $double 2>/dev/null || true' EXIT
for _ in $(seq 200); do grep -q ready "$npm/aws_double.log" && break; sleep 0.05; done
grep -q ready "$npm/aws_double.log" || { cat "$npm/aws_double.log"; exit 1; }

# Nothing of this machine's own AWS configuration, and no proxy in between.
env -u AWS_PROFILE -u AWS_SESSION_TOKEN NO_PROXY=127.0.0.1 no_proxy=127.0.0.1 node "$npm/sdk_check.mjs" "$port"
env -u AWS_PROFILE -u AWS_SESSION_TOKEN NO_PROXY=127.0.0.1 no_proxy=127.0.0.1 "$build/tests/contract_aws" "$port" 2>&1 | tee "$npm/contract_aws.log"
