//! Which sources in other namespaces a claim may have; upstream's own cases among them.

use super::{
    super::{decide::Decision, granted::granted},
    world,
};
use crate::cluster::{
    grant::{GrantedFrom, GrantedTo, ReferenceGrant, is_granted},
    objects::SourceRef,
    source::{SNAPSHOT_GROUP, Source},
};

const CLAIM: &str = "PersistentVolumeClaim";
const SNAPSHOT: &str = "VolumeSnapshot";
const PVC: Kind = (Some(""), CLAIM);
const SNAP: Kind = (Some(SNAPSHOT_GROUP), SNAPSHOT);
/// The claim is in `ns2`, the source in `ns1`.
const FROM_NS2: &[From] = &[("", CLAIM, "ns2")];
const TO_PVC: &[To] = &[("", CLAIM, None)];
const TO_SNAP: &[To] = &[(SNAPSHOT_GROUP, SNAPSHOT, None)];

type From = (&'static str, &'static str, &'static str);
type To = (&'static str, &'static str, Option<&'static str>);
/// The namespace of a grant, and what it says.
type Grant = (&'static str, &'static [From], &'static [To]);
/// API group and kind.
type Kind = (Option<&'static str>, &'static str);

fn grants(grants: &[Grant]) -> Vec<ReferenceGrant> {
    let from = |(group, kind, namespace): &From| GrantedFrom {
        group: (*group).into(),
        kind: (*kind).into(),
        namespace: (*namespace).into(),
    };
    let to = |(group, kind, name): &To| GrantedTo {
        group: (*group).into(),
        kind: (*kind).into(),
        name: name.map(str::to_owned),
    };
    let grant = |(namespace, froms, tos): &Grant| ReferenceGrant {
        namespace: (*namespace).into(),
        from: froms.iter().map(from).collect(),
        to: tos.iter().map(to).collect(),
    };
    grants.iter().map(grant).collect()
}

fn source((group, kind): Kind, namespace: Option<&str>) -> SourceRef {
    SourceRef {
        api_group: group.map(str::to_owned),
        kind: kind.into(),
        name: "origin".into(),
        namespace: namespace.map(str::to_owned),
    }
}

#[test]
fn a_grant_counts_where_it_stands_and_for_whom_and_what_it_names() {
    const ANY: Kind = (Some("hello.example.com"), "Hello");
    let rows: [(&str, Kind, &[Grant], bool); 25] = [
        ("grant.IsGranted.01", PVC, &[("ns1", FROM_NS2, TO_PVC)], true),
        (
            "grant.IsGranted.02",
            PVC,
            &[("ns1", FROM_NS2, &[("", CLAIM, Some("origin"))])],
            true,
        ),
        (
            "grant.IsGranted.03",
            (None, CLAIM),
            &[("ns1", FROM_NS2, TO_PVC)],
            true,
        ),
        ("grant.IsGranted.04", PVC, &[("ns1", FROM_NS2, TO_PVC)], true),
        (
            "grant.IsGranted.05",
            PVC,
            &[("ns1", FROM_NS2, &[("", CLAIM, Some(""))])],
            true,
        ),
        ("grant.IsGranted.06", SNAP, &[("ns1", FROM_NS2, TO_SNAP)], true),
        (
            "grant.IsGranted.07",
            ANY,
            &[("ns1", FROM_NS2, &[("hello.example.com", "Hello", None)])],
            true,
        ),
        ("grant.IsGranted.08", PVC, &[], false),
        ("grant.IsGranted.09", SNAP, &[], false),
        ("grant.IsGranted.10", ANY, &[], false),
        ("grant.IsGranted.11", PVC, &[("ns3", FROM_NS2, TO_PVC)], false),
        (
            "grant.IsGranted.12",
            PVC,
            &[("ns1", &[("wrong", CLAIM, "ns2")], TO_PVC)],
            false,
        ),
        (
            "grant.IsGranted.13",
            PVC,
            &[("ns1", &[("", "Wrong", "ns2")], TO_PVC)],
            false,
        ),
        (
            "grant.IsGranted.14",
            PVC,
            &[("ns1", &[("", CLAIM, "wrong")], TO_PVC)],
            false,
        ),
        (
            "grant.IsGranted.15",
            PVC,
            &[("ns1", FROM_NS2, &[("wrong", CLAIM, None)])],
            false,
        ),
        (
            "grant.IsGranted.16",
            PVC,
            &[("ns1", FROM_NS2, &[("", "Wrong", None)])],
            false,
        ),
        (
            "grant.IsGranted.17",
            PVC,
            &[("ns1", FROM_NS2, &[("", CLAIM, Some("wrong"))])],
            false,
        ),
        ("grant.IsGranted.18", PVC, &[("ns1", FROM_NS2, TO_SNAP)], false),
        (
            "grant.IsGranted.19",
            (None, SNAPSHOT),
            &[("ns1", FROM_NS2, TO_SNAP)],
            false,
        ),
        ("grant.IsGranted.20", SNAP, &[("ns1", FROM_NS2, TO_PVC)], false),
        ("grant.IsGranted.21", PVC, &[("ns1", &[], TO_PVC)], false),
        ("grant.IsGranted.22", PVC, &[("ns1", FROM_NS2, &[])], false),
        ("grant.IsGranted.23", PVC, &[("ns1", &[], &[])], false),
        (
            "the second of two",
            PVC,
            &[
                ("ns1", &[], TO_PVC),
                ("ns1", &[("", "Wrong", "ns2"), ("", CLAIM, "ns2")], TO_PVC),
            ],
            true,
        ),
        (
            "two that would have to be one",
            PVC,
            &[
                ("ns1", FROM_NS2, TO_SNAP),
                ("ns1", &[("", CLAIM, "wrong")], TO_PVC),
            ],
            false,
        ),
    ];
    for (id, kind, given, expected) in rows {
        let granted = is_granted("ns2", &source(kind, Some("ns1")), &grants(given));
        assert_eq!(granted, expected, "{id}");
    }
}

/// From the claim to its source, as far as its namespace is concerned.
fn taken(kind: Kind, namespace: Option<&str>, grants: Option<&[ReferenceGrant]>) -> Result<Source, String> {
    let mut world = world();
    world.claim.namespace = "ns2".into();
    world.claim.data_source_ref = Some(source(kind, namespace));
    world.driver.clone = true;
    world.driver.create_delete_snapshot = true;
    world.policy.cross_namespace = true;
    let source = match world.decide() {
        Decision::Provision(plan) => plan.source.unwrap(),
        Decision::Tell(refusal) => return Err(refusal.to_string()),
        other => panic!("{other:?}"),
    };
    match granted(&world.claim, &source, grants) {
        Ok(()) => Ok(source),
        Err(why) => Err(why.to_string()),
    }
}

#[test]
fn a_source_of_the_claims_own_namespace_needs_no_grant() {
    let rows = [
        ("ctl.ProvisionFromSnapshot.24", SNAP, Some("ns2")),
        ("ctl.ProvisionFromSnapshot.25", SNAP, None),
        ("ctl.ProvisionFromPVC.34", PVC, Some("ns2")),
        ("ctl.ProvisionFromPVC.35", PVC, Some("")),
        ("ctl.ProvisionFromPVC.36", PVC, None),
    ];
    for (id, kind, namespace) in rows {
        for grants in [None, Some(&[][..])] {
            let source = taken(kind, namespace, grants).expect(id);
            assert_eq!((&*source.namespace, &*source.name), ("ns2", "origin"), "{id}");
        }
    }
}

#[test]
fn a_source_of_another_namespace_needs_a_grant_that_fits() {
    /// Cases of a snapshot and of a claim, how the grant differs from one that fits, and whether it does still.
    type Row = (&'static str, &'static str, fn(&mut ReferenceGrant), bool);
    let rows: [Row; 12] = [
        (
            "ctl.ProvisionFromSnapshot.20",
            "ctl.ProvisionFromPVC.32",
            |_| {},
            true,
        ),
        (
            "ctl.ProvisionFromSnapshot.21",
            "ctl.ProvisionFromPVC.33",
            |grant| grant.to[0].name = Some("origin".into()),
            true,
        ),
        (
            "ctl.ProvisionFromSnapshot.22",
            "a nil name",
            |grant| grant.to[0].name = None,
            true,
        ),
        (
            "ctl.ProvisionFromSnapshot.23",
            "an empty name",
            |grant| grant.to[0].name = Some(String::new()),
            true,
        ),
        (
            "ctl.ProvisionFromSnapshot.28",
            "ctl.ProvisionFromPVC.40",
            |grant| grant.namespace = "ns3".into(),
            false,
        ),
        (
            "ctl.ProvisionFromSnapshot.29",
            "ctl.ProvisionFromPVC.41",
            |grant| grant.from[0].group = "wrong".into(),
            false,
        ),
        (
            "ctl.ProvisionFromSnapshot.30",
            "ctl.ProvisionFromPVC.42",
            |grant| grant.from[0].kind = "Wrong".into(),
            false,
        ),
        (
            "ctl.ProvisionFromSnapshot.31",
            "ctl.ProvisionFromPVC.43",
            |grant| grant.from[0].namespace = "wrong".into(),
            false,
        ),
        (
            "ctl.ProvisionFromSnapshot.33",
            "ctl.ProvisionFromPVC.44",
            |grant| grant.to[0].group = "wrong".into(),
            false,
        ),
        (
            "ctl.ProvisionFromSnapshot.32",
            "ctl.ProvisionFromPVC.45",
            |grant| grant.to[0].kind = "Wrong".into(),
            false,
        ),
        (
            "ctl.ProvisionFromSnapshot.34",
            "ctl.ProvisionFromPVC.46",
            |grant| grant.to[0].name = Some("wrong".into()),
            false,
        ),
        (
            "ctl.ProvisionFromSnapshot.35",
            "ctl.ProvisionFromPVC.47",
            |grant| {
                grant.from.clear();
                grant.to.clear();
            },
            false,
        ),
    ];
    for (of_snapshot, of_claim, change, expected) in rows {
        for (id, kind, to) in [(of_snapshot, SNAP, TO_SNAP), (of_claim, PVC, TO_PVC)] {
            let mut grants = grants(&[("ns1", FROM_NS2, to)]);
            change(&mut grants[0]);
            let taken = taken(kind, Some("ns1"), Some(&grants));
            assert_eq!(taken.is_ok(), expected, "{id}: {taken:?}");
        }
    }
}

#[test]
fn the_group_of_a_claim_may_be_absent_and_other_kinds_are_for_populators() {
    let fits = grants(&[("ns1", FROM_NS2, TO_PVC)]);
    let rows = [
        ("ctl.ProvisionFromPVC.37", (None, CLAIM), &*fits, true),
        ("ctl.ProvisionFromPVC.38", (Some(""), CLAIM), &*fits, true),
        ("ctl.ProvisionFromPVC.39", (None, "Wrong"), &*fits, false),
        ("ctl.ProvisionFromPVC.48", PVC, &[], false),
        ("ctl.ProvisionFromSnapshot.26", SNAP, &[], false),
    ];
    for (id, kind, grants, expected) in rows {
        let taken = taken(kind, Some("ns1"), Some(grants));
        assert_eq!(taken.is_ok(), expected, "{id}: {taken:?}");
    }
}

#[test]
fn who_lacks_a_grant_is_told_which_one() {
    let error = |kind, grants| taken(kind, Some("ns1"), grants).unwrap_err();
    assert_eq!(
        error(SNAP, Some(&[])),
        "it is in another namespace, and no ReferenceGrant there allows that: create one with spec.from group \"\", \
         kind PersistentVolumeClaim and namespace ns2, and spec.to group \"snapshot.storage.k8s.io\" and kind \
         VolumeSnapshot"
    );
    assert!(
        error((None, SNAPSHOT), Some(&[])).ends_with("spec.to group \"\" and kind VolumeSnapshot"),
        "as the claim names it"
    );
    assert_eq!(
        error(PVC, None),
        "it is in another namespace, and this API server does not serve referencegrants of \
         gateway.networking.k8s.io/v1beta1, which could allow that: install the Gateway API's definition of them, or \
         make the claim with a source of its own namespace"
    );
}
