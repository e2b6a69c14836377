#!/usr/bin/env bash
# Runs the sidecar out of cluster, beside a driver in memory, against the control
# plane of `make cluster` (or the cluster that TEST_KUBECONFIG names). Ctrl-C
# ends both. More flags for the sidecar may follow: dev.sh -v=5
set -euo pipefail
cd "$(dirname "$0")/../.."

kubeconfig=${TEST_KUBECONFIG:-target/cluster/kubeconfig}
if [ ! -e "$kubeconfig" ]; then
    echo "no $kubeconfig: start 'make cluster' in another terminal first, or set TEST_KUBECONFIG" >&2
    exit 1
fi
bin=$(tests/cluster/build.sh small)
cargo build --bin csi-provisioner
sidecar=${CARGO_TARGET_DIR:-target}/debug/csi-provisioner
[ "${SIDECAR:-ours}" = ours ] || sidecar=$bin/upstream-provisioner

run=$(mktemp -d)
"$bin/driver" -name demo.csi.example.com -socket "$run/csi.sock" -calls "$run/calls" &
driver=$!
trap 'kill "$driver" 2>/dev/null; rm -rf "$run"' EXIT
trap 'exit 130' INT TERM

"$bin/kubectl" --kubeconfig "$kubeconfig" apply -f - <<'YAML'
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata:
  name: demo
provisioner: demo.csi.example.com
YAML
cat <<TEXT
A claim to try it with, from another terminal:

    $bin/kubectl --kubeconfig $PWD/$kubeconfig apply -f - <<'YAML'
    {apiVersion: v1, kind: PersistentVolumeClaim, metadata: {name: try}, spec: {storageClassName: demo, accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}}
    YAML

What the driver is asked goes to $run/calls.

TEXT
env -u KUBECONFIG "$sidecar" --kubeconfig "$kubeconfig" --csi-address "$run/csi.sock" "$@"
