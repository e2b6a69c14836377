//! Where volumes are, in the labels of Kubernetes and in the keys of the drivers.

use super::*;
use crate::cluster::node_selector::terms_of;

/// Terms and labels of zone and region that a volume gets which the driver has made in these places.
fn in_tree(driver: &str, made_in: &[&str]) -> Result<(Vec<String>, Vec<String>), String> {
    let source = match driver {
        GCE => json!({"volumeHandle": "projects/p/zones/z/disks/d"}),
        VSPHERE => json!({"volumeAttributes": {"initialvolumefilepath": "d"}}),
        AZURE_DISK => json!({"volumeHandle": DISK}),
        _ => json!({}),
    };
    let volume = in_places(csi_volume(driver, source), made_in);
    let translated = in_tree_form(&volume).map_err(|error| error.to_string())?.unwrap();
    let terms = terms_of(&translated).unwrap();
    let labels = translated.metadata.labels.unwrap_or_default();
    let labels = labels.iter().map(|(key, value)| format!("{key}={value}"));
    Ok((places(&terms), labels.collect()))
}

#[test]
fn zones_and_regions_become_terms_and_labels() {
    type Row = (
        &'static str,
        &'static [&'static str],
        &'static [&'static str],
        &'static [&'static str],
    );
    let rows: &[Row] = &[
        (
            EBS,
            &["topology.ebs.csi.aws.com/zone=us-east-1a"],
            &["topology.kubernetes.io/zone=us-east-1a,topology.kubernetes.io/region=us-east-1"],
            &[
                "topology.kubernetes.io/region=us-east-1",
                "topology.kubernetes.io/zone=us-east-1a",
            ],
        ),
        (
            EBS,
            &["os=linux,topology.ebs.csi.aws.com/zone=us-gov-east-1b"],
            &[
                "os=linux,topology.kubernetes.io/zone=us-gov-east-1b,topology.kubernetes.io/region=us-gov-east-1",
            ],
            &[
                "topology.kubernetes.io/region=us-gov-east-1",
                "topology.kubernetes.io/zone=us-gov-east-1b",
            ],
        ),
        (
            EBS,
            &["topology.ebs.csi.aws.com/zone=us-west-2-lax-1a"],
            &["topology.kubernetes.io/zone=us-west-2-lax-1a,topology.kubernetes.io/region=us-west-2"],
            &[
                "topology.kubernetes.io/region=us-west-2",
                "topology.kubernetes.io/zone=us-west-2-lax-1a",
            ],
        ),
        (
            EBS,
            &["topology.ebs.csi.aws.com/zone=us-east-1-wl1-bos-wlz-1"],
            &["topology.kubernetes.io/zone=us-east-1-wl1-bos-wlz-1,topology.kubernetes.io/region=us-east-1"],
            &[
                "topology.kubernetes.io/region=us-east-1",
                "topology.kubernetes.io/zone=us-east-1-wl1-bos-wlz-1",
            ],
        ),
        (
            EBS,
            &["topology.ebs.csi.aws.com/zone=us-east-1a,failure-domain.beta.kubernetes.io/zone=us-east-1a"],
            &[
                "failure-domain.beta.kubernetes.io/zone=us-east-1a,failure-domain.beta.kubernetes.io/zone=us-east-1a,failure-domain.beta.kubernetes.io/region=us-east-1",
            ],
            &[
                "failure-domain.beta.kubernetes.io/region=us-east-1",
                "failure-domain.beta.kubernetes.io/zone=us-east-1a",
            ],
        ),
        (
            GCE,
            &[
                "topology.gke.io/zone=us-east1-b",
                "topology.gke.io/zone=us-east1-a",
            ],
            &[
                "topology.kubernetes.io/zone=us-east1-b,topology.kubernetes.io/region=us-east1",
                "topology.kubernetes.io/zone=us-east1-a,topology.kubernetes.io/region=us-east1",
            ],
            &[
                "topology.kubernetes.io/region=us-east1",
                "topology.kubernetes.io/zone=us-east1-a__us-east1-b",
            ],
        ),
        (
            GCE,
            &[
                "topology.gke.io/zone=us-east1-b",
                "topology.kubernetes.io/region=elsewhere",
            ],
            &[
                "topology.kubernetes.io/zone=us-east1-b,topology.kubernetes.io/region=us-east1",
                "topology.kubernetes.io/region=elsewhere",
            ],
            &["topology.kubernetes.io/zone=us-east1-b"],
        ),
        (
            CINDER,
            &["topology.cinder.csi.openstack.org/zone=nova"],
            &["topology.kubernetes.io/zone=nova"],
            &["topology.kubernetes.io/zone=nova"],
        ),
        (CINDER, &["rack=7"], &["rack=7"], &[]),
        (
            VSPHERE,
            &["topology.csi.vmware.com/zone=b|a,topology.csi.vmware.com/region=r"],
            &["topology.kubernetes.io/zone=b|a,topology.kubernetes.io/region=r"],
            &["topology.kubernetes.io/region=r", "topology.kubernetes.io/zone=a"],
        ),
        (
            AZURE_DISK,
            &["topology.disk.csi.azure.com/zone=westus-1"],
            &["topology.disk.csi.azure.com/zone=westus-1"],
            &[],
        ),
        (
            PORTWORX,
            &["topology.kubernetes.io/zone=a"],
            &["topology.kubernetes.io/zone=a"],
            &[],
        ),
    ];
    for (driver, made_in, terms, labels) in rows {
        let expected = [*terms, *labels].map(|list| list.iter().map(ToString::to_string).collect());
        assert_eq!(
            in_tree(driver, made_in).map(<[_; 2]>::from),
            Ok(expected),
            "{driver} {made_in:?}"
        );
    }
}

#[test]
fn d70_a_place_without_a_region_is_named() {
    let rows = [
        (
            EBS,
            vec!["rack=7"],
            "a place without topology.ebs.csi.aws.com/zone",
        ),
        (
            EBS,
            vec!["topology.ebs.csi.aws.com/zone=us-east-1a", "rack=7"],
            "without topology.ebs.csi.aws.com/zone",
        ),
        (
            EBS,
            vec!["topology.ebs.csi.aws.com/zone=outpost"],
            "the zone \"outpost\" has no region",
        ),
        (
            EBS,
            vec!["topology.ebs.csi.aws.com/zone=us-east-1ab"],
            "expected is a zone like us-east-1a",
        ),
        (
            EBS,
            vec!["topology.ebs.csi.aws.com/zone=us-east-1a|us-west-2a"],
            "in several regions at once: us-east-1, us-west-2",
        ),
        (
            GCE,
            vec!["topology.gke.io/zone=us-east1"],
            "expected is a zone like us-central1-a",
        ),
        (GCE, vec!["topology.gke.io/zone="], "without topology.gke.io/zone"),
    ];
    for (driver, made_in, words) in rows {
        let error = in_tree(driver, &made_in).unwrap_err();
        assert!(error.contains(words), "D-70: {driver} {made_in:?}: {error}");
    }
}

#[test]
fn an_in_tree_volume_is_where_its_terms_or_else_its_labels_say() {
    type Row = (
        &'static str,
        &'static str,
        Option<&'static [&'static str]>,
        &'static [(&'static str, &'static str)],
        Option<&'static [&'static str]>,
    );
    let rows: &[Row] = &[
        ("nothing is known", EBS, None, &[], None),
        (
            "a region that follows from the zone is no place of its own",
            EBS,
            Some(&["topology.kubernetes.io/zone=us-east-1a,topology.kubernetes.io/region=us-east-1"]),
            &[("topology.kubernetes.io/zone", "ignored")],
            Some(&["topology.ebs.csi.aws.com/zone=us-east-1a"]),
        ),
        (
            "beta labels",
            GCE,
            Some(&[
                "failure-domain.beta.kubernetes.io/zone=us-east1-a,failure-domain.beta.kubernetes.io/region=us-east1",
            ]),
            &[],
            Some(&["topology.gke.io/zone=us-east1-a"]),
        ),
        (
            "only a region",
            GCE,
            Some(&["topology.kubernetes.io/region=us-east1"]),
            &[],
            Some(&["topology.kubernetes.io/region=us-east1"]),
        ),
        (
            "a label",
            CINDER,
            None,
            &[("topology.kubernetes.io/zone", "b__a__")],
            Some(&["topology.cinder.csi.openstack.org/zone=a|b"]),
        ),
        (
            "a label beside other terms",
            CINDER,
            Some(&["rack=7", "rack=8"]),
            &[("failure-domain.beta.kubernetes.io/zone", "a")],
            Some(&[
                "rack=7,topology.cinder.csi.openstack.org/zone=a",
                "rack=8,topology.cinder.csi.openstack.org/zone=a",
            ]),
        ),
        (
            "vSphere has regions",
            VSPHERE,
            Some(&["topology.kubernetes.io/zone=a"]),
            &[("topology.kubernetes.io/region", "r")],
            Some(&["topology.csi.vmware.com/zone=a,topology.csi.vmware.com/region=r"]),
        ),
        (
            "Azure has the same words",
            AZURE_DISK,
            Some(&["topology.kubernetes.io/zone=1"]),
            &[("topology.kubernetes.io/zone", "1")],
            Some(&["topology.kubernetes.io/zone=1"]),
        ),
    ];
    for (name, driver, terms, labels, expected) in rows {
        let terms = terms.map(|terms| {
            let volume = in_places(csi_volume(driver, json!({})), terms);
            terms_of(&volume).unwrap()
        });
        let found = csi_terms(driver, &map(labels), terms).map(|terms| places(&terms));
        let expected = expected.map(|places| places.iter().map(ToString::to_string).collect());
        assert_eq!(found, expected, "{name}");
    }
}
