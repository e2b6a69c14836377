//! A source in another namespace, on an API server that knows such sources.

use std::time::Duration;

use kube::{
    Api,
    api::PostParams,
    core::{ApiResource, DynamicObject, GroupVersionKind},
};
use serde_json::json;

use crate::{
    audit,
    cluster::{Cluster, Rights},
    driver::Driver,
    sidecar::{Sidecar, under_test},
    world::{SOON, World, eventually},
};

/// A clone begins when a ReferenceGrant allows it. The driver gives it an id of its own: what it was asked for tells.
pub(crate) async fn a_clone_needs_a_grant(cluster: &'static Cluster) {
    const COMPONENTS: &[&str] = &["cross-namespace"];
    let world = World::new(cluster, "borrows", Rights::OursWith(COMPONENTS)).await;
    let lends = World::new(cluster, "lends", Rights::Ours).await;
    let driver = Driver::start(&world, Duration::ZERO).await;
    let class = world.class("standard", &driver.name, json!({})).await;
    let flags = ["--feature-gates=CrossNamespaceVolumeDataSource=true"];
    let _sidecar = Sidecar::start(&world, under_test(), &driver, "sidecar-0", &flags).await;

    lends.claim("origin", &class).await;
    let origin = lends.bound("origin", SOON).await;
    let handle = origin.spec.unwrap().csi.unwrap().volume_handle;
    let source = json!({"kind": "PersistentVolumeClaim", "name": "origin", "namespace": lends.namespace});
    world
        .claim_with("copy", &class, json!({"dataSourceRef": source}))
        .await;
    let words = "no ReferenceGrant there allows that";
    world.event("copy", "ProvisioningFailed", 1, words).await;
    assert_eq!(driver.calls_of("CreateVolume").len(), 1, "the origin's");

    let kind = GroupVersionKind::gvk("gateway.networking.k8s.io", "v1beta1", "ReferenceGrant");
    let kind = ApiResource::from_gvk(&kind);
    let grants = Api::<DynamicObject>::namespaced_with(lends.client.clone(), &lends.namespace, &kind);
    let spec = json!({
        "from": [{"group": "", "kind": "PersistentVolumeClaim", "namespace": world.namespace}],
        "to": [{"group": "", "kind": "PersistentVolumeClaim"}],
    });
    let grant = DynamicObject::new("shared", &kind).data(json!({"spec": spec}));
    grants.create(&PostParams::default(), &grant).await.unwrap();
    eventually("the driver is asked for a clone", SOON, async || {
        let creations = driver.calls_of("CreateVolume");
        let of_origin = |source: String| source.contains(&handle);
        let is_asked = creations
            .iter()
            .any(|call| of_origin(call.request["volume_content_source"].to_string()));
        if is_asked {
            Ok(())
        } else {
            Err(format!("{creations:?}"))
        }
    })
    .await;
    world.delete_claim("copy").await;
    audit::component_is_used(&world, COMPONENTS).await;
    audit::assert_nothing_denied(&world);
}
