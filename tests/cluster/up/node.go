package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// kubelet and the name of a node behind it name the kubelet of that node.
const kubelet = "kubelet/"

// nodes is the flag that names those whose kubelets start with the plane.
type nodes []string

func (n *nodes) String() string { return strings.Join(*n, ",") }

func (n *nodes) Set(name string) error {
	*n = append(*n, name)
	return nil
}

func (n *nodes) names() string {
	if len(*n) == 0 {
		return "no nodes"
	}
	return "nodes: " + n.String()
}

// nodeRoot is the folder of a kubelet. A short one: the path of a socket in it has
// 107 bytes at most.
func (p *plane) nodeRoot(node string) string { return filepath.Join(p.root, "n", node) }

// command is what to run for a part of the control plane or for a kubelet.
func (p *plane) command(name string) ([]string, error) {
	node, is := strings.CutPrefix(name, kubelet)
	if !is {
		arguments, err := p.arguments(name)
		return append([]string{filepath.Join(p.bin, name)}, arguments...), err
	}
	if node == "" || node != filepath.Base(node) {
		return nil, fmt.Errorf("%q is no name of a node", node)
	}
	root := p.nodeRoot(node)
	if err := os.MkdirAll(root, 0o755); err != nil {
		return nil, err
	}
	return []string{filepath.Join(p.bin, "kubelet"), "-name=" + node, "-root=" + root, "-kubeconfig=" + p.path("admin.kubeconfig"), "-v=2"}, nil
}
