package main

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// foreign fills the cluster with bound claims, volumes and snapshots of another
// driver, or removes them. They are put straight into etcd, where the API server reads
// JSON as well as protobuf: sixty thousand take seconds instead of a minute.
func (p *plane) foreign(driver string, count int) error {
	client, err := p.store()
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()

	const claims, volumes = "/registry/persistentvolumeclaims/foreign/", "/registry/persistentvolumes/foreign-"
	const snapshots = "/registry/snapshot.storage.k8s.io/volumesnapshots/foreign/"
	if count == 0 {
		for _, prefix := range []string{claims, volumes, snapshots} {
			if _, err := client.Delete(ctx, prefix, clientv3.WithPrefix()); err != nil {
				return err
			}
		}
		return nil
	}
	var puts []clientv3.Op
	flush := func() error {
		_, err := client.Txn(ctx).Then(puts...).Commit()
		puts = puts[:0]
		return err
	}
	for i := range count {
		claim, volume := foreignPair(driver, i)
		for key, object := range map[string]any{
			fmt.Sprintf("%sclaim-%d", claims, i):       claim,
			fmt.Sprintf("%s%d", volumes, i):            volume,
			fmt.Sprintf("%ssnapshot-%d", snapshots, i): foreignSnapshot(i),
		} {
			encoded, err := json.Marshal(object)
			if err != nil {
				return err
			}
			puts = append(puts, clientv3.OpPut(key, string(encoded)))
		}
		// etcd takes 128 operations in a transaction by default.
		if len(puts) > 125 || i == count-1 {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	return nil
}

type object = map[string]any

func foreignPair(driver string, i int) (claim, volume object) {
	const created = "2026-01-01T00:00:00Z"
	claimName, volumeName := fmt.Sprintf("claim-%d", i), fmt.Sprintf("foreign-%d", i)
	claimUID := fmt.Sprintf("00000000-0000-4000-8000-%012d", i)
	modes, size := []string{"ReadWriteOnce"}, object{"storage": "1Gi"}
	// Two entries of the size that kubectl and the binder leave behind.
	managed := func(fields object) []object {
		return []object{
			{"manager": "kubectl-create", "operation": "Update", "apiVersion": "v1", "time": created, "fieldsType": "FieldsV1", "fieldsV1": fields},
			{"manager": "kube-controller-manager", "operation": "Update", "apiVersion": "v1", "time": created, "fieldsType": "FieldsV1", "fieldsV1": fields},
		}
	}
	claim = object{
		"apiVersion": "v1", "kind": "PersistentVolumeClaim",
		"metadata": object{"name": claimName, "namespace": "foreign", "uid": claimUID, "creationTimestamp": created,
			"annotations": object{"pv.kubernetes.io/bind-completed": "yes", "pv.kubernetes.io/bound-by-controller": "yes",
				"volume.kubernetes.io/storage-provisioner": driver},
			"finalizers": []string{"kubernetes.io/pvc-protection"},
			"managedFields": managed(object{"f:spec": object{"f:accessModes": object{}, "f:resources": object{"f:requests": object{".": object{}, "f:storage": object{}}},
				"f:storageClassName": object{}, "f:volumeMode": object{}, "f:volumeName": object{}}})},
		"spec":   object{"accessModes": modes, "resources": object{"requests": size}, "storageClassName": "foreign", "volumeMode": "Filesystem", "volumeName": volumeName},
		"status": object{"phase": "Bound", "accessModes": modes, "capacity": size},
	}
	volume = object{
		"apiVersion": "v1", "kind": "PersistentVolume",
		"metadata": object{"name": volumeName, "uid": fmt.Sprintf("00000000-0000-4000-9000-%012d", i), "creationTimestamp": created,
			"annotations": object{"pv.kubernetes.io/provisioned-by": driver},
			"finalizers":  []string{"kubernetes.io/pv-protection"},
			"managedFields": managed(object{"f:spec": object{"f:accessModes": object{}, "f:capacity": object{".": object{}, "f:storage": object{}},
				"f:claimRef": object{}, "f:csi": object{".": object{}, "f:driver": object{}, "f:volumeAttributes": object{}, "f:volumeHandle": object{}}}})},
		"spec": object{"accessModes": modes, "capacity": size, "persistentVolumeReclaimPolicy": "Delete", "storageClassName": "foreign", "volumeMode": "Filesystem",
			"claimRef": object{"apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": "foreign", "name": claimName, "uid": claimUID},
			"csi": object{"driver": driver, "volumeHandle": fmt.Sprintf("handle-%d", i), "fsType": "ext4",
				"volumeAttributes": object{"storage.kubernetes.io/csiProvisionerIdentity": "1700000000000-1234-" + driver}}},
		"status": object{"phase": "Bound"},
	}
	return claim, volume
}

func foreignSnapshot(i int) object {
	const created = "2026-01-01T00:00:00Z"
	claim, name := fmt.Sprintf("claim-%d", i), fmt.Sprintf("snapshot-%d", i)
	return object{
		"apiVersion": "snapshot.storage.k8s.io/v1", "kind": "VolumeSnapshot",
		"metadata": object{"name": name, "namespace": "foreign", "uid": fmt.Sprintf("00000000-0000-4000-a000-%012d", i), "creationTimestamp": created,
			"generation": 1, "finalizers": []string{"snapshot.storage.kubernetes.io/volumesnapshot-bound-protection"},
			"managedFields": []object{{"manager": "kubectl-create", "operation": "Update", "apiVersion": "snapshot.storage.k8s.io/v1", "time": created,
				"fieldsType": "FieldsV1", "fieldsV1": object{"f:spec": object{"f:source": object{".": object{}, "f:persistentVolumeClaimName": object{}}}}}}},
		"spec": object{"source": object{"persistentVolumeClaimName": claim}, "volumeSnapshotClassName": "foreign"},
		"status": object{"boundVolumeSnapshotContentName": fmt.Sprintf("snapcontent-%d", i), "creationTime": created,
			"readyToUse": true, "restoreSize": "1Gi"},
	}
}
