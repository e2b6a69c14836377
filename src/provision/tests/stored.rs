//! A record comes back from the ledger as it went in, and no secret goes in, nor into any text.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::api::core::v1::ObjectReference;
use proptest::{collection, prelude::*};
use prost::Message;

use super::{
    super::{
        plan::Plan,
        record::{Record, SecretData},
        settle::Doubt,
        topology::{Placement, Requirement, SelectedNode},
    },
    *,
};
use crate::{
    base::{
        secrets::{PREFIX, SecretRef},
        segment::Segment,
    },
    ledger::{RecordHead, Storable},
};

const WORD: &str = "hunter2-s3cr3t";

fn record(plan: Plan) -> Record {
    Record {
        secrets: Some(SecretData::new(map(&[("password", WORD)]))),
        ..Record::inherited(UID, "shop/data", plan)
    }
}

/// As [`record`], and these requests were sent before.
fn record_after(earlier: Vec<Plan>, plan: Plan) -> Record {
    Record {
        earlier: earlier.into_iter().map(Arc::new).collect(),
        ..record(plan)
    }
}

fn back(record: &Record) -> Result<Record, String> {
    Record::decode(UID, &record.head(), &record.encode())
}

/// A plan as it is made for a claim of this size and class, for a volume in one of these places.
fn planned(
    bytes: u64,
    modes: &[&str],
    block: bool,
    parameters: BTreeMap<String, String>,
    mount_options: Vec<String>,
    secret: bool,
) -> Plan {
    let mut world = world();
    world.claim.storage_request = Some(bytes.to_string());
    world.modes(modes);
    world.claim.volume_mode = Some(if block { "Block" } else { "Filesystem" }.to_owned());
    let class = world.class();
    class.parameters = parameters;
    class.mount_options = mount_options;
    if secret {
        let key = |half: &str| format!("{PREFIX}provisioner-secret-{half}");
        class.parameters.insert(key("name"), "login".into());
        class.parameters.insert(key("namespace"), "vault".into());
    }
    world.plan()
}

fn segments() -> impl Strategy<Value = Vec<Segment>> {
    let segment = collection::btree_map("[a-z./]{1,12}", "\\PC{0,8}", 0..3).prop_map(Segment::from);
    collection::vec(segment, 0..6)
}

prop_compose! {
    fn placements()(
        terms in segments(),
        start in 0..6_usize,
        node in proptest::option::of(("[a-z0-9-]{1,10}", segments())),
        asked in any::<bool>(),
    ) -> Placement {
        let start = if terms.is_empty() { 0 } else { start % terms.len() };
        let requirement = asked.then(|| Requirement { requisite: terms.into(), start });
        let node = node.map(|(name, mut segments)| SelectedNode {
            name,
            segment: segments.pop().unwrap_or_default(),
        });
        Placement { requirement, node }
    }
}

prop_compose! {
    fn plans()(
        bytes in 0..(1_u64 << 60),
        modes in collection::vec(
            prop_oneof![Just("ReadWriteOnce"), Just("ReadOnlyMany"), Just("ReadWriteMany")], 0..3),
        flags in any::<[bool; 3]>(),
        parameters in collection::btree_map("[a-zA-Z]{1,8}", "\\PC{0,12}", 0..4),
        mount_options in collection::vec("\\PC{0,8}", 0..3),
        placement in proptest::option::of(placements()),
        source_label in "[A-Za-z]{0,10}",
        mutable_parameters in collection::btree_map("[a-zA-Z]{1,8}", "\\PC{0,12}", 0..4),
    ) -> Plan {
        let [block, secret, class] = flags;
        let mut plan = planned(bytes, &modes, block, parameters, mount_options, secret);
        plan.request.mutable_parameters = mutable_parameters;
        Plan { placement, source_label, class_label: if class { "fast".into() } else { String::new() }, ..plan }
    }
}

proptest! {
    #[test]
    fn any_plans_come_back_as_they_went_in(plan in plans(), earlier in collection::vec(plans(), 0..4)) {
        let record = record_after(earlier, plan);
        let back = back(&record).unwrap();
        prop_assert_eq!(&*back.plan, &*record.plan);
        prop_assert_eq!(&back.earlier, &record.earlier);
        prop_assert_eq!((&back.uid, &back.key), (&record.uid, &record.key));
        prop_assert_eq!(back.doubt, Doubt::FRESH);
        prop_assert!(back.created.is_none() && back.secrets.is_none() && !back.renewable);
    }

    #[test]
    fn no_secret_is_printed(
        plan in plans(),
        earlier in collection::vec(plans(), 0..2),
        secrets in collection::btree_map("[A-Z0-9]{12}", "[A-Z0-9]{12}", 1..4),
    ) {
        let mut record = Record {
            secrets: Some(SecretData::new(secrets.clone())),
            ..record_after(earlier, plan)
        };
        // Nobody puts them there; should somebody one day, they are not shown all the same.
        let with = |plan: &Arc<Plan>| {
            let mut plan = Plan::clone(plan);
            plan.request.secrets = secrets.clone();
            Arc::new(plan)
        };
        (record.plan, record.earlier) = (with(&record.plan), record.earlier.iter().map(with).collect());
        let (request, data) = (record.plan.request_with(secrets.clone()), &record.secrets);
        let refused = record.fallen_back(true, Doubt::FRESH);
        let text = format!(
            "{record:?} {record:#?} {request:?} {request:#?} {data:?} {data:#?} {refused:?} {refused:#?}"
        );
        let mut words = secrets.iter().flat_map(|(key, value)| [key, value]);
        prop_assert!(!words.any(|word| text.contains(word)), "{}", text);
    }

    #[test]
    fn damaged_bytes_are_an_error_and_no_panic(
        plan in plans(),
        earlier in collection::vec(plans(), 0..2),
        at in any::<prop::sample::Index>(),
        bit in 0..8_u32,
    ) {
        let record = record_after(earlier, plan);
        let mut bytes = record.encode();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        // A change that no part contradicts is the checksum's affair.
        let _ = Record::decode(UID, &record.head(), &bytes);
        bytes.truncate(at);
        prop_assert!(Record::decode(UID, &record.head(), &bytes).is_err(), "cut at {}", at);
    }

    #[test]
    fn bytes_of_anything_are_an_error_and_no_panic(bytes in collection::vec(any::<u8>(), 0..200)) {
        let head = RecordHead { claim: "shop/data".into(), volume: NAME.into() };
        prop_assert!(Record::decode(UID, &head, &bytes).is_err());
    }
}

fn plan() -> Plan {
    planned(
        1 << 30,
        &["ReadWriteOnce"],
        false,
        map(&[("tier", "gold")]),
        vec!["ro".into()],
        true,
    )
}

#[test]
fn no_secret_is_stored_but_where_it_is() {
    let mut plan = plan();
    // Nobody puts it there; should somebody one day, it stays out all the same.
    plan.request.secrets = map(&[("password", WORD)]);
    let record = record(plan);
    let stored = String::from_utf8_lossy(&record.encode()).into_owned();
    assert!(!stored.contains(WORD), "{stored}");
    let back = back(&record).unwrap();
    assert!(back.plan.request.secrets.is_empty());
    let reference = SecretRef {
        namespace: "vault".into(),
        name: "login".into(),
    };
    assert_eq!(back.plan.secret, Some(reference));
}

#[test]
fn what_a_later_version_adds_is_ignored() {
    let record = record(plan());
    let mut bytes = record.encode();
    // Field 1000, four bytes.
    bytes.extend([0xc2, 0x3e, 4, b'm', b'o', b'r', b'e']);
    let back = Record::decode(UID, &record.head(), &bytes).unwrap();
    assert_eq!(back.plan, record.plan);
}

/// The fields that a record had before it knew earlier requests.
#[derive(Clone, PartialEq, Message)]
struct OneRequest {
    #[prost(bytes = "vec", tag = "1")]
    request: Vec<u8>,
    #[prost(string, tag = "2")]
    draft: String,
    #[prost(bytes = "vec", optional, tag = "3")]
    secret: Option<Vec<u8>>,
    #[prost(bytes = "vec", optional, tag = "4")]
    placement: Option<Vec<u8>>,
    #[prost(string, tag = "5")]
    class_label: String,
    #[prost(string, tag = "6")]
    source_label: String,
    #[prost(string, tag = "7")]
    class_uid: String,
    #[prost(bool, tag = "15")]
    is_whole: bool,
}

#[test]
fn a_record_of_one_request_is_stored_as_an_older_version_stores_it() {
    let record = record(plan());
    let bytes = record.encode();
    let older = OneRequest::decode(&*bytes).unwrap();
    assert_eq!(older.encode_to_vec(), bytes);
    let back = Record::decode(UID, &record.head(), &bytes).unwrap();
    assert_eq!(back.plan, record.plan);
    assert!(back.earlier.is_empty());
    // And an older version reads of several the one that is sent.
    let several = record_after(vec![plan()], plan()).encode();
    assert_eq!(OneRequest::decode(&*several).unwrap(), older);
}

#[test]
fn an_earlier_request_of_another_claim_or_volume_makes_a_record_unreadable() {
    let head = record(plan()).head();
    let claim_of = |plan: &mut Plan, change: fn(&mut ObjectReference)| {
        let spec = plan.draft.spec.as_mut().unwrap();
        change(spec.claim_ref.as_mut().unwrap());
    };
    let mut odd = [(); 4].map(|()| plan());
    odd[0].request.name = "pvc-other".into();
    odd[1].draft.metadata.name = Some("pvc-other".into());
    claim_of(&mut odd[2], |claim| claim.name = Some("other".into()));
    claim_of(&mut odd[3], |claim| claim.uid = Some("another-uid".into()));
    let disagreements = [
        "volume of the head",
        "name of the object",
        "claim of the head",
        "UID of the claim",
    ];
    for (what, odd) in disagreements.into_iter().zip(odd) {
        let stored = record_after(vec![plan(), odd], plan()).encode();
        let error = Record::decode(UID, &head, &stored).unwrap_err();
        assert!(error.contains(what), "{what}: {error}");
    }
}

#[test]
fn parts_of_two_records_do_not_make_one() {
    let record = record(plan());
    let (head, bytes) = (record.head(), record.encode());
    let other = |claim: &str, volume: &str| RecordHead {
        claim: claim.into(),
        volume: volume.into(),
    };
    let rows = [
        ("another-uid", head.clone(), "UID of the claim"),
        (UID, other("shop/other", NAME), "claim of the head"),
        (UID, other("shop/data", "pvc-other"), "volume of the head"),
    ];
    for (uid, head, what) in rows {
        let error = Record::decode(uid, &head, &bytes).unwrap_err();
        assert!(error.contains(what), "{error}");
    }
    for odd in [
        "shop?watch=1/data",
        "shop/../data",
        "/data",
        "shop/",
        "shop",
        "Shop/data",
        "shop/data?x",
    ] {
        let mut plan = plan();
        let (namespace, name) = odd.split_once('/').unwrap_or((odd, ""));
        let claim = plan.draft.spec.as_mut().unwrap().claim_ref.as_mut().unwrap();
        (claim.namespace, claim.name) = (Some(namespace.into()), Some(name.into()));
        let stored = super::stored::record(plan);
        let error = Record::decode(UID, &other(odd, NAME), &stored.encode()).unwrap_err();
        assert!(error.contains("its claim cannot be"), "{odd}: {error}");
    }
    let mut renamed = plan();
    renamed.draft.metadata.name = Some("pvc-other".into());
    let renamed = super::stored::record(renamed);
    let error = Record::decode(UID, &head, &renamed.encode()).unwrap_err();
    assert!(error.contains("name of the object"), "{error}");
}

#[test]
fn five_thousand_hostnames_are_stored_once() {
    let host = |n: usize| {
        [(
            "topology.disks.example.com/hostname",
            format!("worker-{n:05}.example.com"),
        )]
    };
    let hosts: Vec<Segment> = (0..5_000).map(|n| host(n).into_iter().collect()).collect();
    let requirement = Requirement {
        requisite: hosts.into(),
        start: 4_321,
    };
    let record = record(Plan {
        placement: Some(Placement {
            requirement: Some(requirement),
            node: None,
        }),
        ..plan()
    });
    let bytes = record.encode().len();
    assert!(bytes < 600_000, "{bytes} bytes");
    let back = back(&record).unwrap();
    let sent = |plan: &Arc<Plan>| {
        plan.request_with(BTreeMap::new())
            .accessibility_requirements
            .unwrap()
    };
    assert_eq!(sent(&back.plan), sent(&record.plan));
    assert_eq!(sent(&back.plan).preferred.len(), 5_000);
}

#[test]
fn a_record_says_what_it_is_about_and_whether_its_volume_will_go() {
    let mut plan = plan();
    let head = record(plan.clone()).head();
    assert_eq!((&*head.claim, &*head.volume), ("shop/data", NAME));
    assert!(record(plan.clone()).deletes());
    for policy in [None, Some("Retain".to_owned()), Some("Recycle".to_owned())] {
        plan.draft.spec.as_mut().unwrap().persistent_volume_reclaim_policy = policy;
        assert!(!record(plan.clone()).deletes());
        let [ours, theirs] = [super::stored::plan(), plan.clone()];
        assert!(!record_after(vec![theirs.clone()], ours.clone()).deletes());
        assert!(!record_after(vec![ours], theirs).deletes());
    }
    assert!(record_after(vec![super::stored::plan()], super::stored::plan()).deletes());
}
