//! The driver with segments: where volumes go, how much room is left, who asks for what it does not have.

#![allow(missing_docs, reason = "the names of the tests say it")]

use std::{collections::BTreeMap, time::Duration};

use hyper_util::rt::TokioIo;
use sandbox::{
    Driver,
    driver::proto::{self, controller_client::ControllerClient, node_client::NodeClient},
    driver::{Capability, Segment, Trouble},
};
use tonic::{Code, Status, transport::Channel};

fn channel(driver: &Driver) -> Channel {
    let driver = driver.clone();
    let endpoint = tonic::transport::Endpoint::from_static("http://localhost");
    endpoint.connect_with_connector_lazy(tower::service_fn(move |_: http::Uri| {
        let pipe = driver.connect().map(TokioIo::new);
        async move { pipe }
    }))
}

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

fn terms(zones: &[&str]) -> Vec<proto::Topology> {
    let term = |zone: &&str| proto::Topology {
        segments: map(&[("zone", zone)]),
    };
    zones.iter().map(term).collect()
}

/// Two zones, room for 5 and 10 bytes.
fn zones() -> Driver {
    let driver = Driver::new("d.example.com");
    driver.segment(Segment::new(&[("zone", "a")], Some(5)));
    driver.segment(Segment::new(&[("zone", "b")], Some(10)));
    driver
}

async fn create(
    driver: &Driver,
    name: &str,
    bytes: i64,
    wanted: Option<(&[&str], &[&str])>,
) -> Result<proto::Volume, Status> {
    let requirement = wanted.map(|(requisite, preferred)| proto::TopologyRequirement {
        requisite: terms(requisite),
        preferred: terms(preferred),
    });
    let request = proto::CreateVolumeRequest {
        name: name.into(),
        capacity_range: Some(proto::CapacityRange {
            required_bytes: bytes,
            limit_bytes: 0,
        }),
        volume_capabilities: vec![proto::VolumeCapability::default()],
        accessibility_requirements: requirement,
        ..Default::default()
    };
    let answer = ControllerClient::new(channel(driver))
        .create_volume(request)
        .await;
    answer.map(|answer| answer.into_inner().volume.unwrap())
}

async fn capacity(driver: &Driver, zone: Option<&str>) -> Result<proto::GetCapacityResponse, Status> {
    let request = proto::GetCapacityRequest {
        parameters: map(&[("tier", "1")]),
        accessible_topology: zone.map(|zone| terms(&[zone]).remove(0)),
        ..Default::default()
    };
    let answer = ControllerClient::new(channel(driver)).get_capacity(request).await;
    answer.map(tonic::Response::into_inner)
}

#[tokio::test(start_paused = true)]
async fn a_volume_goes_to_the_first_preferred_term_with_room_and_gives_it_back() {
    let driver = zones();
    let both: &[&str] = &["a", "b"];
    let first = create(&driver, "1", 5, Some((both, &["b", "a"]))).await.unwrap();
    assert_eq!(first.accessible_topology, terms(&["b"]));
    let second = create(&driver, "2", 6, Some((both, &["a", "b"])))
        .await
        .unwrap_err();
    assert_eq!(second.code(), Code::ResourceExhausted, "5 are left in either");
    let third = create(&driver, "3", 5, Some((both, &["a", "b"]))).await.unwrap();
    assert_eq!(third.accessible_topology, terms(&["a"]));
    assert_eq!(driver.placed("3"), Some(map(&[("zone", "a")])));
    let again = create(&driver, "3", 5, Some((both, &["a", "b"]))).await.unwrap();
    assert_eq!(again, third, "the same volume, though its room is gone");
    let fourth = create(&driver, "4", 5, Some((&["a"], &["a"]))).await.unwrap_err();
    assert_eq!(fourth.code(), Code::ResourceExhausted);

    let request = proto::DeleteVolumeRequest {
        volume_id: third.volume_id,
        ..Default::default()
    };
    ControllerClient::new(channel(&driver))
        .delete_volume(request)
        .await
        .unwrap();
    let fourth = create(&driver, "4", 5, Some((&["a"], &[]))).await.unwrap();
    assert_eq!(
        fourth.accessible_topology,
        terms(&["a"]),
        "requisite alone will do"
    );
    let anywhere = create(&driver, "5", 1, None).await.unwrap();
    assert_eq!(anywhere.accessible_topology, terms(&["b"]), "the first with room");
    assert_eq!(driver.creations().len(), driver.count("CreateVolume"));
    assert!(driver.breaches().is_empty(), "{:?}", driver.breaches());
}

#[tokio::test(start_paused = true)]
async fn foreign_segments_have_no_room_and_a_refused_name_may_be_asked_for_elsewhere() {
    let driver = zones();
    let foreign = create(&driver, "1", 1, Some((&["z"], &["z"]))).await.unwrap_err();
    assert_eq!(foreign.code(), Code::ResourceExhausted);
    create(&driver, "1", 1, Some((&["b"], &["b"]))).await.unwrap();
    assert!(driver.breaches().is_empty(), "{:?}", driver.breaches());

    // A refusal that the caller never heard allows nothing.
    driver.upset("CreateVolume", 1, Trouble::LoseReply);
    let second = Duration::from_secs(1);
    let lost = create(&driver, "2", 99, Some((&["a"], &["a"])));
    assert!(tokio::time::timeout(second, lost).await.is_err());
    create(&driver, "2", 9, Some((&["b"], &["b"]))).await.unwrap();
    assert_eq!(
        driver.breaches().len(),
        1,
        "another request: {:?}",
        driver.breaches()
    );
    let moved = create(&driver, "2", 9, Some((&["a"], &["a"]))).await.unwrap_err();
    assert_eq!(moved.code(), Code::AlreadyExists);
    assert_eq!(driver.breaches().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn requirements_that_no_caller_may_send_are_breaches() {
    let driver = zones();
    create(&driver, "1", 1, Some((&["a"], &["b"]))).await.unwrap();
    assert_eq!(driver.breaches().len(), 1, "preferred and not requisite");
    let driver = Driver::new("d.example.com");
    let plain = create(&driver, "1", 1, Some((&["a"], &["a"]))).await.unwrap();
    assert!(plain.accessible_topology.is_empty());
    assert_eq!(driver.breaches().len(), 1, "no such capability");
    assert_eq!(
        capacity(&driver, None).await.unwrap_err().code(),
        Code::Unimplemented
    );
    assert_eq!(driver.breaches().len(), 2, "nor this one");
}

#[tokio::test(start_paused = true)]
async fn the_answer_of_a_creation_can_name_any_place() {
    let driver = zones();
    driver.upset("CreateVolume", 1, Trouble::Topology(Vec::new()));
    let odd = Trouble::Topology(vec![map(&[("zone", "z")]), BTreeMap::new()]);
    driver.upset("CreateVolume", 1, odd);
    let empty = create(&driver, "1", 1, Some((&["a"], &["a"]))).await.unwrap();
    assert!(empty.accessible_topology.is_empty());
    let foreign = create(&driver, "2", 1, Some((&["a"], &["a"]))).await.unwrap();
    assert_eq!(foreign.accessible_topology.len(), 2);
    assert_eq!(driver.placed("2"), Some(map(&[("zone", "a")])));
}

#[tokio::test(start_paused = true)]
async fn capacity_is_what_is_left_where_it_is_asked_for() {
    let driver = zones();
    let left = async |zone| capacity(&driver, zone).await.unwrap().available_capacity;
    assert_eq!((left(Some("a")).await, left(Some("b")).await), (5, 10));
    create(&driver, "1", 4, Some((&["a"], &["a"]))).await.unwrap();
    assert_eq!((left(Some("a")).await, left(None).await), (1, 11));
    assert_eq!(left(Some("z")).await, 0);
    driver.segment(Segment::new(&[("zone", "c")], None));
    assert_eq!(left(None).await, i64::MAX);
    driver.configure(|identity| identity.maximum_volume_size = Some(3));
    assert_eq!(
        capacity(&driver, None).await.unwrap().maximum_volume_size,
        Some(3)
    );

    let asked = driver.capacity_requests();
    assert_eq!(asked.len(), driver.count("GetCapacity"));
    assert_eq!(asked[0].parameters, map(&[("tier", "1")]));
    assert_eq!(asked[0].accessible_topology, Some(terms(&["a"]).remove(0)));
    assert_eq!(driver.calls()[0].target, "zone=a");

    for available in [-1, 0, i64::MAX] {
        let answer = proto::GetCapacityResponse {
            available_capacity: available,
            ..Default::default()
        };
        driver.upset_for("GetCapacity", "zone=b", 1, Trouble::Capacity(answer));
        assert_eq!(left(Some("b")).await, available);
    }
    driver.upset("GetCapacity", 1, Trouble::Refuse(Code::Internal, "no"));
    assert_eq!(capacity(&driver, None).await.unwrap_err().code(), Code::Internal);
    driver.upset_for("GetCapacity", "zone=a", 1, Trouble::Hang);
    let (hanging, other) = tokio::join!(
        tokio::time::timeout(Duration::from_secs(1), capacity(&driver, Some("a"))),
        capacity(&driver, Some("a")),
    );
    assert!(hanging.is_err() && other.is_ok());
    assert!(driver.breaches().is_empty(), "{:?}", driver.breaches());
}

#[tokio::test(start_paused = true)]
async fn drivers_of_two_nodes_share_a_name_and_nothing_else() {
    let on = |node: &str| Driver::on_node("d.example.com", node, Segment::new(&[("host", node)], Some(5)));
    let (one, two) = (on("n1"), on("n2"));
    let info = async || {
        let mut client = NodeClient::new(channel(&two));
        let answer = client.node_get_info(proto::NodeGetInfoRequest {}).await;
        answer.unwrap().into_inner()
    };
    let first_info = info().await;
    assert_eq!(first_info.node_id, "n2");
    assert_eq!(
        first_info.accessible_topology.unwrap().segments,
        map(&[("host", "n2")])
    );
    let first = create(&one, "1", 1, None).await.unwrap();
    let second = create(&two, "1", 1, None).await.unwrap();
    assert_ne!(first.volume_id, second.volume_id);
    assert_eq!(second.accessible_topology[0].segments, map(&[("host", "n2")]));
    two.configure(|identity| {
        assert!(identity.capabilities.contains(&Capability::GetCapacity));
        identity.node_topology = None;
    });
    assert_eq!(info().await.accessible_topology, None);
}
