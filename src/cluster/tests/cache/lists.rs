//! Lists and watches on a server that fails in all the ways a server can.

use std::task::{Context, Poll};

use kube::client::Body;
use sandbox::{Fault, Harm};
use tower::{Service, ServiceExt};

use super::*;

#[tokio::test(start_paused = true)]
async fn the_first_list_comes_as_a_stream() {
    let api = furnished();
    let world = World::new(&api, api.client(ADMIN));
    world.complete().await;
    sees_what_is_there(&world);
    assert_eq!(world.codes("list", CLAIMS), [] as [u16; 0]);
}

#[tokio::test(start_paused = true)]
async fn where_streaming_lists_are_refused_the_first_list_is_paged_and_so_is_every_later_one() {
    let api = furnished();
    api.streaming_lists(false);
    let world = World::new(&api, api.client(ADMIN));
    world.complete().await;
    sees_what_is_there(&world);
    let refusals = |codes: Vec<u16>| codes.iter().filter(|code| **code != 200).count();
    assert_eq!(refusals(world.codes("watch", CLAIMS)), 1);
    api.expire();
    api.cut_watches();
    until("a second list", || world.codes("list", CLAIMS).len() == 2).await;
    assert_eq!(world.codes("list", CLAIMS), [200, 200]);
    sleep(Duration::from_secs(5)).await;
    assert!(
        api.requests()
            .iter()
            .filter(|request| request.resource == CLAIMS && request.code == 422)
            .count()
            <= 1,
        "asked once, then remembered"
    );
    sees_what_is_there(&world);
}

/// A server of before 1.27: it does not know `sendInitialEvents`, so it never says that a list is complete.
#[derive(Clone)]
struct Old(sandbox::Service);

impl Service<http::Request<Body>> for Old {
    type Response = <sandbox::Service as Service<http::Request<Body>>>::Response;
    type Error = <sandbox::Service as Service<http::Request<Body>>>::Error;
    type Future = futures::future::BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        let uri = request.uri().to_string();
        let uri = uri
            .replace("&sendInitialEvents=true", "")
            .replace("&resourceVersionMatch=NotOlderThan", "");
        *request.uri_mut() = uri.parse().unwrap();
        Box::pin(self.0.clone().oneshot(request))
    }
}

#[tokio::test(start_paused = true)]
async fn where_streaming_lists_are_ignored_the_list_is_paged_after_ten_silent_seconds() {
    let api = furnished();
    let began = Instant::now();
    let world = World::new(&api, kube::Client::new(Old(api.service(ADMIN)), "default"));
    world.complete().await;
    let took = began.elapsed();
    assert!(
        took >= Duration::from_secs(10) && took < Duration::from_secs(11),
        "{took:?}"
    );
    sees_what_is_there(&world);
    assert_eq!(world.codes("list", CLAIMS), [200]);
}

#[tokio::test(start_paused = true)]
async fn where_streaming_lists_are_ignored_and_it_is_never_silent_the_list_is_paged_after_a_minute() {
    let api = furnished();
    let began = Instant::now();
    let world = World::new(&api, kube::Client::new(Old(api.service(ADMIN)), "default"));
    let busy = api.clone();
    let noise = tokio::spawn(async move {
        for n in 0.. {
            for (plural, namespace, name) in [
                (CLAIMS, "default", "theirs"),
                (VOLUMES, "", "foreign"),
                (CLASSES, "", "slow"),
                (ATTACHMENTS, "", "not-ours"),
            ] {
                busy.edit(plural, namespace, name, |object| {
                    object["metadata"]["labels"]["n"] = n.to_string().into()
                });
            }
            sleep(Duration::from_secs(3)).await;
        }
    });
    world.complete().await;
    let took = began.elapsed();
    noise.abort();
    assert!(
        took >= Duration::from_secs(60) && took < Duration::from_secs(65),
        "{took:?}"
    );
    sees_what_is_there(&world);
}

#[tokio::test(start_paused = true)]
async fn a_cut_watch_goes_on_where_it_was() {
    let api = furnished();
    let world = World::new(&api, api.client(ADMIN));
    world.complete().await;
    let before = world.events("ours");
    for n in 0..5 {
        api.cut_watches();
        let name = format!("more-{n}");
        claim(&api, &name, "drv");
        until("the new claim", || world.claims().contains(&name)).await;
    }
    assert_eq!(world.events("ours"), before);
    assert_eq!(world.codes("list", CLAIMS), [] as [u16; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_missing_right_is_named_with_the_rule_to_add_and_heals_when_it_is_granted() {
    let api = furnished();
    let user = "system:serviceaccount:default:sidecar";
    let role = |resources: &str, name: &str| {
        format!(
            "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata: {{name: {name}}}\n\
             rules: [{{apiGroups: [\"\", storage.k8s.io], resources: [{resources}], verbs: [list, watch]}}]\n---\n\
             apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRoleBinding\nmetadata: {{name: {name}}}\n\
             roleRef: {{kind: ClusterRole, name: {name}, apiGroup: rbac.authorization.k8s.io}}\n\
             subjects: [{{kind: ServiceAccount, name: sidecar, namespace: default}}]\n"
        )
    };
    api.load_rbac(
        &role(
            "persistentvolumes, persistentvolumeclaims, storageclasses",
            "most",
        ),
        "default",
    )
    .unwrap();
    let world = World::new(&api, api.client(user));
    sleep(Duration::from_secs(300)).await;
    let missing = world.cache.sync_status().borrow().missing(Need::Volumes);
    assert_eq!(missing.len(), 1, "{missing:?}");
    assert!(
        missing[0].contains("resources: [\"volumeattachments\"]")
            && missing[0].contains("apiGroups: [\"storage.k8s.io\"]"),
        "{missing:?}"
    );
    let asked = world.codes("watch", ATTACHMENTS).len();
    assert!((10..30).contains(&asked), "asked {asked} times in five minutes");
    api.load_rbac(&role("volumeattachments", "rest"), "default")
        .unwrap();
    world.complete().await;
    sees_what_is_there(&world);
}

#[tokio::test(start_paused = true)]
async fn refusals_and_silence_are_waited_out_with_growing_pauses() {
    let harms = [
        ("401", Harm::Status(401)),
        ("403", Harm::Status(403)),
        ("404", Harm::Status(404)),
        ("429", Harm::Throttle(3)),
        ("500", Harm::Status(500)),
        ("503", Harm::Status(503)),
        ("cut", Harm::Cut),
    ];
    for (name, harm) in harms {
        for streaming in [true, false] {
            let api = furnished();
            api.streaming_lists(streaming);
            // The refusal of the streaming list itself may pass.
            let verb = if streaming { "watch" } else { "list" };
            api.harm(Fault::new(harm.clone()).on(verb, CLAIMS));
            let world = World::new(&api, api.client(ADMIN));
            sleep(Duration::from_secs(300)).await;
            let asked = world.codes(verb, CLAIMS).len();
            assert!(
                (8..30).contains(&asked),
                "{name}, streaming {streaming}: asked {asked} times in five minutes"
            );
            let missing = world.cache.sync_status().borrow().missing(Need::Volumes);
            assert!(
                missing.len() == 1 && missing[0].contains(CLAIMS),
                "{name}: {missing:?}"
            );
            api.heal();
            world.complete().await;
            sees_what_is_there(&world);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_never_answers_is_asked_again() {
    let api = furnished();
    api.harm(Fault::new(Harm::Hang).times(8));
    let client = crate::cluster::client::over(api.service(ADMIN), "default");
    let world = World::new(&api, client);
    world.complete().await;
    sees_what_is_there(&world);
    assert_eq!(
        world.codes("list", CLAIMS),
        [] as [u16; 0],
        "an outage is no reason to page for ever"
    );
}

#[tokio::test(start_paused = true)]
async fn what_only_capacity_needs_holds_up_nothing_else_and_is_complete_in_its_own_time() {
    let id = "seg.HasSynced.01";
    let api = furnished();
    api.hide("csistoragecapacities");
    let labels = "csi.storage.k8s.io/managed-by=external-provisioner".to_owned();
    let watched = Watched {
        nodes: NodeSource::Watched(Need::Capacity),
        capacities: Some(("default".to_owned(), labels)),
        ..Watched::default()
    };
    let predicates = Predicates {
        claim: |_, _| false,
        volume: |_, _| false,
    };
    let cache = Arc::new(Cache::new("drv", predicates, watched, Box::new(|_| {})));
    let synced = |need| cache.sync_status().borrow().has_synced(need);
    sleep(Duration::from_secs(10)).await;
    assert!(!synced(Need::Capacity), "{id}: before the reflectors run");
    let (running, client) = (cache.clone(), api.client(ADMIN));
    let reflectors = tokio::spawn(async move {
        running.run(client).await;
    });
    until("the lists for volumes are complete", || synced(Need::Volumes)).await;
    sleep(Duration::from_secs(60)).await;
    assert!(!synced(Need::Capacity));
    let failures = cache.sync_status().borrow().failures(Need::Capacity);
    assert!(
        failures.len() == 1 && failures[0].contains("does not serve csistoragecapacities"),
        "{failures:?}"
    );
    assert!(cache.sync_status().borrow().failures(Need::Volumes).is_empty());
    api.reveal("csistoragecapacities");
    until(id, || synced(Need::Capacity)).await;
    reflectors.abort();
}
