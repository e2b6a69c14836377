//go:build tools

// Package cluster pins everything the real-cluster tests run beside the
// sidecar: the control plane, kubectl, the upstream provisioner as a peer, and
// csi-sanity for the driver in examples/.
//
// The peer is 6.3.0, because a library that 6.4.0 needs is not published as a
// module; the behaviour that the project aims at is that of 6.4.
//
// The CRDs of snapshots and reference grants come with the modules that the
// peer needs anyway, so go.mod pins them already; build.sh copies them. So does
// the library for the migration of in-tree plugins, which translation/ asks, and
// kubemark, of which kubelet/ is made.
package cluster

import (
	_ "github.com/kubernetes-csi/csi-test/v5/cmd/csi-sanity"
	_ "github.com/kubernetes-csi/external-provisioner/v6/cmd/csi-provisioner"
	_ "go.etcd.io/etcd/server/v3"
	_ "k8s.io/kubernetes/cmd/kube-apiserver"
	_ "k8s.io/kubernetes/cmd/kube-controller-manager"
	_ "k8s.io/kubernetes/cmd/kube-scheduler"
	_ "k8s.io/kubernetes/cmd/kubectl"
)
