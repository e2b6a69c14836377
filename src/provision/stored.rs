//! Pure. A record as it is stored in the ledger: what was asked for and the object that is to come of it, no secret.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::api::core::v1::PersistentVolume;
use prost::Message;

use super::{
    plan::Plan,
    record::Record,
    settle::Doubt,
    topology::{Placement, Requirement, SelectedNode},
};
use crate::{
    base::{
        names::{check_label, check_subdomain},
        secrets::SecretRef,
    },
    cluster::source::{Source, SourceKind},
    csi::proto::{CreateVolumeRequest, Topology},
    ledger::{RecordHead, Storable},
};

/// The fields of a [`Plan`], and the plans that a record has besides. A later version may add fields, which are ignored here, and must not change any.
#[derive(Clone, PartialEq, Message)]
struct StoredPlan {
    /// Without secrets, and without the topology, which is [`StoredRequirement`].
    #[prost(message, optional, tag = "1")]
    request: Option<CreateVolumeRequest>,
    /// A PersistentVolume as JSON.
    #[prost(string, tag = "2")]
    draft: String,
    #[prost(message, optional, tag = "3")]
    secret: Option<StoredSecretRef>,
    #[prost(message, optional, tag = "4")]
    placement: Option<StoredPlacement>,
    #[prost(string, tag = "5")]
    class_label: String,
    #[prost(string, tag = "6")]
    source_label: String,
    #[prost(string, tag = "7")]
    class_uid: String,
    #[prost(message, optional, tag = "9")]
    source: Option<StoredSource>,
    /// What was sent before, the next to be repeated first. These have none themselves.
    #[prost(message, repeated, tag = "8")]
    earlier: Vec<StoredPlan>,
    /// Written last: a message that was cut between two fields is a message, too.
    #[prost(bool, tag = "15")]
    is_whole: bool,
}

#[derive(Clone, PartialEq, Message)]
struct StoredSource {
    /// A PersistentVolumeClaim, not a VolumeSnapshot.
    #[prost(bool, tag = "1")]
    is_claim: bool,
    #[prost(string, tag = "2")]
    namespace: String,
    #[prost(string, tag = "3")]
    name: String,
}

#[derive(Clone, PartialEq, Message)]
struct StoredSecretRef {
    #[prost(string, tag = "1")]
    namespace: String,
    #[prost(string, tag = "2")]
    name: String,
}

#[derive(Clone, PartialEq, Message)]
struct StoredPlacement {
    #[prost(message, optional, tag = "1")]
    requirement: Option<StoredRequirement>,
    #[prost(message, optional, tag = "2")]
    node: Option<StoredNode>,
}

/// `preferred` is `requisite` from `start` on, and then what comes before.
#[derive(Clone, PartialEq, Message)]
struct StoredRequirement {
    #[prost(message, repeated, tag = "1")]
    requisite: Vec<Topology>,
    #[prost(uint32, tag = "2")]
    start: u32,
}

#[derive(Clone, PartialEq, Message)]
struct StoredNode {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "2")]
    segment: Option<Topology>,
}

impl Storable for Record {
    fn head(&self) -> RecordHead {
        RecordHead {
            claim: self.key.clone(),
            volume: self.plan.request.name.clone(),
        }
    }

    fn encode(&self) -> Vec<u8> {
        let earlier = self.earlier.iter().map(|plan| StoredPlan::from(&**plan));
        let stored = StoredPlan {
            earlier: earlier.collect(),
            ..StoredPlan::from(&*self.plan)
        };
        stored.encode_to_vec()
    }

    fn decode(claim_uid: &str, head: &RecordHead, stored: &[u8]) -> Result<Self, String> {
        let mut stored = StoredPlan::decode(stored).map_err(|error| error.to_string())?;
        let earlier = std::mem::take(&mut stored.earlier);
        let read = |stored| {
            let plan = Plan::try_from(stored)?;
            agree(claim_uid, head, &plan)?;
            Ok::<_, String>(plan)
        };
        let plan = read(stored)?;
        let earlier = earlier.into_iter().map(|stored| read(stored).map(Arc::new));
        Ok(Self {
            earlier: earlier.collect::<Result<_, _>>()?,
            ..Self::inherited(claim_uid, &head.claim, plan)
        })
    }

    fn taken_over(self: &Arc<Self>) -> Arc<Self> {
        Arc::new(Self {
            doubt: Doubt::FRESH,
            renewable: false,
            ..Self::clone(self)
        })
    }

    fn deletes(&self) -> bool {
        self.plans().all(|plan| {
            let spec = plan.draft.spec.as_ref();
            spec.and_then(|spec| spec.persistent_volume_reclaim_policy.as_deref()) == Some("Delete")
        })
    }
}

/// What was put together from parts of two records, by hand, would make one claim's volume the other's.
fn agree(claim_uid: &str, head: &RecordHead, plan: &Plan) -> Result<(), String> {
    // It goes into the path of a request.
    let (namespace, claim) = head.claim.split_once('/').unwrap_or_default();
    check_label(namespace)
        .and_then(|()| check_subdomain(claim))
        .map_err(|error| format!("its claim cannot be: {error}"))?;
    let name = &plan.request.name;
    let claim = plan.draft.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref());
    let of = |part: Option<&String>| part.map(String::as_str).unwrap_or_default().to_owned();
    let key = claim.map(|claim| format!("{}/{}", of(claim.namespace.as_ref()), of(claim.name.as_ref())));
    let facts = [
        ("volume of the head", &*head.volume, Some(name.clone())),
        ("name of the object", &**name, plan.draft.metadata.name.clone()),
        ("claim of the head", &*head.claim, key),
        (
            "UID of the claim",
            claim_uid,
            claim.map(|claim| of(claim.uid.as_ref())),
        ),
    ];
    match facts
        .into_iter()
        .find(|(_, one, other)| other.as_deref() != Some(*one))
    {
        Some((what, ..)) => Err(format!("its parts do not agree on the {what}")),
        None if name.is_empty() => Err("it names no volume".to_owned()),
        None => Ok(()),
    }
}

impl From<&Plan> for StoredPlan {
    fn from(plan: &Plan) -> Self {
        let Plan {
            request,
            placement,
            secret,
            draft,
            class_label,
            source_label,
            source,
            class_uid,
        } = plan;
        Self {
            request: Some(CreateVolumeRequest {
                secrets: BTreeMap::new(),
                accessibility_requirements: None,
                ..request.clone()
            }),
            // There is nothing in a PersistentVolume that is no JSON; without it the record could not be decoded.
            draft: serde_json::to_string(draft).unwrap_or_default(),
            secret: secret
                .clone()
                .map(|SecretRef { namespace, name }| StoredSecretRef { namespace, name }),
            placement: placement.as_ref().map(StoredPlacement::from),
            class_label: class_label.clone(),
            source_label: source_label.clone(),
            class_uid: class_uid.clone(),
            source: source.as_ref().map(
                |Source {
                     kind,
                     namespace,
                     name,
                 }| StoredSource {
                    is_claim: *kind == SourceKind::Claim,
                    namespace: namespace.clone(),
                    name: name.clone(),
                },
            ),
            earlier: Vec::new(),
            is_whole: true,
        }
    }
}

impl TryFrom<StoredPlan> for Plan {
    type Error = String;

    fn try_from(stored: StoredPlan) -> Result<Self, String> {
        let StoredPlan {
            request,
            draft,
            secret,
            placement,
            class_label,
            source_label,
            class_uid,
            source,
            earlier,
            is_whole,
        } = stored;
        if !is_whole {
            return Err("it was cut off".to_owned());
        }
        if !earlier.is_empty() {
            return Err("an earlier request has earlier ones".to_owned());
        }
        let draft: PersistentVolume =
            serde_json::from_str(&draft).map_err(|error| format!("its PersistentVolume: {error}"))?;
        Ok(Self {
            request: request.ok_or("it has no request")?,
            placement: placement.map(Placement::try_from).transpose()?,
            secret: secret.map(|StoredSecretRef { namespace, name }| SecretRef { namespace, name }),
            draft,
            class_label,
            source_label,
            class_uid,
            source: source.map(Source::from),
        })
    }
}

impl From<StoredSource> for Source {
    fn from(
        StoredSource {
            is_claim,
            namespace,
            name,
        }: StoredSource,
    ) -> Self {
        let kind = match is_claim {
            true => SourceKind::Claim,
            false => SourceKind::Snapshot,
        };
        Self {
            kind,
            namespace,
            name,
        }
    }
}

impl From<&Placement> for StoredPlacement {
    fn from(Placement { requirement, node }: &Placement) -> Self {
        let requirement = requirement.as_ref().map(|requirement| StoredRequirement {
            requisite: requirement.requisite.iter().map(Into::into).collect(),
            // A request has 10,000 terms at most.
            start: u32::try_from(requirement.start).unwrap_or_default(),
        });
        let node = node.as_ref().map(|SelectedNode { name, segment }| StoredNode {
            name: name.clone(),
            segment: Some(segment.into()),
        });
        Self { requirement, node }
    }
}

impl TryFrom<StoredPlacement> for Placement {
    type Error = String;

    fn try_from(StoredPlacement { requirement, node }: StoredPlacement) -> Result<Self, String> {
        let requirement = match requirement {
            None => None,
            Some(StoredRequirement { requisite, start }) => {
                let start = usize::try_from(start).unwrap_or(usize::MAX);
                if start > 0 && start >= requisite.len() {
                    return Err("its preferred topology begins behind the last term".to_owned());
                }
                let requisite: Arc<[_]> = requisite.into_iter().map(|term| term.segments.into()).collect();
                Some(Requirement { requisite, start })
            }
        };
        let node = node.map(|StoredNode { name, segment }| SelectedNode {
            name,
            segment: segment.unwrap_or_default().segments.into(),
        });
        Ok(Self { requirement, node })
    }
}
