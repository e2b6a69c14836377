//! What the watches tell, on a server that fails in all the ways a server can.

use std::{
    collections::BTreeMap,
    sync::{Arc, Weak},
    task::{Context, Poll},
};

use kube::client::Body;
use parking_lot::Mutex;
use sandbox::{ADMIN, Api, Fault, Harm};
use serde_json::{Value, json};
use tokio::{
    task::JoinHandle,
    time::{Duration, Instant, sleep, timeout},
};
use tower::{Service, ServiceExt};

use crate::cluster::{
    cache::{Cache, CacheEvent, Predicates},
    objects::{Claim, PROVISIONED_BY, PROVISIONER, Volume},
};

const CLAIMS: &str = "persistentvolumeclaims";
const VOLUMES: &str = "persistentvolumes";
const ATTACHMENTS: &str = "volumeattachments";
const CLASSES: &str = "storageclasses";

/// A sandbox, what the cache makes of it, and which objects there was a reason to reconcile.
struct World {
    api: Api,
    cache: Arc<Cache>,
    departed: Arc<Mutex<Vec<String>>>,
    events: Arc<Mutex<BTreeMap<String, u32>>>,
    reflectors: JoinHandle<()>,
}

impl Drop for World {
    fn drop(&mut self) {
        self.reflectors.abort();
    }
}

impl World {
    fn new(api: &Api, client: kube::Client) -> Self {
        let departed = Arc::new(Mutex::<Vec<String>>::default());
        let events = Arc::new(Mutex::<BTreeMap<String, u32>>::default());
        let (left, seen) = (departed.clone(), events.clone());
        let predicates = Predicates {
            claim: |claim: &Claim, driver| !claim.has_volume && claim.provisioner() == Some(driver),
            volume: |volume: &Volume| volume.phase == "Released",
            attachments: true,
        };
        let cache = Arc::new_cyclic(|cache: &Weak<Cache>| {
            let cache = cache.clone();
            let on_event = move |event: CacheEvent<'_>| {
                let cache = cache.upgrade().unwrap();
                let name = match event {
                    CacheEvent::Claim(uid) => cache.claim(uid).map(|claim| claim.name.clone()),
                    CacheEvent::Volume(uid) => cache.volume(uid).map(|volume| volume.name.clone()),
                    CacheEvent::VolumeOfClaim(_) => return,
                };
                match (name, event) {
                    (Some(name), _) => *seen.lock().entry(name).or_default() += 1,
                    (None, CacheEvent::Claim(uid)) => left.lock().push(uid.to_owned()),
                    (None, _) => {}
                }
            };
            Cache::new("drv", predicates, Box::new(on_event))
        });
        let running = cache.clone();
        let reflectors = tokio::spawn(async move {
            running.run(client).await;
        });
        Self {
            api: api.clone(),
            cache,
            departed,
            events,
            reflectors,
        }
    }

    /// How often there was a reason to reconcile the object of this name.
    fn events(&self, name: &str) -> u32 {
        self.events.lock().get(name).copied().unwrap_or_default()
    }

    fn claims(&self) -> Vec<String> {
        let uids = self.cache.claim_uids().into_iter();
        let mut names: Vec<_> = uids
            .filter_map(|uid| self.cache.claim(&uid))
            .map(|claim| claim.name.clone())
            .collect();
        names.sort();
        names
    }

    fn departed(&self, uid: &str) -> bool {
        self.departed.lock().iter().any(|left| left == uid)
    }

    async fn complete(&self) {
        let mut status = self.cache.sync_status();
        let waited = timeout(
            Duration::from_secs(600),
            status.wait_for(|status| status.has_synced()),
        )
        .await;
        let missing = self.cache.sync_status().borrow().missing();
        waited
            .unwrap_or_else(|_| panic!("still missing: {missing:?}"))
            .unwrap();
        sleep(Duration::from_millis(10)).await;
    }

    /// How many requests of this kind were answered so far, and with what.
    fn codes(&self, verb: &str, resource: &str) -> Vec<u16> {
        let all = self.api.requests().into_iter();
        all.filter(|request| request.verb.rbac() == verb && request.resource == resource)
            .map(|request| request.code)
            .collect()
    }
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(900);
    while !holds() {
        assert!(Instant::now() < end, "never: {what}");
        sleep(Duration::from_millis(100)).await;
    }
}

fn claim(api: &Api, name: &str, driver: &str) -> String {
    let object = api.create(
        CLAIMS,
        "default",
        json!({"metadata": {"name": name, "annotations": {PROVISIONER: driver}},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}},
                "storageClassName": "fast"}}),
    );
    uid(&object)
}

fn volume(api: &Api, name: &str, driver: &str, claim: &str, phase: &str) -> String {
    let object = api.create(
        VOLUMES,
        "",
        json!({"metadata": {"name": name, "annotations": {PROVISIONED_BY: driver}},
            "spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"],
                "persistentVolumeReclaimPolicy": "Delete",
                "csi": {"driver": driver, "volumeHandle": name},
                "claimRef": {"namespace": "default", "name": "c", "uid": claim}}}),
    );
    api.edit(VOLUMES, "", name, |object| {
        object["status"]["phase"] = phase.into()
    });
    uid(&object)
}

fn attachment(api: &Api, name: &str, driver: &str, volume: &str) {
    api.create(
        ATTACHMENTS,
        "",
        json!({"metadata": {"name": name},
            "spec": {"attacher": driver, "nodeName": "n1", "source": {"persistentVolumeName": volume}}}),
    );
}

fn class(api: &Api, name: &str, driver: &str) {
    api.create(
        CLASSES,
        "",
        json!({"metadata": {"name": name}, "provisioner": driver, "parameters": {"a": "b"}}),
    );
}

fn remove(api: &Api, plural: &str, namespace: &str, name: &str) {
    api.edit(plural, namespace, name, |object| {
        object["metadata"]["finalizers"] = json!([]);
    });
    api.delete(plural, namespace, name);
    assert!(api.get(plural, namespace, name).is_none());
}

fn uid(object: &Value) -> String {
    object["metadata"]["uid"].as_str().unwrap().to_owned()
}

/// A cluster with something of every kind.
fn furnished() -> Api {
    let api = Api::new();
    claim(&api, "ours", "drv");
    claim(&api, "theirs", "other");
    volume(&api, "bound", "drv", "c1", "Bound");
    volume(&api, "released", "drv", "c2", "Released");
    volume(&api, "foreign", "other", "c3", "Released");
    attachment(&api, "held", "drv", "released");
    attachment(&api, "not-ours", "other", "foreign");
    class(&api, "fast", "drv");
    class(&api, "slow", "other");
    api
}

fn sees_what_is_there(world: &World) {
    assert_eq!(world.claims(), ["ours"]);
    assert_eq!(world.cache.volume_uids().len(), 1);
    assert_eq!(world.cache.claim_of_volume("bound").as_deref(), Some("c1"));
    assert_eq!(world.cache.claim_of_volume("foreign"), None);
    assert_eq!(world.cache.node_of_volume("released").as_deref(), Some("n1"));
    assert_eq!(world.cache.node_of_volume("foreign"), None);
    let class = |name| world.cache.class(name).unwrap();
    assert_eq!(class("fast").parameters.len(), 1);
    assert_eq!(
        class("slow").parameters.len(),
        0,
        "only the provisioner of a foreign class is kept"
    );
    assert_eq!(
        world.cache.remembered(),
        [1, 2, 2, 1, 1],
        "what is foreign leaves nothing behind"
    );
}

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
async fn deletions_are_noticed_that_happened_while_the_server_forgot() {
    for streaming in [true, false] {
        let api = furnished();
        api.streaming_lists(streaming);
        let old = uid(&api.get(CLAIMS, "default", "ours").unwrap());
        let waiting = claim(&api, "waiting", "drv");
        volume(&api, "for-waiting", "drv", &waiting, "Bound");
        let world = World::new(&api, api.client(ADMIN));
        world.complete().await;
        let events = ["waiting", "released"].map(|name| world.events(name));
        assert_eq!(events, [1, 1]);

        api.outage();
        remove(&api, CLAIMS, "default", "ours");
        let new = claim(&api, "ours", "drv");
        remove(&api, VOLUMES, "", "bound");
        remove(&api, VOLUMES, "", "for-waiting");
        remove(&api, ATTACHMENTS, "", "held");
        remove(&api, CLASSES, "", "fast");
        api.expire();
        sleep(Duration::from_secs(20)).await;
        api.heal();
        until("the claim is gone", || world.departed(&old)).await;
        until("the volume is forgotten", || {
            world.cache.claim_of_volume("bound").is_none()
        })
        .await;
        until("the class is forgotten", || world.cache.class("fast").is_none()).await;
        until("the volume is free", || {
            world.cache.node_of_volume("released").is_none()
        })
        .await;
        until("the released volume is looked at", || {
            world.events("released") == 2
        })
        .await;
        until("the claim without its volume is looked at", || {
            world.events("waiting") == 2
        })
        .await;
        assert!(world.cache.claim(&new).is_some() && world.cache.claim(&old).is_none());
        assert_eq!(world.events("ours"), 2, "two claims of one name");
    }
}

#[tokio::test(start_paused = true)]
async fn a_relist_that_shows_nothing_new_is_no_reason_to_look() {
    let api = furnished();
    let world = World::new(&api, api.client(ADMIN));
    world.complete().await;
    api.expire();
    api.cut_watches();
    let watches = world.codes("watch", CLAIMS).len();
    until("a relist", || world.codes("watch", CLAIMS).len() >= watches + 2).await;
    sleep(Duration::from_secs(5)).await;
    assert_eq!((world.events("ours"), world.events("released")), (1, 1));
    api.edit(CLAIMS, "default", "ours", |object| {
        object["metadata"]["annotations"]["x"] = "y".into();
    });
    until("a change is one", || world.events("ours") == 2).await;
}

#[tokio::test(start_paused = true)]
async fn a_cut_watch_goes_on_where_it_was() {
    let api = furnished();
    let world = World::new(&api, api.client(ADMIN));
    world.complete().await;
    for n in 0..5 {
        api.cut_watches();
        let name = format!("more-{n}");
        claim(&api, &name, "drv");
        until("the new claim", || world.claims().contains(&name)).await;
    }
    assert_eq!(world.events("ours"), 1);
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
    let missing = world.cache.sync_status().borrow().missing();
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
            let missing = world.cache.sync_status().borrow().missing();
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
async fn a_claim_recreated_under_its_old_name_is_another_claim() {
    let api = furnished();
    let world = World::new(&api, api.client(ADMIN));
    world.complete().await;
    let old = uid(&api.get(CLAIMS, "default", "ours").unwrap());
    remove(&api, CLAIMS, "default", "ours");
    let new = claim(&api, "ours", "drv");
    until("both are known", || {
        world.departed(&old) && world.cache.claim(&new).is_some()
    })
    .await;
    assert_eq!(world.claims(), ["ours"]);
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_gets_its_volume_leaves_and_is_not_remembered() {
    let api = furnished();
    let world = World::new(&api, api.client(ADMIN));
    world.complete().await;
    let bound = uid(&api.get(CLAIMS, "default", "ours").unwrap());
    api.edit(CLAIMS, "default", "ours", |object| {
        object["spec"]["volumeName"] = "pv".into()
    });
    until("it departed", || world.departed(&bound)).await;
    assert_eq!(world.cache.claim_uids().len(), 0);
    assert_eq!(world.cache.remembered()[0], 0);
}

#[tokio::test(start_paused = true)]
async fn a_class_that_comes_later_wakes_the_claims_that_wait_for_it() {
    let api = furnished();
    remove(&api, CLASSES, "", "fast");
    let world = World::new(&api, api.client(ADMIN));
    world.complete().await;
    class(&api, "other", "drv");
    until("it is there", || world.cache.class("other").is_some()).await;
    sleep(Duration::from_secs(1)).await;
    assert_eq!(world.events("ours"), 1, "not its class");
    class(&api, "fast", "drv");
    until("the claim is looked at", || world.events("ours") == 2).await;
}

#[tokio::test(start_paused = true)]
async fn the_last_attachment_to_go_wakes_the_volume() {
    let api = furnished();
    attachment(&api, "held-too", "drv", "released");
    let world = World::new(&api, api.client(ADMIN));
    world.complete().await;
    remove(&api, ATTACHMENTS, "", "held");
    sleep(Duration::from_secs(5)).await;
    assert_eq!(world.events("released"), 1, "another node holds it");
    remove(&api, ATTACHMENTS, "", "held-too");
    until("it is looked at", || world.events("released") == 2).await;
    assert_eq!(world.cache.remembered()[3..], [0, 0]);
}

#[tokio::test(start_paused = true)]
async fn an_object_that_cannot_be_read_does_not_keep_the_others() {
    for streaming in [true, false] {
        let api = furnished();
        api.streaming_lists(streaming);
        claim(&api, "odd", "drv");
        volume(&api, "odd", "drv", "c9", "Released");
        api.edit(CLAIMS, "default", "odd", |object| {
            object["spec"]["accessModes"] = json!({"a": 1})
        });
        api.edit(VOLUMES, "", "odd", |object| {
            object["spec"]["csi"]["volumeHandle"] = json!(7)
        });
        let world = World::new(&api, api.client(ADMIN));
        world.complete().await;
        sees_what_is_there(&world);
        // Nor does one that comes later.
        api.edit(CLAIMS, "default", "odd", |object| {
            object["spec"]["accessModes"] = json!(3)
        });
        claim(&api, "next", "drv");
        until("the next claim", || world.claims() == ["next", "ours"]).await;
    }
}
