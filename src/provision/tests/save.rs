//! The second half of a creation: whose object stands, and which secrets are worth waiting for.

use std::time::Duration;

use k8s_openapi::api::core::v1::{CSIPersistentVolumeSource, PersistentVolume, PersistentVolumeSpec};

use super::super::{credentials::SecretUnavailable, finish::is_object_of};
use crate::{
    base::api_error::{ApiError, Reason},
    cluster::objects::{CsiSource, Volume},
};

#[test]
fn an_object_of_the_same_name_is_ours_only_for_the_same_volume_of_the_same_driver() {
    let created = PersistentVolume {
        spec: Some(PersistentVolumeSpec {
            csi: Some(CSIPersistentVolumeSource {
                driver: "drv".into(),
                volume_handle: "vol-1".into(),
                ..CSIPersistentVolumeSource::default()
            }),
            ..PersistentVolumeSpec::default()
        }),
        ..PersistentVolume::default()
    };
    let rows = [
        ("the same volume", Some(("drv", "vol-1")), true),
        ("another volume", Some(("drv", "vol-2")), false),
        (
            "another driver's volume of that id",
            Some(("other", "vol-1")),
            false,
        ),
        ("no CSI volume", None, false),
    ];
    for (name, csi, ours) in rows {
        let standing = Volume {
            csi: csi.map(|(driver, handle)| CsiSource {
                driver: driver.into(),
                handle: handle.into(),
            }),
            ..Volume::default()
        };
        assert_eq!(is_object_of(&standing, &created), ours, "{name}");
    }
    let empty = PersistentVolume::default();
    assert!(
        !is_object_of(&Volume::default(), &empty),
        "nothing is known of either"
    );
}

#[test]
fn an_object_of_an_in_tree_plugin_is_ours_under_the_id_that_it_is_read_with() {
    let created = |zone: &str| {
        let terms = serde_json::json!([{"matchExpressions":
            [{"key": "topology.gke.io/zone", "operator": "In", "values": [zone]}]}]);
        let created = serde_json::json!({
            "metadata": {"name": "pv", "annotations": {"pv.kubernetes.io/provisioned-by": "kubernetes.io/gce-pd"}},
            "spec": {
                "csi": {"driver": "pd.csi.storage.gke.io", "volumeHandle": "projects/p/zones/us-east1-a/disks/d"},
                "nodeAffinity": {"required": {"nodeSelectorTerms": terms}},
            },
        });
        serde_json::from_value::<PersistentVolume>(created).unwrap()
    };
    let standing = |handle: &str| Volume {
        csi: Some(CsiSource {
            driver: "pd.csi.storage.gke.io".into(),
            handle: handle.into(),
        }),
        ..Volume::default()
    };
    let rows = [
        (
            "us-east1-a",
            "projects/UNSPECIFIED/zones/us-east1-a/disks/d",
            true,
        ),
        (
            "us-east1-a",
            "projects/UNSPECIFIED/zones/us-east1-a/disks/e",
            false,
        ),
        ("us-east1-a", "projects/p/zones/us-east1-a/disks/d", false),
        // It keeps its CSI source.
        ("nowhere", "projects/p/zones/us-east1-a/disks/d", true),
    ];
    for (zone, handle, ours) in rows {
        assert_eq!(
            is_object_of(&standing(handle), &created(zone)),
            ours,
            "{zone}: {handle}"
        );
    }
}

#[test]
fn only_a_secret_that_is_gone_or_forbidden_lets_a_creation_without_a_claim_go_on() {
    let api = |reason| {
        let text = "no".to_owned();
        SecretUnavailable::Api(ApiError::new(reason, "get", "", "secrets", "ns/key", text))
    };
    let rows = [
        ("missing", SecretUnavailable::Missing("ns/key".into()), true),
        ("forbidden", api(Reason::Forbidden), true),
        ("our token has expired", api(Reason::Unauthorized), false),
        ("no text", api(Reason::Invalid), false),
        ("no answer", api(Reason::Unavailable), false),
        (
            "too many requests",
            api(Reason::TooManyRequests(Duration::from_secs(1))),
            false,
        ),
    ];
    for (name, error, gone) in rows {
        assert_eq!(error.is_refusal(), gone, "{name}");
    }
}
