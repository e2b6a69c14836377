//! Pure. Azure's file shares.

use k8s_openapi::{
    api::core::v1::{AzureFilePersistentVolumeSource, CSIPersistentVolumeSource, PersistentVolumeSpec},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use super::{Plugin, VolumeTranslationError, class::Becomes};

const RESOURCE_GROUP: &str = "kubernetes.io/azure-file-resource-group";
/// Around the name of the account, in the name of the secret that its key is in.
const SECRET: [&str; 2] = ["azure-storage-account-", "-secret"];
const DEFAULT_NAMESPACE: &str = "default";

pub(super) const PLUGIN: Plugin = Plugin {
    in_tree: "kubernetes.io/azure-file",
    driver: "file.csi.azure.com",
    parameter: |_| Becomes::Same,
    class_zone: None,
    finish_class: |_| {},
    volume_zones: None,
    put_source,
    handle,
};

fn put_source(
    csi: CSIPersistentVolumeSource,
    meta: &mut ObjectMeta,
    spec: &mut PersistentVolumeSpec,
) -> Result<(), VolumeTranslationError> {
    let (mut share, mut secret, mut namespace) = (String::new(), String::new(), None);
    for (key, value) in csi.volume_attributes.unwrap_or_default() {
        match key.to_lowercase().as_str() {
            "sharename" => share = value,
            "secretname" => secret = value,
            "secretnamespace" => namespace = Some(value),
            _ => {}
        }
    }
    if let Some(reference) = csi.node_stage_secret_ref
        && let Some(name) = reference.name.filter(|name| !name.is_empty())
    {
        secret = name;
        namespace = Some(reference.namespace.unwrap_or_default());
    }
    let namespace = namespace.unwrap_or_else(|| DEFAULT_NAMESPACE.to_owned());
    if namespace.is_empty() {
        return Err(VolumeTranslationError::SecretNamespace(secret));
    }
    if share.is_empty() || secret.is_empty() {
        let parts: Vec<_> = csi.volume_handle.split('#').collect();
        let odd = || VolumeTranslationError::Id {
            id: csi.volume_handle.clone(),
            expected: "GROUP#ACCOUNT#SHARE, and the volume attributes name no share or no secret",
        };
        let [group, account, of_handle, ..] = parts.as_slice() else {
            return Err(odd());
        };
        if share.is_empty() {
            share = (*of_handle).to_owned();
        }
        if secret.is_empty() {
            let [before, after] = SECRET;
            secret = format!("{before}{account}{after}");
        }
        if share.is_empty() {
            return Err(odd());
        }
        if !group.is_empty() {
            let annotations = meta.annotations.get_or_insert_default();
            annotations.insert(RESOURCE_GROUP.to_owned(), (*group).to_owned());
        }
    }
    spec.azure_file = Some(AzureFilePersistentVolumeSource {
        read_only: csi.read_only,
        secret_name: secret,
        secret_namespace: Some(namespace),
        share_name: share,
    });
    Ok(())
}

fn handle(meta: &ObjectMeta, spec: &PersistentVolumeSpec) -> Option<Result<String, VolumeTranslationError>> {
    let source = spec.azure_file.as_ref()?;
    let of_claim = || spec.claim_ref.as_ref()?.namespace.as_ref();
    let namespace = source.secret_namespace.as_ref().or_else(of_claim);
    let Some(namespace) = namespace.filter(|namespace| !namespace.is_empty()) else {
        return Some(Err(VolumeTranslationError::NoNamespace));
    };
    let group = meta
        .annotations
        .as_ref()
        .and_then(|notes| notes.get(RESOURCE_GROUP));
    let group = group.map_or("", String::as_str);
    let (account, share) = (account(&source.secret_name), &source.share_name);
    let name = meta.name.as_deref().unwrap_or_default();
    Some(Ok(format!("{group}#{account}#{share}#{name}#{namespace}")))
}

/// The account whose key is in a secret: a name that says nothing of it is the account's own.
fn account(secret: &str) -> &str {
    let [before, after] = SECRET;
    let account = secret
        .split_once(before)
        .and_then(|(_, rest)| Some(rest.rsplit_once(after)?.0));
    account.filter(|account| !account.is_empty()).unwrap_or(secret)
}
