#!/usr/bin/env bash
# Builds deploy/Dockerfile and tries the image, without a container engine and without a registry: as root
# on Debian 12, in some minutes and 4 GB of disk, for which it needs Debian's packages and crates.io.
#
# The base image is one that debootstrap makes: Debian 12 with a C compiler, as Rust's official image has,
# under that image's name. The machine's own Rust toolchain is mounted into it. What buildah makes of
# the Dockerfile is then looked at and run by image_probe.py in namespaces of its own. Nothing is left
# behind, also if a step fails.
#
#   deploy/image-test.sh          IMAGE_TEST_BASE=DIR: take this root file system as the base
set -euo pipefail
cd "$(dirname "$0")/.."

[ "$(id -u)" = 0 ] || { echo "image-test: must be root, to make file systems and mount them" >&2; exit 1; }
for program in cargo rustc git; do
    command -v "$program" >/dev/null || { echo "image-test: $program is missing" >&2; exit 1; }
done

packages=()
need() { command -v "$1" >/dev/null || packages+=("$2"); }
need buildah buildah
need debootstrap debootstrap
need ip iproute2
need python3 python3
need unshare util-linux
if [ "${#packages[@]}" -gt 0 ]; then
    echo "installing ${packages[*]}"
    export DEBIAN_FRONTEND=noninteractive RUNLEVEL=1
    apt-get update -qq
    apt-get install -qq -y --no-install-recommends "${packages[@]}" >/dev/null
fi

work=$(mktemp -d /var/tmp/umbel-image-test.XXXXXX)
# All that buildah keeps is in there: images, containers, caches.
export BUILDAH_ISOLATION=chroot TMPDIR=$work/tmp
mkdir "$TMPDIR"
buildah=(buildah --storage-driver vfs --root "$work/storage" --runroot "$work/run")
long=
finish() {
    trap - EXIT INT TERM
    [ -z "$long" ] || kill -KILL "$long" 2>/dev/null || true
    wait
    rm -rf --one-file-system "$work"
}
trap finish EXIT
trap 'exit 1' INT TERM
# Runs what takes long with processes and mounts of its own, which end with it and with this script.
contained() {
    unshare --pid --fork --kill-child --mount-proc "$@" &
    long=$!
    local status=0
    wait "$long" || status=$?
    long=
    return "$status"
}
step() { echo "image-test: $* ($SECONDS s)"; }

base_name=$(sed -n 's/^ARG BUILD_IMAGE=//p' deploy/Dockerfile)
base=${IMAGE_TEST_BASE:-$work/base}
if [ -z "${IMAGE_TEST_BASE:-}" ]; then
    step "making a Debian 12"
    contained debootstrap --variant=minbase --include=ca-certificates,gcc,libc6-dev bookworm "$base" \
        http://deb.debian.org/debian >"$work/log" 2>&1 || { tail "$work/log" >&2; exit 1; }
fi
step "committing it as $base_name"
container=$("${buildah[@]}" from scratch)
"${buildah[@]}" add --quiet "$container" "$base" / >/dev/null
# Whoever this machine trusts to reach crates.io is trusted by the build too.
[ ! -e /etc/ssl/certs/ca-certificates.crt ] ||
    "${buildah[@]}" copy --quiet "$container" /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ >/dev/null
"${buildah[@]}" config --env CARGO_HOME=/usr/local/cargo \
    --env PATH=/toolchain/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$container"
"${buildah[@]}" commit --quiet --rm "$container" "$base_name" >/dev/null
[ "$base" != "$work/base" ] || rm -rf --one-file-system "$base"

version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)
revision=$(git rev-parse HEAD)
created=$(date -u +%Y-%m-%dT%H:%M:%SZ)
source=https://example.org/umbel
step "building the Dockerfile"
contained "${buildah[@]}" bud --quiet --pull-never --format docker --file deploy/Dockerfile --tag umbel:test \
    --volume "$(rustc --print sysroot):/toolchain:ro" \
    --build-arg VERSION="$version" --build-arg REVISION="$revision" \
    --build-arg CREATED="$created" --build-arg SOURCE="$source" . >"$work/log" 2>&1 ||
    { tail -n 30 "$work/log" >&2; exit 1; }
rm -rf --one-file-system "$TMPDIR"/buildah-cache*

step "looking at the image"
"${buildah[@]}" inspect --type image umbel:test >"$work/image.json"
container=$("${buildah[@]}" from --pull-never umbel:test)
root=$("${buildah[@]}" mount "$container")
# Also with a network of its own.
contained unshare --net python3 deploy/image_probe.py \
    --image "$work/image.json" --root "$root" \
    --label version="$version" --label revision="$revision" \
    --label created="$created" --label source="$source"
step "passed"
