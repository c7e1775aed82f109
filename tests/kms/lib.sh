# Sourced by the tests of network key services: the doubles that they talk to.
KMS_HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

# kms_packages BUILD: AWS's signer and SDK out of the npm registry, into BUILD/npm.
kms_packages() {
    local npm=$1/npm
    mkdir -p "$npm"
    cp "$KMS_HERE/package.json" "$KMS_HERE"/*.mjs "$npm/"
    if ! command -v npm >/dev/null; then
        # shellcheck source=scripts/lib/packages.sh
        . "$KMS_HERE/../../scripts/lib/packages.sh"
        install_packages npm
    fi
    if ! [ -d "$npm/node_modules/@aws-sdk/client-kms" ]; then
        (cd "$npm" && npm install --no-audit --no-fund --loglevel=error) ||
            { echo "npm install failed: is the npm registry reachable?"; return 1; }
    fi
}

# kms_double FILE PORT LOG: starts it and waits; its pid in KMS_DOUBLE.
kms_double() {
    : >"$3" # what stands there is of another one
    node "$1" "$2" >>"$3" 2>&1 &
    KMS_DOUBLE=$!
    for _ in $(seq 1200); do
        grep -q ready "$3" && return 0
        kill -0 "$KMS_DOUBLE" 2>/dev/null || break
        sleep 0.05
    done
    cat "$3"
    return 1
}
