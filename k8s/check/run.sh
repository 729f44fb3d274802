#!/usr/bin/env bash
# Gets what the checks of the manifests need, into target/manifests, and runs them: Python packages of fixed versions,
# a kubectl whose kustomize is new enough (5.0 and later) where the machine has none, and with `custom`,
# `server` or `rollout` the definitions of custom resources, for which it takes Go.
set -euo pipefail
cd "$(dirname "$0")/../.."
here=$PWD/target/manifests
mkdir -p "$here"

get_python() {
    local wanted=$PWD/k8s/check/requirements.txt have=$here/python/requirements.txt
    cmp -s "$wanted" "$have" && return
    rm -rf "$here/python"
    /usr/bin/python3 -m venv "$here/python"
    "$here/python/bin/pip" install --quiet --disable-pip-version-check --requirement "$wanted"
    cp "$wanted" "$have"
}

# is_new PROGRAM: whether it is a kubectl with a kustomize of version 5 or later.
is_new() {
    local version
    version=$("$1" version --client 2>/dev/null | sed -n 's/^Kustomize Version: v//p') || return 1
    [ "${version%%.*}" -ge 5 ] 2>/dev/null
}

# Debian trixie's package, from the mirror that the machine uses, checked by apt as ever; unpacked and not installed.
get_kubectl() {
    local mirror
    if is_new kubectl; then kubectl=$(command -v kubectl); return; fi
    kubectl=$here/kubectl/usr/bin/kubectl
    if is_new "$kubectl"; then return; fi
    echo "taking kubectl from Debian trixie" >&2
    rm -rf "$here/apt" && mkdir -p "$here"/apt/{lists,archives}/partial
    mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep -m1 '/debian/$')
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror trixie main" >"$here/apt/sources.list"
    # As if nothing was installed, and with lists of its own: the machine's are left alone.
    local apt=(apt-get -qq -o "Dir::Etc::sourcelist=$here/apt/sources.list" -o Dir::Etc::sourceparts=-
        -o "Dir::State::lists=$here/apt/lists" -o Dir::State::status=/dev/null
        -o "Dir::Cache::archives=$here/apt/archives" -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache=
        -o Acquire::Languages=none -o Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false
        -o APT::Sandbox::User=root)
    "${apt[@]}" update
    (cd "$here/apt" && "${apt[@]}" download kubectl && dpkg-deb --extract kubectl_*.deb "$here/kubectl")
    rm -rf "$here/apt"
    is_new "$kubectl" || { echo "run: $kubectl isn't new enough" >&2; exit 1; }
}

# get_module NAME VERSION SUM FOLDER: copies what a Go module has in a folder, if it is the module that it was.
get_module() {
    local answer sum folder
    answer=$(cd / && go mod download -json "$1@$2")
    sum=$(sed -n 's/^\t"Sum": "\(.*\)",$/\1/p' <<<"$answer")
    folder=$(sed -n 's/^\t"Dir": "\(.*\)",$/\1/p' <<<"$answer")
    [ "$sum" = "$3" ] || { echo "run: $1 $2 is another: $sum" >&2; exit 1; }
    mkdir -p "$here/custom.new/${1##*/}" && cp "$folder/$4"/*.yaml "$here/custom.new/${1##*/}/"
}

get_custom() {
    command -v go >/dev/null || { echo "run: the definitions of custom resources come as Go modules: install Go" >&2; exit 1; }
    rm -rf "$here/custom.new"
    get_module github.com/prometheus-operator/prometheus-operator v0.85.0 \
        h1:M5xLCLEoaW2IJfnuCwFzzpL+jSVQu3KGT84Pye+fW8s= example/prometheus-operator-crd
    get_module github.com/kedacore/keda/v2 v2.21.0 h1:R6z2HZvstK4RLUMxroNACzBj74xGxt3kG59b5Xc+Xps= config/crd/bases
    get_module sigs.k8s.io/gateway-api v1.6.3 h1:lKpJa5bGlraC/QeACvCpsHLdmO6y0iKfzVl6gzaFEYc= config/crd/standard
    chmod -R u+w "$here/custom.new"
    rm -rf "$here/custom" && mv "$here/custom.new" "$here/custom"
}

get_python
get_kubectl
export KUBECTL=$kubectl PYTHONDONTWRITEBYTECODE=1
python=$here/python/bin/python
case "${1-}" in
    server | rollout)
        get_custom
        exec "$python" "k8s/check/$1.py" "$here/custom"
        ;;
    custom)
        get_custom
        set -- --custom "$here/custom"
        ;;
esac
"$python" k8s/check/sizing.py --check
"$python" k8s/check/validate.py "$@"
