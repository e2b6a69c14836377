#!/usr/bin/env bash
# Builds the pinned control plane, the upstream peer, csi-sanity and our small
# programs into a cache that every checkout shares, and prints the folder. With
# the argument "small" it builds only what tests against another cluster need,
# with "where" nothing.
#
# What is pinned lies in a folder named by a hash of the pins and of how they are
# built, what is ours in one named by a hash of the sources, with links to the
# pinned binaries: an edit of ours costs seconds.
set -euo pipefail
cd "$(dirname "$0")"

hash() { cat "$@" | sha256sum | cut -c1-16; }
compile() { CGO_ENABLED=0 go build -mod=readonly -trimpath -ldflags "$1" -o "$2" "$3"; }
cache=${VOLWRIGHT_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/volwright}
pins=$cache/pins-$(declare -f compile | hash go.mod go.sum -)
bin=$cache/cluster-$(hash go.mod go.sum build.sh kubelet/*.go driver/*.go up/*.go lines/*.go requirements/*.go translation/*.go)
what=${1:-all}
if [ "$what" = where ] || [ -e "$bin/$what" ]; then
    echo "$bin"
    exit
fi
mkdir -p "$pins" "$bin"

# Two builds at once would fight over two cores; the second one waits.
exec 9>"$cache/cluster.lock"
flock 9

kubernetes=$(go list -m -f '{{.Version}}' k8s.io/kubernetes)
IFS=. read -r major minor _ <<<"${kubernetes#v}"
stamp="-s -w"
for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
    stamp+=" -X $package.gitVersion=$kubernetes -X $package.gitMajor=$major -X $package.gitMinor=$minor"
done
build() {
    [ -x "$1" ] && return
    echo "building $(basename "$1") (first time only; minutes for kube-apiserver)" >&2
    compile "$stamp" "$1.part" "$2"
    mv "$1.part" "$1"
}
pinned() {
    build "$pins/$1" "$2"
    ln -sf "$pins/$1" "$bin/${1%%@*}"
}
build "$bin/driver" ./driver
build "$bin/up" ./up
# The CRDs as their own modules publish them.
published() {
    go mod download "$1"
    install -m 644 "$(go list -m -f '{{.Dir}}' "$1")"/config/crd/$2 "$bin/crds"
}
mkdir -p "$bin/crds"
published github.com/kubernetes-csi/external-snapshotter/client/v8 'snapshot.storage.k8s.io_*.yaml'
published sigs.k8s.io/gateway-api standard/gateway.networking.k8s.io_referencegrants.yaml
if [ "$what" = all ]; then
    pinned etcd go.etcd.io/etcd/server/v3
    pinned kube-apiserver k8s.io/kubernetes/cmd/kube-apiserver
    pinned kube-controller-manager k8s.io/kubernetes/cmd/kube-controller-manager
    pinned kube-scheduler k8s.io/kubernetes/cmd/kube-scheduler
    # Ours, but as big as those, so it has its own hash.
    pinned "kubelet@$(hash kubelet/*.go)" ./kubelet
    pinned upstream-provisioner github.com/kubernetes-csi/external-provisioner/v6/cmd/csi-provisioner
    pinned csi-sanity github.com/kubernetes-csi/csi-test/v5/cmd/csi-sanity
    build "$bin/requirements" ./requirements
    build "$bin/translation" ./translation
fi
pinned kubectl k8s.io/kubernetes/cmd/kubectl
touch "$bin/$what"
echo "$bin"
