#!/usr/bin/env bash
# aws-kms against a double of AWS KMS that checks every signature with AWS's own signer; the official SDK drives the same
# double first. Usage: aws.sh [BUILD]
set -euo pipefail
. "$(dirname "$0")/lib.sh"
build=$(cd "${1:-$KMS_HERE/../../build}" && pwd)
port=$((${LOCH_TEST_PORT_BASE:-22000} + 90))

kms_packages "$build"
trap 'kill "${KMS_DOUBLE:-}" 2>/dev/null || true' EXIT
kms_double "$build/npm/aws_double.mjs" "$port" "$build/npm/aws_double.log"
# Nothing of this machine's own AWS configuration, and no proxy in between.
unset AWS_PROFILE AWS_SESSION_TOKEN
export NO_PROXY=127.0.0.1 no_proxy=127.0.0.1
node "$build/npm/sdk_check.mjs" "$port"
"$build/tests/contract_aws" "$port" 2>&1
