//! A class of a plugin, as the driver is told of it.

use super::*;
use crate::cluster::objects::TopologySelectorTerm;

type Pairs = &'static [(&'static str, &'static str)];
type Terms = &'static [&'static [(&'static str, &'static [&'static str])]];

fn terms(terms: Terms) -> Vec<TopologySelectorTerm> {
    let expression = |(key, values): &(&str, &[&str])| {
        (
            (*key).to_owned(),
            values.iter().map(ToString::to_string).collect(),
        )
    };
    terms
        .iter()
        .map(|term| term.iter().map(expression).collect())
        .collect()
}

fn class(driver: &str, parameters: Pairs, allowed: Terms) -> Class {
    Class {
        name: "fast".into(),
        provisioner: in_tree_name(driver).unwrap().into(),
        parameters: map(parameters),
        mount_options: vec!["ro".into()],
        allowed_topologies: terms(allowed),
        ..Class::default()
    }
}

#[test]
fn parameters_and_topologies_get_the_drivers_words() {
    const FS: &str = "csi.storage.k8s.io/fstype";
    type Row = (&'static str, &'static str, Pairs, Terms, Pairs, Terms);
    let rows: &[Row] = &[
        ("nothing", EBS, &[], &[], &[], &[]),
        (
            "file system, whatever the case of its key",
            EBS,
            &[("FsType", "xfs"), ("Type", "gp3")],
            &[],
            &[(FS, "xfs"), ("Type", "gp3")],
            &[],
        ),
        (
            "IOPS by size",
            EBS,
            &[("iopsPerGB", "10")],
            &[],
            &[("iopsPerGB", "10"), ("allowautoiopspergbincrease", "true")],
            &[],
        ),
        (
            "a zone",
            EBS,
            &[("Zone", "us-east-1a")],
            &[],
            &[],
            &[&[("topology.ebs.csi.aws.com/zone", &["us-east-1a"])]],
        ),
        (
            "zones, as they are written",
            GCE,
            &[("zones", "us-east1-a, us-east1-b")],
            &[],
            &[],
            &[&[("topology.gke.io/zone", &["us-east1-a", " us-east1-b"])]],
        ),
        (
            "both labels of zones, and what is none",
            GCE,
            &[],
            &[
                &[("topology.kubernetes.io/zone", &["a", "b"]), ("rack", &["7"])],
                &[("failure-domain.beta.kubernetes.io/zone", &["c"])],
            ],
            &[],
            &[
                &[("topology.gke.io/zone", &["a", "b"]), ("rack", &["7"])],
                &[("topology.gke.io/zone", &["c"])],
            ],
        ),
        (
            "Cinder knows zones as parameters",
            CINDER,
            &[
                ("fstype", "ext4"),
                ("availability", "nova"),
                ("zone", "a"),
                ("zones", "b"),
            ],
            &[&[("topology.kubernetes.io/zone", &["nova"])]],
            &[
                (FS, "ext4"),
                ("availability", "nova"),
                ("zone", "a"),
                ("zones", "b"),
            ],
            &[&[("topology.cinder.csi.openstack.org/zone", &["nova"])]],
        ),
        (
            "the driver of Azure disks reads fstype itself",
            AZURE_DISK,
            &[("fsType", "ext4"), ("zones", "westus-1,0")],
            &[],
            &[("fsType", "ext4")],
            &[&[("topology.disk.csi.azure.com/zone", &["westus-1", ""])]],
        ),
        (
            "numbers for zones of Azure are no zones, other numbers are other things",
            AZURE_DISK,
            &[],
            &[&[
                ("topology.kubernetes.io/zone", &["0", "westus-2"]),
                ("topology.kubernetes.io/region", &["1"]),
            ]],
            &[],
            &[&[
                ("topology.disk.csi.azure.com/zone", &["", "westus-2"]),
                ("topology.kubernetes.io/region", &["1"]),
            ]],
        ),
        (
            "Azure files",
            AZURE_FILE,
            &[("skuName", "Standard_LRS"), ("fstype", "nfs"), ("zone", "a")],
            &[&[("topology.kubernetes.io/zone", &["a"])]],
            &[("skuName", "Standard_LRS"), ("fstype", "nfs"), ("zone", "a")],
            &[&[("topology.kubernetes.io/zone", &["a"])]],
        ),
        (
            "vSphere",
            VSPHERE,
            &[
                ("fstype", "ext4"),
                ("StoragePolicyName", "gold"),
                ("Datastore", "ds"),
                ("diskformat", "thin"),
                ("hostFailuresToTolerate", "1"),
                ("forceProvisioning", "1"),
                ("cacheReservation", "20"),
                ("diskStripes", "2"),
                ("objectSpaceReservation", "30"),
                ("iopsLimit", "100"),
                ("zone", "a"),
            ],
            &[&[
                ("topology.kubernetes.io/zone", &["a"]),
                ("topology.kubernetes.io/region", &["r"]),
            ]],
            &[
                (FS, "ext4"),
                ("storagepolicyname", "gold"),
                ("datastore-migrationparam", "ds"),
                ("diskformat-migrationparam", "thin"),
                ("hostfailurestotolerate-migrationparam", "1"),
                ("forceprovisioning-migrationparam", "1"),
                ("cachereservation-migrationparam", "20"),
                ("diskstripes-migrationparam", "2"),
                ("objectspacereservation-migrationparam", "30"),
                ("iopslimit-migrationparam", "100"),
                ("csimigration", "true"),
            ],
            &[&[
                ("topology.csi.vmware.com/zone", &["a"]),
                ("topology.kubernetes.io/region", &["r"]),
            ]],
        ),
        (
            "Portworx",
            PORTWORX,
            &[
                ("repl", "3"),
                ("openstorage.io/auth-secret-name", "px"),
                ("openstorage.io/auth-secret-namespace", "vault"),
            ],
            &[&[("topology.kubernetes.io/zone", &["a"])]],
            &[
                ("repl", "3"),
                ("csi.storage.k8s.io/provisioner-secret-name", "px"),
                ("csi.storage.k8s.io/controller-publish-secret-name", "px"),
                ("csi.storage.k8s.io/node-stage-secret-name", "px"),
                ("csi.storage.k8s.io/node-publish-secret-name", "px"),
                ("csi.storage.k8s.io/controller-expand-secret-name", "px"),
                ("csi.storage.k8s.io/node-expand-secret-name", "px"),
                ("csi.storage.k8s.io/provisioner-secret-namespace", "vault"),
                ("csi.storage.k8s.io/controller-publish-secret-namespace", "vault"),
                ("csi.storage.k8s.io/node-stage-secret-namespace", "vault"),
                ("csi.storage.k8s.io/node-publish-secret-namespace", "vault"),
                ("csi.storage.k8s.io/controller-expand-secret-namespace", "vault"),
                ("csi.storage.k8s.io/node-expand-secret-namespace", "vault"),
            ],
            &[&[("topology.kubernetes.io/zone", &["a"])]],
        ),
    ];
    for (name, driver, parameters, allowed, translated, places) in rows {
        let before = class(driver, parameters, allowed);
        let after = class_for_driver(&before, driver).unwrap();
        let expected = Class {
            parameters: map(translated),
            allowed_topologies: terms(places),
            ..before.clone()
        };
        assert_eq!(*after, expected, "{name}");
    }
}

#[test]
fn d71_a_class_that_contradicts_itself_is_refused_whatever_the_order_of_its_parameters() {
    let allowed: Terms = &[&[("topology.kubernetes.io/zone", &["a"])]];
    type Row = (&'static str, Pairs, Terms, &'static str);
    let rows: &[Row] = &[
        (
            EBS,
            &[("zone", "a"), ("zones", "b,c")],
            &[],
            "parameters zone and zones",
        ),
        (
            GCE,
            &[("Zone", "a"), ("zone", "a")],
            &[],
            "parameters Zone and zone",
        ),
        (
            AZURE_DISK,
            &[("zone", "1"), ("Zones", "2")],
            &[],
            "parameters Zones and zone",
        ),
        (
            EBS,
            &[("fstype", "xfs"), ("fsType", "ext4")],
            &[],
            "parameters fsType and fstype",
        ),
        (
            CINDER,
            &[("fstype", "xfs"), ("csi.storage.k8s.io/fstype", "xfs")],
            &[],
            "parameters csi.storage.k8s.io/fstype and fstype",
        ),
        (
            VSPHERE,
            &[("Datastore", "a"), ("datastore", "b")],
            &[],
            "parameters Datastore and datastore",
        ),
        (
            PORTWORX,
            &[
                ("openstorage.io/auth-secret-name", "px"),
                ("csi.storage.k8s.io/node-stage-secret-name", "other"),
            ],
            &[],
            "parameters csi.storage.k8s.io/node-stage-secret-name and openstorage.io/auth-secret-name",
        ),
        (
            EBS,
            &[("zones", "a")],
            allowed,
            "parameter zones and allowedTopologies",
        ),
        (
            GCE,
            &[("zone", "a")],
            allowed,
            "parameter zone and allowedTopologies",
        ),
        (
            AZURE_DISK,
            &[("zone", "a")],
            allowed,
            "parameter zone and allowedTopologies",
        ),
    ];
    for (driver, parameters, allowed, words) in rows {
        let class = class(driver, parameters, allowed);
        let error = class_for_driver(&class, driver).unwrap_err().to_string();
        assert!(error.starts_with(words), "D-71: {driver}: {error}");
        assert!(error.ends_with("make the class anew with one of them"), "{error}");
    }
}

#[test]
fn iops_by_size_stay_as_a_person_wants_them() {
    let given = &[("iopspergb", "1"), ("allowautoiopspergbincrease", "false")];
    let class = class(EBS, given, &[]);
    assert_eq!(class_for_driver(&class, EBS).unwrap().parameters, map(given));
}
