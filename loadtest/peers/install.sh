#!/usr/bin/env bash
# Installs the systems that package registries give, in exact versions, for compare.py and check.py.
#
#   loadtest/peers/install.sh                     Debian's nginx with Nchan, nats-server and redis-server; ws and Socket.IO of npm
#   loadtest/peers/install.sh nchan node          some of them: nchan nats redis node
#   loadtest/peers/install.sh --build             also what is built from source: nats centrifugo (Go), sockudo (Rust)
#   loadtest/peers/install.sh --build centrifugo  one of those; each build may take BUILD_SECONDS (3600)
#
# What isn't Debian's goes to PEERS_DIR (target/peers). Debian's packages need root, and start their services where
# systemd runs: compare.py starts its own, on ports of its own.
set -euo pipefail
cd "$(dirname "$0")/../.."

here=$PWD/loadtest/peers
peers=${PEERS_DIR:-$PWD/target/peers}
limit=${BUILD_SECONDS:-3600}

# The versions. Debian's are those of its release; npm's are in node/package-lock.json.
nats=v2.15.3
centrifugo=6.9.1
sockudo=5.2.0

debian() {
    apt-get install -y --no-install-recommends "$@"
}

node_modules() {
    # Scripts of packages aren't needed, so they aren't run.
    mkdir -p "$peers/node" &&
        cp "$here/node/package.json" "$here/node/package-lock.json" "$peers/node/" &&
        (cd "$peers/node" && npm ci --ignore-scripts --no-audit --no-fund)
}

# Go: builds MODULE@VERSION into the directory NAME of the peers.
go_build() {
    local name=$1 module=$2
    shift 2
    mkdir -p "$peers/$name" &&
        GOBIN=$peers/$name CGO_ENABLED=0 timeout "$limit" nice -n 10 go install "$@" "$module"
}

build_nats() {
    go_build nats "github.com/nats-io/nats-server/v2@$nats"
}

build_centrifugo() {
    local module=github.com/centrifugal/centrifugo/v6
    go_build centrifugo "$module@v$centrifugo" -ldflags "-X $module/internal/build.Version=$centrifugo"
}

build_sockudo() {
    # One of its dependencies compiles Protocol Buffers.
    debian protobuf-compiler libprotobuf-dev &&
        CARGO_TARGET_DIR=$peers/sockudo/target timeout "$limit" nice -n 10 cargo install sockudo \
            --version "$sockudo" --locked --no-default-features --features local,redis --root "$peers/sockudo" &&
        rm -rf "$peers/sockudo/target"
}

install_one() {
    case $1 in
    nchan) debian nginx libnginx-mod-nchan ;;
    nats) debian nats-server ;;
    redis) debian redis-server ;;
    node) node_modules ;;
    *) echo "unknown: $1; there are nchan nats redis node, and with --build nats centrifugo sockudo" >&2 && exit 2 ;;
    esac
}

build_one() {
    case $1 in
    nats | centrifugo | sockudo) "build_$1" ;;
    *) install_one "$1" ;;
    esac
}

how=install_one
if [[ ${1:-} == --build ]]; then
    how=build_one
    shift
fi
names=("$@")
if [[ ${#names[@]} == 0 ]]; then
    names=(redis nchan nats node)
    [[ $how == build_one ]] && names+=(centrifugo sockudo)
fi

# A failure of one leaves the others: functions called here go on after an error, so their commands are chained.
failed=()
for name in "${names[@]}"; do
    echo "== $name"
    "$how" "$name" || failed+=("$name")
done
"$here/run.py" --list
if [[ ${#failed[@]} -gt 0 ]]; then
    echo "failed: ${failed[*]}" >&2
    exit 1
fi
