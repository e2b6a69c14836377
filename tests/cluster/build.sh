#!/usr/bin/env bash
# Builds the pinned control plane, the upstream peer and the driver into a
# cache that every checkout shares, and prints the folder. Its name is a hash
# of what goes in, so a changed pin is a new folder.
set -euo pipefail
cd "$(dirname "$0")"

kubernetes=$(go list -m -f '{{.Version}}' k8s.io/kubernetes)
key=$(cat go.mod go.sum build.sh driver/main.go | sha256sum | cut -c1-16)
cache=${VOLWRIGHT_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/volwright}
bin=$cache/cluster-$key
if [ -e "$bin/complete" ]; then
    echo "$bin"
    exit
fi
mkdir -p "$bin"

# Two builds at once would fight over two cores; the second one waits.
exec 9>"$cache/cluster.lock"
flock 9

IFS=. read -r major minor _ <<<"${kubernetes#v}"
stamp="-s -w"
for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
    stamp+=" -X $package.gitVersion=$kubernetes -X $package.gitMajor=$major -X $package.gitMinor=$minor"
done
build() {
    [ -x "$bin/$1" ] && return
    echo "building $1 (first time only; minutes for kube-apiserver)" >&2
    CGO_ENABLED=0 go build -mod=readonly -trimpath -ldflags "$stamp" -o "$bin/$1.part" "$2"
    mv "$bin/$1.part" "$bin/$1"
}
build driver ./driver
build etcd go.etcd.io/etcd/server/v3
build kube-apiserver k8s.io/kubernetes/cmd/kube-apiserver
build kube-controller-manager k8s.io/kubernetes/cmd/kube-controller-manager
build kube-scheduler k8s.io/kubernetes/cmd/kube-scheduler
build kubectl k8s.io/kubernetes/cmd/kubectl
build upstream-provisioner github.com/kubernetes-csi/external-provisioner/v6/cmd/csi-provisioner
touch "$bin/complete"
echo "$bin"
