//! For a moment the lease is not certainly ours, and then a renewal is confirmed late: the term goes on, nothing changes
//! in the cluster, and what was not sent in that moment is done all the same.

use std::{num::NonZeroUsize, sync::Arc, time::Duration};

use sandbox::{Fault, Harm, World, driver::Trouble};
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep},
};
use tokio_util::task::TaskTracker;
use volwright::{
    base::{backoff::Backoff, names::UidLength},
    cluster::{
        active::{Active, ActiveGuard},
        api::ApiClient,
        cache::{Cache, CacheEvent, Predicates, Watched},
        events::EventRecorder,
        leases::Leases,
        workers::WorkerPool,
    },
    csi::{ConnectError, Dialer, Driver, Needs},
    ledger::{CrashSafe, Ledger, LedgerSettings},
    provision::{
        self,
        metrics::ProvisionMetrics,
        policy::Policy,
        reconcile::{Provision, Timings},
    },
    reclaim::{self, metrics::ReclaimMetrics, reconcile::Reclaim},
    telemetry::metrics::Registry,
};

use crate::sidecar::{CLAIMS, DRIVER, FINALIZER, HOME, Look, VOLUMES, empty_world, finalizers, secs, text};

const BACKOFF: Backoff = Backoff {
    start: secs(1),
    max: secs(300),
};

/// Both controllers at work, without an election: the test says when they lead.
struct Working {
    active: Active,
    tasks: Vec<JoinHandle<()>>,
    _guard: ActiveGuard,
}

impl Drop for Working {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Working {
    async fn start(world: &World) -> Self {
        let active = Active::elected();
        let leads = active.clone();
        let service = world.driver.clone();
        let dialer = Dialer::over(move || {
            let service = service.clone();
            let refused = |_| ConnectError::NotListening {
                path: "socket".into(),
            };
            async move { service.connect_over(sandbox::Line::new()).map_err(refused) }
        });
        let driver = Driver::new(&dialer, secs(15), Needs::default(), Arc::new(|_| {}));
        let driver_info = driver.identify().await.expect("a driver");
        let driver = driver.fenced(Arc::new(move || leads.leads()));
        let api = ApiClient::new(world.client(), None).fenced(active.clone());
        let (events, writer) = EventRecorder::start(api.clone(), "test".into());
        let pool = || {
            let workers = NonZeroUsize::new(4).expect("four");
            WorkerPool::new(workers, BACKOFF, TaskTracker::new(), Box::new(|_| {}), || {})
        };
        let (claims, volumes) = (pool(), pool());
        let predicates = Predicates {
            claim: provision::decide::concerns,
            volume: reclaim::decide::concerns,
        };
        let (on_claim, on_volume) = (claims.clone(), volumes.clone());
        let on_event = move |event: CacheEvent<'_>| match event {
            CacheEvent::Claim(uid) => on_claim.add(uid),
            CacheEvent::Volume(uid) => on_volume.add(uid),
            _ => {}
        };
        let cache = Arc::new(Cache::new(
            DRIVER,
            predicates,
            Watched::default(),
            Box::new(on_event),
        ));
        let ledger = Ledger::new(
            LedgerSettings {
                name: "lease".into(),
                namespace: HOME.into(),
                identity: "test".into(),
                labels: Default::default(),
                mode: CrashSafe::Off,
                elected: true,
                driver: DRIVER.into(),
            },
            Leases::new(world.client(), HOME),
            active.clone(),
            Box::new(|_| {}),
        );
        let registry = Registry::of_controller().expect("a registry");
        let provision = Arc::new(Provision::new(
            driver.clone(),
            driver_info.clone(),
            Timings {
                timeout: secs(15),
                longest_retry: secs(300),
            },
            api.clone(),
            cache.clone(),
            Arc::new(ledger),
            events.clone(),
            ProvisionMetrics::new(&registry).expect("metrics"),
            Policy {
                name_prefix: "pvc".into(),
                uid_length: UidLength::Whole,
                default_fs_type: String::new(),
                extra_metadata: false,
                publish_read_only: false,
                topology: false,
                strict_topology: false,
                immediate_topology: true,
                prevent_mode_conversion: true,
                attributes_classes: false,
                cross_namespace: false,
                node: None,
                identity: "test".into(),
            },
            active.clone(),
            Box::new(|_, _| {}),
            Box::new(|_| false),
            Box::new(|_, _, _| Box::pin(std::future::ready(Ok(())))),
        ));
        let reclaim = Arc::new(Reclaim::new(
            driver,
            driver_info,
            api,
            cache.clone(),
            events,
            ReclaimMetrics::new(&registry).expect("metrics"),
            active.clone(),
            Box::new(|_| false),
            Box::new(|_| {}),
        ));
        let client = world.client();
        let tasks = vec![
            writer,
            tokio::spawn(async move {
                cache.run(client).await;
            }),
            tokio::spawn(async move {
                let reconcile = move |uid: Arc<str>| {
                    let provision = provision.clone();
                    async move { provision.reconcile(&uid).await }
                };
                claims.run(Vec::new, reconcile).await;
            }),
            tokio::spawn(async move {
                let reconcile = move |uid: Arc<str>| {
                    let reclaim = reclaim.clone();
                    async move { reclaim.reconcile(&uid).await }
                };
                volumes.run(Vec::new, reconcile).await;
            }),
        ];
        let guard = active.set();
        let working = Self {
            active,
            tasks,
            _guard: guard,
        };
        working.leads(true);
        working
    }

    fn leads(&self, certainly: bool) {
        let end = certainly.then(|| Instant::now() + secs(1_000_000));
        self.active.lead_until(end);
    }

    /// For three seconds nobody knows whether we lead.
    async fn is_uncertain(&self) {
        self.leads(false);
        sleep(secs(3)).await;
        self.leads(true);
    }
}

/// A class with a secret, so that something is read before the driver is called.
fn world() -> World {
    let secret = [
        ("csi.storage.k8s.io/provisioner-secret-name", "key"),
        ("csi.storage.k8s.io/provisioner-secret-namespace", "default"),
    ];
    empty_world()
        .class("fast", &secret)
        .secret("default", "key", &[("user", "admin")])
}

const SOON: Duration = secs(10);

async fn soon(world: &World, what: &str, condition: impl Fn(&World) -> bool) {
    let began = Instant::now();
    world.eventually(what, condition).await;
    assert!(began.elapsed() <= SOON, "{what}: after {:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_claim_whose_attempt_met_such_a_moment_is_provisioned() {
    for when in [
        "at once",
        "before its record is opened",
        "before its object is written",
    ] {
        let world = world();
        let working = Working::start(&world).await;
        let slow = Fault::new(Harm::Delay(secs(2))).times(1);
        match when {
            "at once" => working.leads(false),
            "before its record is opened" => world.api.harm(slow.on("get", "secrets")),
            _ => {
                world.driver.upset("CreateVolume", 1, Trouble::Delay(secs(2)));
            }
        }
        world.add_claim("default", "data", "1Gi", |_| {});
        sleep(secs(1)).await;
        working.is_uncertain().await;
        assert!(!world.bound("data"), "{when}");
        soon(&world, when, |world| world.bound("data")).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_object_whose_reconcile_met_such_a_moment_is_protected_let_go_of_and_deleted() {
    let world = world();
    let working = Working::start(&world).await;
    let uid = world.add_claim("default", "data", "1Gi", |_| {});
    world.becomes_bound("data").await;
    let name = format!("pvc-{uid}");
    let is_held = |world: &World| {
        let volume = world.api.get(VOLUMES, "", &name).unwrap_or_default();
        finalizers(&volume).iter().any(|it| it == FINALIZER)
    };
    let policy = |policy: &str| {
        world.api.edit(VOLUMES, "", &name, |volume| {
            volume["spec"]["persistentVolumeReclaimPolicy"] = policy.into();
        });
    };
    working.leads(false);
    policy("Retain");
    working.is_uncertain().await;
    soon(&world, "it is let go of", |world| !is_held(world)).await;
    working.leads(false);
    policy("Delete");
    working.is_uncertain().await;
    soon(&world, "it is protected", is_held).await;
    working.leads(false);
    world.api.delete(CLAIMS, "default", "data");
    world
        .eventually("it is released", |world| {
            let volume = world.api.get(VOLUMES, "", &name).unwrap_or_default();
            text(&volume, "/status/phase") == "Released"
        })
        .await;
    working.is_uncertain().await;
    soon(&world, "it is deleted", Look::is_clean).await;
}
