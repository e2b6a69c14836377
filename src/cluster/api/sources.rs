//! The objects that volumes are made from, and the finalizers that keep them meanwhile.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ListMeta;
use kube::{api::ListParams, core::Request};
use serde::{Deserialize, de::IgnoredAny};
use serde_json::Value;

use super::{ApiClient, claims::CLAIMS, raw::Collection};
use crate::{
    base::api_error::ApiError,
    cluster::{
        active::Active,
        finalizers,
        source::{SNAPSHOT_GROUP, Source, SourceKind},
    },
};

const SNAPSHOTS: Collection = Collection {
    group: SNAPSHOT_GROUP,
    kind: "VolumeSnapshot",
    plural: "volumesnapshots",
};

/// Objects of one page of a list.
const PAGE: u32 = 500;

/// A source as the API server has it at this moment.
#[derive(Debug)]
pub struct LiveSource {
    source: Source,
    raw: Value,
}

/// A source that our finalizer is on.
#[derive(Debug)]
pub struct ProtectedSource {
    /// What it is.
    pub source: Source,
    /// `metadata.deletionTimestamp` is set.
    pub deleting: bool,
}

#[derive(Deserialize)]
struct SourcePage {
    #[serde(default)]
    metadata: ListMeta,
    items: Vec<ListedSource>,
}

#[derive(Deserialize)]
struct ListedSource {
    metadata: ListedMeta,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListedMeta {
    namespace: String,
    name: String,
    #[serde(default)]
    deletion_timestamp: Option<IgnoredAny>,
    #[serde(default)]
    finalizers: Option<Vec<String>>,
}

impl LiveSource {
    /// Whether our finalizer is on it.
    pub fn is_protected(&self) -> bool {
        finalizers::has(&self.raw, self.source.kind.finalizer())
    }

    /// Whether it is being deleted: the API server takes no new finalizer then.
    pub fn is_deleting(&self) -> bool {
        !self.raw["metadata"]["deletionTimestamp"].is_null()
    }

    /// `metadata.uid`
    pub fn uid(&self) -> &str {
        self.raw["metadata"]["uid"].as_str().unwrap_or_default()
    }

    /// The VolumeSnapshotContent or the PersistentVolume that it is bound to.
    pub fn bound_to(&self) -> Option<&str> {
        let name = match self.source.kind {
            SourceKind::Snapshot => &self.raw["status"]["boundVolumeSnapshotContentName"],
            SourceKind::Claim => &self.raw["spec"]["volumeName"],
        };
        name.as_str().filter(|name| !name.is_empty())
    }
}

impl ApiClient {
    /// The source as it is at this moment.
    ///
    /// # Errors
    /// [`ApiError`]; one that does not exist is `Ok(None)`.
    pub async fn live_source(&self, source: &Source) -> Result<Option<LiveSource>, ApiError> {
        let Source {
            kind,
            namespace,
            name,
        } = source;
        let raw = match kind {
            // Whoever restores one may get it.
            SourceKind::Snapshot => self.get_raw(&SNAPSHOTS, namespace, name).await?,
            SourceKind::Claim => self.read_raw(&CLAIMS, namespace, name).await?,
        };
        Ok(raw.map(|raw| LiveSource {
            source: source.clone(),
            raw,
        }))
    }

    /// Puts our finalizer on the source, or takes it off. Nothing else of it is changed. Returns whether it was sent: not
    /// by who does not lead any more.
    ///
    /// # Errors
    /// [`ApiError`]; `Conflict` when somebody else has written it since it was read.
    pub async fn protect_source(
        &self,
        LiveSource { source, mut raw }: LiveSource,
        protect: bool,
        active: &Active,
    ) -> Result<bool, ApiError> {
        let Source {
            kind,
            namespace,
            name,
        } = &source;
        match protect {
            true => finalizers::add(&mut raw, kind.finalizer()),
            false => finalizers::remove(&mut raw, kind.finalizer()),
        }
        let written = self.put_raw(of(*kind), namespace, name, &raw, active).await?;
        Ok(written.is_some())
    }

    /// Every source of this kind that our finalizer is on, in all namespaces, whatever driver it is of.
    ///
    /// # Errors
    /// [`ApiError`]; `NotFound` where the server does not know the kind.
    pub async fn protected_sources(&self, kind: SourceKind) -> Result<Vec<ProtectedSource>, ApiError> {
        let of = of(kind);
        let mut params = ListParams::default().limit(PAGE);
        let mut protected = Vec::new();
        loop {
            let request = Request::new(of.path_of_all())
                .list(&params)
                .map_err(|error| ApiError::odd("list", of.plural, "", &error.to_string()))?;
            let page = self.client.request::<SourcePage>(request);
            let page = self.ask("list", of.group, of.plural, "", page).await?;
            let ours = page.items.into_iter().filter(|ListedSource { metadata }| {
                let mut finalizers = metadata.finalizers.iter().flatten();
                finalizers.any(|it| it == kind.finalizer())
            });
            protected.extend(ours.map(|ListedSource { metadata }| ProtectedSource {
                deleting: metadata.deletion_timestamp.is_some(),
                source: Source {
                    kind,
                    namespace: metadata.namespace,
                    name: metadata.name,
                },
            }));
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => params = params.continue_token(&token),
                None => return Ok(protected),
            }
        }
    }
}

fn of(kind: SourceKind) -> &'static Collection {
    match kind {
        SourceKind::Snapshot => &SNAPSHOTS,
        SourceKind::Claim => &CLAIMS,
    }
}
