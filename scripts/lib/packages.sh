# Sourced by scripts/quickstart and scripts/test: what Loch needs from the distribution, and how to get it.
# Says what it does, waits for another package run, and fails with cause and cure.

LOCH_PACKAGES_BUILD="gcc cmake ninja-build pkg-config libc6-dev postgresql-15 postgresql-client-15 \
postgresql-server-dev-15 libpq-dev liburing-dev libuv1-dev libzstd-dev liblz4-dev libssl-dev libxxhash-dev \
libisal-dev uthash-dev libbsd-dev libinih-dev libseccomp-dev libmicrohttpd-dev libjansson-dev libp11-kit-dev libcurl4-openssl-dev libcmocka-dev"
# What the programs want, where they are not built (docker/Dockerfile).
LOCH_PACKAGES_RUN="postgresql-15 postgresql-client-15 liburing2 libuv1 libzstd1 liblz4-1 libssl3 libxxhash0 libisal2 \
libbsd0 libinih1 libseccomp2 libmicrohttpd12 libjansson4 libp11-kit0 libcurl4 libpq5 ca-certificates"
LOCH_PACKAGES_TEST="clang-14 clang-tidy-14 clang-format-14 libclang-rt-14-dev codespell strace python3 \
postgresql-contrib softhsm2 nodejs e2fsprogs tcpdump procps openssl curl"

say() { printf '== %s\n' "$*" >&2; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }

# Prints the packages among "$@" that are not installed (or whose installed version is another than the
# server's headers want: the extension is built for one minor release).
missing_packages() {
    local p
    for p in "$@"; do
        dpkg-query -W -f='${Status}' "$p" 2>/dev/null | grep -q '^install ok installed' || echo "$p"
    done
    if dpkg-query -W postgresql-15 postgresql-server-dev-15 >/dev/null 2>&1; then
        local server dev
        server=$(dpkg-query -W -f='${Version}' postgresql-15)
        dev=$(dpkg-query -W -f='${Version}' postgresql-server-dev-15)
        [ "$server" = "$dev" ] || printf '%s\n' postgresql-15 postgresql-server-dev-15
    fi
}

# install_packages NAME...: installs what is missing, or says what is.
install_packages() {
    local missing as_root=""
    [ -r /etc/debian_version ] || die "this is not Debian: install by hand: $*"
    missing=$(missing_packages "$@" | sort -u | tr '\n' ' ')
    [ -n "${missing// /}" ] || return 0
    if [ "$(id -u)" -ne 0 ]; then
        command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null ||
            die "packages are missing and you are neither root nor able to sudo. Ask for: apt-get install $missing"
        as_root="sudo -n"
    fi
    # A first PostgreSQL would otherwise start a cluster of its own on port 5432.
    if ! dpkg-query -W postgresql-15 >/dev/null 2>&1; then
        $as_root mkdir -p /etc/postgresql-common/createcluster.d
        printf 'create_main_cluster = false\n' |
            $as_root tee /etc/postgresql-common/createcluster.d/loch.conf >/dev/null
    fi
    say "installing: $missing"
    export DEBIAN_FRONTEND=noninteractive
    # shellcheck disable=SC2086
    {
        $as_root apt-get -o DPkg::Lock::Timeout=120 -qq update >/dev/null ||
            die "apt-get update failed: is the package mirror reachable, or is another package run holding the lock for more than two minutes?"
        $as_root env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=120 -o Dpkg::Use-Pty=0 \
            -qq install -y --no-install-recommends $missing >/dev/null ||
            die "apt-get install failed; see above. Needed: $missing"
    }
}

# build_tree DIR [cmake arguments]: configures once and builds.
build_tree() {
    local dir=$1
    shift
    if [ ! -f "$dir/build.ninja" ]; then
        say "configuring $dir"
        cmake -G Ninja -B "$dir" -S "$ROOT" "$@" >"$dir.log" 2>&1 || { cat "$dir.log" >&2; die "cmake failed"; }
        mv "$dir.log" "$dir/configure.log"
    fi
    say "building $dir"
    ninja -C "$dir" >"$dir/build.log" 2>&1 || { grep -E 'error|FAILED' "$dir/build.log" | head -40 >&2; die "the build failed; all of it: $dir/build.log"; }
}
