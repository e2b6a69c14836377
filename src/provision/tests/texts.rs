//! What the owner of a claim reads: what happened, to what, why, what to do.

use super::{
    super::{
        refusal::Refusal::{self, *},
        request::ParameterError,
        topology::AllowedTopologiesError,
    },
    decide::snapshot,
};
use crate::{
    base::{names::VolumeNameError, quantity::QuantityError, secrets::SecretError},
    cluster::{migration::ClassTranslationError, source, topology::NodeProblem},
};

#[test]
fn every_refusal_says_what_is_wrong_and_what_to_do() {
    let class = || "fast".to_owned();
    let gone = || NodeProblem::NoCsiNode { node: "n".into() };
    let rows: [(Refusal, &str); 27] = [
        (
            NoClass("fast".into()),
            "storage class \"fast\" not found: create it, or name another one",
        ),
        (
            NoClass(String::new()),
            "the claim names no storage class: set spec.storageClassName",
        ),
        (
            Selector,
            "claim.spec.selector is set: a selector chooses among volumes that exist, make the claim without it",
        ),
        (
            Class(
                "fast".into(),
                ClassTranslationError::Twice("zone".into(), "zones".into()),
            ),
            "storage class \"fast\": parameters zone and zones mean the same: make the class anew with one of them",
        ),
        (
            Class(
                "fast".into(),
                ClassTranslationError::ZonesAndTopologies("zones".into()),
            ),
            "storage class \"fast\": parameter zones and allowedTopologies both say where volumes may be: make the class \
             anew with one of them",
        ),
        (
            CannotCopy(snapshot()),
            "the claim asks for the content of VolumeSnapshot shop/origin, and the driver does not have the capability \
             CREATE_DELETE_SNAPSHOT: make the claim without a data source",
        ),
        (
            CannotCopy(source::Source {
                kind: source::SourceKind::Claim,
                ..snapshot()
            }),
            "the claim asks for the content of PersistentVolumeClaim shop/origin, and the driver does not have the \
             capability CLONE_VOLUME: make the claim without a data source",
        ),
        (
            NoSource(source::NoSource::Populator),
            "Assuming an external populator will provision the volume",
        ),
        (
            CannotModify("silver".into()),
            "the claim asks for VolumeAttributesClass \"silver\", and the driver applies none: it lacks the capability \
             MODIFY_VOLUME, make the claim anew without spec.volumeAttributesClassName",
        ),
        (
            NoAttributesClass("silver".into()),
            "VolumeAttributesClass \"silver\" not found: create it, or make the claim anew with another one",
        ),
        (
            ForeignAttributesClass {
                name: "silver".into(),
                driver: "other".into(),
            },
            "VolumeAttributesClass \"silver\" is for the driver \"other\", which is not the one that makes the volume: \
             make the claim anew with another one",
        ),
        (
            Name(VolumeNameError::NoPrefix),
            "the volume name prefix is empty: set --volume-name-prefix",
        ),
        (
            NameTaken("pvc-0".into()),
            "volume pvc-0 exists already and is for another claim: raise --volume-name-uuid-length of the \
             provisioner",
        ),
        (
            Size(QuantityError::Malformed("much".into())),
            "the claim's storage request: quantity \"much\" is not a number with an optional suffix such as 5Gi, \
             1.5M, 1e9 or 100m",
        ),
        (
            Size(QuantityError::TooLarge("8Ei".into())),
            "the claim's storage request: quantity \"8Ei\" is more than 9223372036854775807 bytes",
        ),
        (
            Parameter(
                class(),
                ParameterError::FsTypeTwice("FSType".into(), "fstype".into()),
            ),
            "storage class \"fast\": parameters FSType and fstype both give the file system type: remove one",
        ),
        (
            Parameter(class(), ParameterError::Unknown("csi.storage.k8s.io/bim".into())),
            "storage class \"fast\": parameter csi.storage.k8s.io/bim is unknown: keys under csi.storage.k8s.io/ are \
             reserved, remove it or correct its name",
        ),
        (
            AccessMode("WriteOnly".into()),
            "access mode \"WriteOnly\" of the claim is unknown: use ReadWriteOnce, ReadWriteOncePod, ReadWriteMany \
             or ReadOnlyMany",
        ),
        (
            Secret(class(), Box::new(SecretError::Twice("a".into(), "b".into()))),
            "storage class \"fast\": parameters a and b mean the same: remove one",
        ),
        (
            Secret(class(), Box::new(SecretError::Empty("a".into()))),
            "storage class \"fast\": parameter a is empty: give it a value, or remove the pair",
        ),
        (
            Node(gone()),
            "node n has no CSINode object: remove the annotation volume.alpha.kubernetes.io/selected-node from the \
             claim, which keeps the scheduler from choosing another node",
        ),
        (
            Node(NodeProblem::NoDriver { node: "n".into() }),
            "the driver is not registered on node n: check that its node plugin runs there",
        ),
        (
            NoTopology,
            "no node has the driver registered with topology keys and a label for each: check that its node plugin \
             runs, and that NodeGetInfo answers with accessible_topology",
        ),
        (
            NotAllowed {
                node: "n".into(),
                segment: "zone=a".into(),
                class: class(),
            },
            "the selected node n is in zone=a, and storage class \"fast\" does not allow volumes there: correct the \
             class's allowedTopologies or the labels of the node",
        ),
        (
            AllowedTopologies(class(), AllowedTopologiesError::Nowhere),
            "storage class \"fast\": its allowedTopologies allow no place at all: each expression needs values, and \
             each key one expression",
        ),
        (
            AllowedTopologies(class(), AllowedTopologiesError::TooMany),
            "storage class \"fast\": its allowedTopologies have more than 10000 combinations: name fewer values",
        ),
        (
            Name(VolumeNameError::NoUid),
            "the claim has no UID to name its volume after",
        ),
    ];
    for (refusal, text) in rows {
        assert_eq!(refusal.to_string(), text);
        assert_eq!(refusal.is_warning(), !text.starts_with("Assuming"), "{text}");
    }
}
