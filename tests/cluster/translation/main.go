// Command translation answers what Kubernetes' own library for the migration of
// in-tree plugins, which upstream calls, makes of a class or a volume.
//
// It reads one JSON object a line from standard input and answers each with one
// line, in order, until the input ends. A case has one of these:
//
//	{"class": …}   a StorageClass of a plugin, to be one of the driver
//	{"csi": …}     a PersistentVolume of a driver, to be one of the plugin
//	{"inTree": …}  a PersistentVolume of a plugin, to be one of the driver
//
// Its answer has "class" or "volume", or "error" when the library refuses.
package main

import (
	v1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	translation "k8s.io/csi-translation-lib"
	"k8s.io/klog/v2"

	"volwright.dev/tests/cluster/lines"
)

type question struct {
	Class  *storagev1.StorageClass `json:"class"`
	CSI    *v1.PersistentVolume    `json:"csi"`
	InTree *v1.PersistentVolume    `json:"inTree"`
}

type answer struct {
	Class  *storagev1.StorageClass `json:"class,omitempty"`
	Volume *v1.PersistentVolume    `json:"volume,omitempty"`
	Error  string                  `json:"error,omitempty"`
}

func main() {
	lines.Answer("translation", (*question).answer)
}

func (q *question) answer() (given answer) {
	library, logger := translation.New(), klog.Background()
	var err error
	switch {
	case q.Class != nil:
		given.Class, err = library.TranslateInTreeStorageClassToCSI(logger, q.Class.Provisioner, q.Class)
	case q.CSI != nil:
		given.Volume, err = library.TranslateCSIPVToInTree(q.CSI)
	case q.InTree != nil:
		given.Volume, err = library.TranslateInTreePVToCSI(logger, q.InTree)
	}
	if err != nil {
		return answer{Error: err.Error()}
	}
	return given
}
