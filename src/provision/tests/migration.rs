//! Claims and classes of the in-tree plugin that the driver took over from.

use k8s_openapi::api::core::v1::PersistentVolume;
use serde_json::{Value, json};

use super::{
    super::{
        decide::{Leave, concerns},
        outcome::{
            CreateOutcome::{Created, Unusable},
            Mismatch, object_of, outcome_of,
        },
        record::Record,
        refusal::Refusal,
        volume::{written, written_source},
    },
    *,
};
use crate::{
    cluster::{
        migration::ClassTranslationError,
        objects::{MIGRATED_TO, PROVISIONER_BETA},
    },
    csi::proto::{CreateVolumeResponse, Topology, Volume},
    ledger::Storable,
};

const EBS: &str = "ebs.csi.aws.com";
const PLUGIN: &str = "kubernetes.io/aws-ebs";
const ZONE: &str = "topology.ebs.csi.aws.com/zone";

/// A claim of a class of the plugin, beside the driver that took over.
fn migrated() -> World {
    let mut world = World::on(&[("topology.ebs.csi.aws.com/zone=us-east-1a", ZONE)]);
    world.driver.name = EBS.into();
    world.claim.annotations = map(&[(PROVISIONER, EBS)]);
    let class = world.class();
    class.provisioner = PLUGIN.into();
    class.parameters = map(&[("type", "gp3"), ("fsType", "xfs")]);
    world
}

fn made(zone: &str) -> Volume {
    Volume {
        volume_id: "vol-1".into(),
        accessible_topology: vec![Topology {
            segments: map(&[(ZONE, zone)]),
        }],
        ..Volume::default()
    }
}

fn json(volume: &PersistentVolume) -> Value {
    serde_json::to_value(volume).unwrap()
}

#[test]
fn a_claim_gets_the_volume_that_its_class_names_as_upstream_decides() {
    // Whether the volume becomes the plugin's. None: it is left alone.
    type Row = (&'static str, Pairs, &'static str, Option<bool>);
    let rows: &[Row] = &[
        (
            "ctl.ProvisionWithMigration.01",
            &[(PROVISIONER_BETA, EBS)],
            PLUGIN,
            Some(true),
        ),
        (
            "ctl.ProvisionWithMigration.02",
            &[(PROVISIONER, EBS)],
            PLUGIN,
            Some(true),
        ),
        (
            "ctl.ProvisionWithMigration.03",
            &[(PROVISIONER_BETA, EBS)],
            EBS,
            Some(false),
        ),
        (
            "ctl.ProvisionWithMigration.04",
            &[(PROVISIONER, EBS)],
            EBS,
            Some(false),
        ),
        (
            "ctl.ProvisionWithMigration.05",
            &[(PROVISIONER_BETA, PLUGIN), (MIGRATED_TO, EBS)],
            PLUGIN,
            Some(true),
        ),
        (
            "ctl.ProvisionWithMigration.06",
            &[(PROVISIONER_BETA, PLUGIN), (MIGRATED_TO, "foo")],
            PLUGIN,
            None,
        ),
        (
            "ctl.ProvisionWithMigration.07",
            &[(PROVISIONER_BETA, "foo"), (MIGRATED_TO, "foo")],
            PLUGIN,
            None,
        ),
        (
            "ctl.ProvisionWithMigration.08",
            &[(PROVISIONER_BETA, EBS), (MIGRATED_TO, EBS)],
            PLUGIN,
            Some(true),
        ),
        (
            "ctl.ProvisionWithMigration.09",
            &[(PROVISIONER_BETA, PLUGIN)],
            PLUGIN,
            None,
        ),
        (
            "lib.ShouldProvision.02",
            &[(PROVISIONER, PLUGIN), (MIGRATED_TO, EBS)],
            EBS,
            Some(false),
        ),
        ("lib.Controller.04", &[(PROVISIONER, EBS)], PLUGIN, Some(true)),
    ];
    for (id, annotations, class, expected) in rows {
        let mut world = migrated();
        world.claim.annotations = map(annotations);
        world.class().provisioner = (*class).into();
        assert_eq!(concerns(&world.claim, EBS), expected.is_some(), "{id}");
        let plan = match (world.decide(), expected) {
            (Decision::Provision(plan), Some(_)) => *plan,
            (decision, None) => {
                assert_eq!(decision, Leave::NotOurs.into(), "{id}");
                continue;
            }
            (decision, _) => panic!("{id}: {decision:?}"),
        };
        assert_eq!(Some(plan.is_migrated()), *expected, "{id}");
        let response = CreateVolumeResponse {
            volume: Some(made("us-east-1a")),
        };
        let Created(object) = outcome_of(&plan, Ok(response)) else {
            panic!("{id}: no volume");
        };
        let spec = json(&written(&object))["spec"].clone();
        assert_eq!(Some(!spec["awsElasticBlockStore"].is_null()), *expected, "{id}");
        assert_eq!(Some(spec["csi"].is_null()), *expected, "{id}");
    }
}

#[test]
fn the_driver_gets_the_translated_class_and_the_object_the_plugins_words() {
    let plan = migrated().plan();
    assert_eq!(plan.request.parameters, map(&[("type", "gp3")]));
    let object = object_of(&plan, &made("us-east-1a"));
    assert_eq!(json(&object)["spec"]["csi"]["fsType"], "xfs");
    let object = json(&written(&object));
    assert_eq!(
        object["metadata"],
        json!({
            "name": NAME,
            "annotations": {
                "pv.kubernetes.io/provisioned-by": PLUGIN,
                "volume.kubernetes.io/provisioner-deletion-secret-name": "",
                "volume.kubernetes.io/provisioner-deletion-secret-namespace": "",
            },
            "finalizers": ["external-provisioner.volume.kubernetes.io/finalizer"],
            "labels": {
                "topology.kubernetes.io/region": "us-east-1",
                "topology.kubernetes.io/zone": "us-east-1a",
            },
        })
    );
    assert_eq!(
        object["spec"]["awsElasticBlockStore"],
        json!({"volumeID": "vol-1", "fsType": "xfs"})
    );
    let terms = &object["spec"]["nodeAffinity"]["required"]["nodeSelectorTerms"];
    let keys = terms[0]["matchExpressions"].as_array().unwrap().iter();
    let keys: Vec<_> = keys.map(|it| it["key"].as_str().unwrap()).collect();
    assert_eq!(
        keys,
        ["topology.kubernetes.io/zone", "topology.kubernetes.io/region"]
    );
}

#[test]
fn zones_of_the_class_become_the_requirement() {
    let mut world = migrated();
    world.parameters(&[("zones", "us-east-1a,us-east-1b")]);
    let request = world.plan().request_with(BTreeMap::new());
    let zones = request.accessibility_requirements.unwrap().requisite;
    let zones: Vec<_> = zones.iter().map(|it| it.segments[ZONE].as_str()).collect();
    assert_eq!(zones, ["us-east-1a", "us-east-1b"]);
}

#[test]
fn a_class_that_cannot_be_translated_is_refused_before_the_driver_is_asked() {
    let mut world = migrated();
    world.parameters(&[("zone", "us-east-1a"), ("zones", "us-east-1a")]);
    let twice = ClassTranslationError::Twice("zone".into(), "zones".into());
    assert_eq!(world.decide(), Refusal::Class("fast".into(), twice).into());
    world.class().provisioner = EBS.into();
    assert!(
        matches!(world.decide(), Decision::Provision(_)),
        "the driver judges its own parameters"
    );
}

#[test]
fn d14_d70_a_volume_without_words_for_it_is_unusable_and_keeps_its_csi_source() {
    let plan = migrated().plan();
    let response = CreateVolumeResponse {
        volume: Some(made("outpost")),
    };
    let Unusable(volume, mismatch) = outcome_of(&plan, Ok(response)) else {
        panic!("there is no region");
    };
    assert_eq!(volume, made("outpost"));
    assert!(mismatch.is_lasting() && matches!(mismatch, Mismatch::NotInTree { plugin: PLUGIN, .. }));
    assert_eq!(
        mismatch.to_string(),
        "created volume cannot be a volume of kubernetes.io/aws-ebs, which its class asks for: the zone \"outpost\" has no \
         region: expected is a zone like us-east-1a; make the claim with a class that asks for the CSI driver itself"
    );
    let object = object_of(&plan, &volume);
    assert_eq!(*written(&object), object);
    assert_eq!(written_source(&object).unwrap().handle, "vol-1");
    let other = Mismatch::TooSmall { got: 1, wanted: 2 };
    assert!(!other.is_lasting());
}

#[test]
fn the_stored_record_alone_tells_that_the_volume_becomes_the_plugins() {
    let plan = migrated().plan();
    let record = Record::inherited(UID, "shop/data", plan);
    let back = Record::decode(UID, &record.head(), &record.encode()).unwrap();
    let object = object_of(&back.plan, &made("us-east-1a"));
    assert!(back.plan.is_migrated() && json(&written(&object))["spec"]["csi"].is_null());
}
