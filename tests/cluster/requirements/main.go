// Command requirements answers what the pinned upstream provisioner would put
// into CreateVolume as accessibility requirements: it calls upstream's own
// GenerateAccessibilityRequirements.
//
// It reads one JSON object a line from standard input and answers each with one
// line, in order, until the input ends. A case:
//
//	{
//	  "driver": "csi.example.com",
//	  "claim": "data-0",                      name of the claim
//	  "nodes": {"n1": {"zone": "a"}},         labels of each Node
//	  "csinodes": {"n1": {"csi.example.com": ["zone"]}},
//	                                          topology keys of each driver of each CSINode
//	  "allowedTopologies": [{"matchLabelExpressions": [{"key": "zone", "values": ["a"]}]}],
//	                                          as in a StorageClass
//	  "selectedNode": "n1",                   "" without one
//	  "strict": false,                        --strict-topology
//	  "immediate": true                       --immediate-topology
//	}
//
// Its answer; both lists are null when no requirement is sent, and "error" is
// there when the claim is not provisioned:
//
//	{"requisite": [{"zone": "a"}], "preferred": [{"zone": "a"}]}
package main

import (
	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/kubernetes-csi/external-provisioner/v6/pkg/controller"
	v1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	corelisters "k8s.io/client-go/listers/core/v1"
	storagelisters "k8s.io/client-go/listers/storage/v1"
	"k8s.io/client-go/tools/cache"

	"volwright.dev/tests/cluster/lines"
)

type question struct {
	Driver            string                         `json:"driver"`
	Claim             string                         `json:"claim"`
	Nodes             map[string]map[string]string   `json:"nodes"`
	CSINodes          map[string]map[string][]string `json:"csinodes"`
	AllowedTopologies []v1.TopologySelectorTerm      `json:"allowedTopologies"`
	SelectedNode      string                         `json:"selectedNode"`
	Strict            bool                           `json:"strict"`
	Immediate         bool                           `json:"immediate"`
}

type answer struct {
	Requisite []map[string]string `json:"requisite"`
	Preferred []map[string]string `json:"preferred"`
	Error     string              `json:"error,omitempty"`
}

func main() {
	lines.Answer("requirements", (*question).answer)
}

func (q *question) answer() answer {
	nodes, drivers := indexer(), indexer()
	for name, labels := range q.Nodes {
		_ = nodes.Add(&v1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}})
	}
	for name, registered := range q.CSINodes {
		node := &storagev1.CSINode{ObjectMeta: metav1.ObjectMeta{Name: name}}
		for driver, keys := range registered {
			node.Spec.Drivers = append(node.Spec.Drivers,
				storagev1.CSINodeDriver{Name: driver, NodeID: name, TopologyKeys: keys})
		}
		_ = drivers.Add(node)
	}
	// A memory of its own for each case: upstream keeps what it found for a claim.
	requirement, err := controller.GenerateAccessibilityRequirements(nil, q.Driver, "uid", q.Claim,
		q.AllowedTopologies, q.SelectedNode, q.Strict, q.Immediate,
		storagelisters.NewCSINodeLister(drivers), corelisters.NewNodeLister(nodes), controller.NewInMemoryStore())
	if err != nil {
		return answer{Error: err.Error()}
	}
	return answer{Requisite: segments(requirement.GetRequisite()), Preferred: segments(requirement.GetPreferred())}
}

func indexer() cache.Indexer {
	return cache.NewIndexer(cache.MetaNamespaceKeyFunc, cache.Indexers{})
}

func segments(terms []*csi.Topology) (all []map[string]string) {
	for _, term := range terms {
		all = append(all, term.GetSegments())
	}
	return all
}
