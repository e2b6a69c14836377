//! The driver that the scenarios of topology and capacity stand on keeps its own rules (tests/cluster/driver).

use std::path::Path;

use hyper_util::rt::TokioIo;
use sandbox::driver::proto::{
    CapacityRange, CreateVolumeRequest, DeleteVolumeRequest, GetCapacityRequest,
    GetPluginCapabilitiesRequest, NodeGetInfoRequest, Topology, TopologyRequirement, Volume,
    VolumeCapability, controller_client::ControllerClient, identity_client::IdentityClient,
    node_client::NodeClient,
};
use serde_json::json;
use tokio::net::UnixStream;
use tonic::{
    Code, Status,
    transport::{Channel, Endpoint},
};

use crate::{
    cluster::{Cluster, Rights},
    driver::{Driver, Labels, NodeInfo, Options, Segment, Upset},
    world::World,
};

const GIB: i64 = 1 << 30;

/// The wrapped driver and the protocol; no sidecar has a part in it.
pub(crate) async fn keeps_its_segments(cluster: &'static Cluster) {
    let world = World::new(cluster, "placing", Rights::Ours).await;
    let [a, b] = ["a", "b"].map(|zone| world.labels([("zone", zone)]));
    let node = world.node_name("a");
    let mut options = Options {
        segments: vec![
            Segment {
                labels: a.clone(),
                bytes: Some(3 * GIB),
                volumes: None,
            },
            Segment {
                labels: b.clone(),
                bytes: None,
                volumes: Some(1),
            },
        ],
        node: Some(NodeInfo {
            id: node.clone(),
            labels: a.clone(),
            ..NodeInfo::default()
        }),
        ..Options::default()
    };
    let driver = Driver::with(&world, options.clone()).await;
    let channel = dial(&driver.socket).await;
    let mut caller = Caller(ControllerClient::new(channel.clone()));

    let said = IdentityClient::new(channel.clone())
        .get_plugin_capabilities(GetPluginCapabilitiesRequest {})
        .await
        .unwrap();
    assert!(
        format!("{said:?}").contains("VolumeAccessibilityConstraints"),
        "{said:?}"
    );
    let info = NodeClient::new(channel)
        .node_get_info(NodeGetInfoRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!((info.node_id, info.accessible_topology), (node, Some(term(&a))));

    assert_eq!(caller.room(&a).await, 3 * GIB);
    // The first preferred term, and the same again for the same name.
    let first = caller.create("first", 2, &[&a, &b], &[&a, &b]).await.unwrap();
    assert_eq!(first.accessible_topology, [term(&a)]);
    // Drivers on several nodes count for themselves.
    assert!(first.volume_id.starts_with(&world.node_name("a")), "{first:?}");
    let again = caller.create("first", 2, &[&a, &b], &[&b]).await.unwrap();
    assert_eq!(again, first);
    assert_eq!(caller.room(&a).await, GIB);
    // The next one with room.
    let second = caller.create("second", 2, &[&a, &b], &[&a, &b]).await.unwrap();
    assert_eq!(second.accessible_topology, [term(&b)]);
    assert_eq!(caller.room(&b).await, 0);
    let refused = caller.create("third", 2, &[&a, &b], &[&a, &b]).await;
    assert_eq!(refused.unwrap_err().code(), Code::ResourceExhausted);
    // What is deleted makes room.
    caller.delete(&first).await;
    assert_eq!(caller.room(&a).await, 3 * GIB);

    options.script = vec![Upset {
        method: "CreateVolume".into(),
        code: "RESOURCE_EXHAUSTED".into(),
        nth: 2,
        when: Some(Upset::in_place(&a)),
        ..Upset::default()
    }];
    options.segments[1].volumes = None;
    driver.configure(&options);
    let mut codes = Vec::new();
    for (name, preferred) in [("v0", &a), ("v1", &b), ("v2", &a), ("v3", &a)] {
        let made = caller.create(name, 1, &[&a, &b], &[preferred]).await;
        codes.push(made.err().map_or(Code::Ok, |status| status.code()));
    }
    assert_eq!(codes, [Code::Ok, Code::Ok, Code::ResourceExhausted, Code::Ok]);

    let asked = &driver.calls_of("GetCapacity")[0];
    assert_eq!(asked.request["accessible_topology"]["segments"], json!(a));
    let requirement = &driver.calls_of("CreateVolume")[0].request["accessibility_requirements"];
    assert_eq!(
        requirement["preferred"],
        json!([{"segments": a}, {"segments": b}])
    );
}

struct Caller(ControllerClient<Channel>);

impl Caller {
    async fn create(
        &mut self,
        name: &str,
        gib: i64,
        requisite: &[&Labels],
        preferred: &[&Labels],
    ) -> Result<Volume, Status> {
        let terms = |labels: &[&Labels]| labels.iter().map(|labels| term(labels)).collect();
        let request = CreateVolumeRequest {
            name: name.to_owned(),
            capacity_range: Some(CapacityRange {
                required_bytes: gib * GIB,
                limit_bytes: 0,
            }),
            volume_capabilities: vec![VolumeCapability::default()],
            accessibility_requirements: Some(TopologyRequirement {
                requisite: terms(requisite),
                preferred: terms(preferred),
            }),
            ..Default::default()
        };
        Ok(self.0.create_volume(request).await?.into_inner().volume.unwrap())
    }

    async fn delete(&mut self, volume: &Volume) {
        let request = DeleteVolumeRequest {
            volume_id: volume.volume_id.clone(),
            ..Default::default()
        };
        self.0.delete_volume(request).await.unwrap();
    }

    async fn room(&mut self, labels: &Labels) -> i64 {
        let request = GetCapacityRequest {
            accessible_topology: Some(term(labels)),
            ..Default::default()
        };
        self.0
            .get_capacity(request)
            .await
            .unwrap()
            .into_inner()
            .available_capacity
    }
}

fn term(labels: &Labels) -> Topology {
    Topology {
        segments: labels.clone(),
    }
}

async fn dial(socket: &Path) -> Channel {
    let socket = socket.to_owned();
    // The address is not looked at.
    Endpoint::from_static("http://driver")
        .connect_with_connector(tower::service_fn(move |_| {
            let socket = socket.clone();
            async move { UnixStream::connect(socket).await.map(TokioIo::new) }
        }))
        .await
        .unwrap()
}
