#!/usr/bin/env bash
# Runs csi-provisioner out of cluster, beside a driver in memory, against the control
# plane of `make cluster` (or the cluster that TEST_KUBECONFIG names). Ctrl-C
# ends both. More flags for the sidecar may follow: dev.sh -v=5
set -euo pipefail
cd "$(dirname "$0")/../.."

# KUBECONFIG would win over --kubeconfig, as it does upstream; nobody's own
# cluster is to be touched from here.
unset KUBECONFIG
target=$(realpath -ms "${CARGO_TARGET_DIR:-target}")
kubeconfig=$(realpath -ms "${TEST_KUBECONFIG:-$target/cluster/kubeconfig}")
if [ ! -e "$kubeconfig" ]; then
    echo "no $kubeconfig: start 'make cluster' in another terminal first, or set TEST_KUBECONFIG" >&2
    exit 1
fi
what=small
[ "${SIDECAR:-ours}" = ours ] || what=all
bin=$(tests/cluster/build.sh $what)
# Together, as `make demo` builds them: one set of features, nothing built twice.
cargo build --locked --bin csi-provisioner --example driver
sidecar=$target/debug/csi-provisioner
[ $what = small ] || sidecar=$bin/upstream-provisioner

run=$(mktemp -d)
driver=
trap '[ -z "$driver" ] || kill "$driver" 2>/dev/null || true; wait; rm -rf "$run"' EXIT
trap 'exit 130' INT TERM
"$target/debug/examples/driver" --socket="$run/csi.sock" &
driver=$!

"$bin/kubectl" --kubeconfig "$kubeconfig" apply -f - <<'YAML'
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata:
  name: demo
provisioner: demo.csi.example.com
YAML
cat <<TEXT
A claim to try it with, from another terminal:

    $bin/kubectl --kubeconfig $kubeconfig apply -f - <<'YAML'
    {apiVersion: v1, kind: PersistentVolumeClaim, metadata: {name: try}, spec: {storageClassName: demo, accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}}
    YAML

TEXT
# In the background, because bash hears a signal only between two commands. A
# terminal sends its Ctrl-C to both of them itself.
"$sidecar" --kubeconfig="$kubeconfig" --csi-address="$run/csi.sock" "$@" &
sidecar=$!
trap : INT
trap 'kill "$sidecar"' TERM
status=0
wait "$sidecar" || status=$?
while kill -0 "$sidecar" 2>/dev/null; do
    status=0
    wait "$sidecar" || status=$?
done
exit "$status"
