//! Classes and volumes of in-tree plugins, and volumes of the drivers that took over from them, drawn by lots.

use fastrand::Rng;
use serde_json::{Map, Value, json};
use volwright::cluster::migration::in_tree_name;

use super::DRIVERS;

/// Zones and regions, as the drivers call them and as Kubernetes does.
pub(super) const KEYS: [&str; 10] = [
    "topology.ebs.csi.aws.com/zone",
    "topology.gke.io/zone",
    "topology.cinder.csi.openstack.org/zone",
    "topology.disk.csi.azure.com/zone",
    "topology.csi.vmware.com/zone",
    "topology.csi.vmware.com/region",
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region",
];
/// Some that have a region and some that have none.
const ZONES: [&str; 12] = [
    "us-east-1a",
    "us-east-1b",
    "us-gov-east-1a",
    "us-west-2-lax-1a",
    "us-east-1-wl1-bos-wlz-1",
    "us-east1-a",
    "us-east1-b",
    "europe-west4-c",
    "0",
    "westus-1",
    "nova",
    "us-east-1a__us-east-1b",
];

pub(super) struct Dice(Rng);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(Rng::with_seed(seed))
    }

    /// One in so many.
    fn one_in(&mut self, count: u32) -> bool {
        self.0.u32(0..count) == 0
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.0.usize(0..from.len())]
    }

    pub(super) fn case(&mut self) -> Value {
        let driver = self.pick(&DRIVERS);
        match self.0.u32(0..3) {
            0 => json!({"class": self.class(driver)}),
            1 => json!({"csi": self.csi(driver)}),
            _ => json!({"inTree": self.in_tree(driver)}),
        }
    }

    /// What contradicts itself is refused here, and drawn by lots there.
    fn class(&mut self, driver: &str) -> Value {
        let keys = [
            "fstype",
            "zone",
            "type",
            "iopsPerGB",
            "availability",
            "storagepolicyname",
            "datastore",
            "diskformat",
            "hostfailurestotolerate",
            "forceprovisioning",
            "cachereservation",
            "diskstripes",
            "objectspacereservation",
            "iopslimit",
            "openstorage.io/auth-secret-name",
            "openstorage.io/auth-secret-namespace",
            "csi.storage.k8s.io/controller-modify-secret-name",
            "csimigration",
        ];
        let mut parameters = Map::new();
        for key in keys {
            if !self.one_in(4) {
                continue;
            }
            let key = match key {
                "zone" if self.one_in(2) => "zones",
                key => key,
            };
            let key = match self.0.u32(0..3) {
                0 => key.to_uppercase(),
                _ => key.to_owned(),
            };
            let values = [self.pick(&ZONES), self.pick(&ZONES)].join(self.pick(&[",", ", ", ""]));
            parameters.insert(key, values.into());
        }
        let terms: Vec<_> = match self.one_in(2) {
            true => (0..self.0.usize(1..3)).map(|_| self.topology_term()).collect(),
            false => Vec::new(),
        };
        json!({"provisioner": in_tree_name(driver), "parameters": parameters, "allowedTopologies": terms})
    }

    fn topology_term(&mut self) -> Value {
        let expressions: Vec<_> = (0..self.0.usize(1..3))
            .map(|_| json!({"key": self.key(), "values": self.zones()}))
            .collect();
        json!({"matchLabelExpressions": expressions})
    }

    fn key(&mut self) -> &'static str {
        match self.one_in(6) {
            true => "rack",
            false => self.pick(&KEYS),
        }
    }

    fn zones(&mut self) -> Vec<&'static str> {
        (0..self.0.usize(1..3)).map(|_| self.pick(&ZONES)).collect()
    }

    /// Labels, node affinity, annotations and claimRef. `zone`: the key that most terms have.
    fn volume(&mut self, zone: &str, spec: Value) -> Value {
        let mut volume = json!({"apiVersion": "v1", "kind": "PersistentVolume",
            "metadata": {"name": "pv-1"}, "spec": spec});
        for key in &KEYS[6..] {
            if self.one_in(6) {
                volume["metadata"]["labels"][*key] = self.pick(&ZONES).into();
            }
        }
        if self.one_in(2) {
            volume["spec"]["claimRef"] = json!({"namespace": "shop", "name": "data"});
        }
        let terms: Vec<_> = (0..self.0.usize(0..3))
            .map(|_| {
                let mut expressions = Vec::new();
                if !self.one_in(8) {
                    let one = [self.pick(&ZONES)];
                    expressions.push(json!({"key": zone, "operator": "In", "values": one}));
                }
                if self.one_in(3) {
                    let key = self.key();
                    expressions.push(json!({"key": key, "operator": "In", "values": self.zones()}));
                }
                json!({"matchExpressions": expressions})
            })
            .filter(|term| term["matchExpressions"] != json!([]))
            .collect();
        if !terms.is_empty() {
            volume["spec"]["nodeAffinity"] = json!({"required": {"nodeSelectorTerms": terms}});
        }
        volume
    }

    fn csi(&mut self, driver: &str) -> Value {
        let handles = [
            "vol-1",
            "aws://us-east-1a/vol-1",
            "projects/p/zones/us-east1-a/disks/d",
            "projects/p/regions/us-east1/disks/d/e",
            "projects/p/zones/us-east1-a/disks",
            "projects/p/zones/us-east1-a/disks/",
            "/subscriptions/s/resourceGroups/g/providers/Microsoft.Compute/disks/d",
            "/subscriptions/s/resourceGroups/g/providers/Microsoft.Compute/disks/",
            "x/subscriptions/s/resourceGroups/g/providers/Microsoft.Compute/disks/d",
            "https://account.blob.core.windows.net/vhds/d.vhd",
            "group#account#share#disk#namespace",
            "#account#share",
            "group#account#",
            "group#account",
        ];
        let mut csi = json!({"driver": driver, "volumeHandle": self.pick(&handles)});
        let attributes = [
            ("partition", ["1", "0", "300", "-1", "boot", "", "255"]),
            (
                "cachingMode",
                ["None", "ReadOnly", "ReadWrite", "Other", "", "None", "None"],
            ),
            ("fsType", ["ext4", "", "xfs", "ntfs", "ext4", "ext4", "ext4"]),
            ("shareName", ["s", "t", "", "s", "s", "s", "s"]),
            ("secretname", ["key", "", "key", "key", "key", "key", "key"]),
            (
                "secretNamespace",
                ["vault", "", "vault", "vault", "vault", "vault", "vault"],
            ),
            (
                "initialvolumefilepath",
                ["[ds] d.vmdk", "", "d", "d", "d", "d", "d"],
            ),
            ("storage.kubernetes.io/csiProvisionerIdentity", ["me"; 7]),
        ];
        for (key, values) in attributes {
            if self.one_in(2) {
                csi["volumeAttributes"][key] = self.pick(&values).into();
            }
        }
        if self.one_in(2) {
            csi["fsType"] = self.pick(&["ext4", "xfs"]).into();
        }
        if self.one_in(3) {
            csi["readOnly"] = true.into();
        }
        if self.one_in(4) {
            csi["nodeStageSecretRef"] = json!({"name": self.pick(&["stage", ""]), "namespace": "vault"});
        }
        let zone = KEYS[..5].iter().find(|key| key.contains(domain(driver)));
        let zone = zone.copied().unwrap_or("topology.kubernetes.io/zone");
        let mut volume = self.volume(zone, json!({"csi": csi, "accessModes": ["ReadWriteOnce"]}));
        let annotations = json!({"pv.kubernetes.io/provisioned-by": in_tree_name(driver)});
        volume["metadata"]["annotations"] = annotations;
        volume
    }

    fn in_tree(&mut self, driver: &str) -> Value {
        let word = self.pick(&["a", "b-1"]);
        let uri = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Compute/disks/d";
        let mut spec = match driver {
            "ebs.csi.aws.com" => {
                let ids = [
                    "vol-1",
                    "whatever",
                    "aws://us-east-1a/vol-1",
                    "aws:///vol-1",
                    "aws://us-east-1a//vol-1/",
                    "aws://us-east-1a/disk",
                    "aws://us-east-1a/a/vol-1",
                    "aws://vol-1",
                    "aws://",
                ];
                json!({"awsElasticBlockStore": {"volumeID": self.pick(&ids), "partition": 1}})
            }
            "pd.csi.storage.gke.io" => json!({"gcePersistentDisk": {"pdName": word}}),
            "cinder.csi.openstack.org" => json!({"cinder": {"volumeID": word}}),
            "disk.csi.azure.com" => json!({"azureDisk": {"diskName": word, "diskURI": uri,
                "kind": self.pick(&["Managed", "managed", "Dedicated", "Shared"])}}),
            "file.csi.azure.com" => {
                let secrets = [
                    "key",
                    "azure-storage-account-acc-secret",
                    "azure-storage-account-a-secret-b-secret",
                    "azure-storage-account--secret",
                    "my-azure-storage-account-acc-secret-2",
                ];
                json!({"azureFile": {"shareName": word, "secretName": self.pick(&secrets)}})
            }
            "csi.vsphere.vmware.com" => json!({"vsphereVolume": {"volumePath": word}}),
            _ => json!({"portworxVolume": {"volumeID": word}}),
        };
        if driver == "disk.csi.azure.com" && self.one_in(2) {
            spec["azureDisk"].as_object_mut().unwrap().remove("kind");
        }
        if driver == "file.csi.azure.com" && self.one_in(2) {
            spec["azureFile"]["secretNamespace"] = self.pick(&["vault", ""]).into();
        }
        let mut volume = self.volume("topology.kubernetes.io/zone", spec);
        if self.one_in(3) {
            volume["metadata"]["annotations"]["kubernetes.io/azure-file-resource-group"] = "group".into();
        }
        volume
    }
}

/// What a driver's name and its key of zones have in common.
fn domain(driver: &str) -> &'static str {
    match driver {
        "ebs.csi.aws.com" => "ebs.csi.aws.com",
        "pd.csi.storage.gke.io" => "gke.io",
        "cinder.csi.openstack.org" => "cinder",
        "disk.csi.azure.com" => "azure",
        "csi.vsphere.vmware.com" => "vmware",
        _ => "none",
    }
}
