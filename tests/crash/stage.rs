//! One run of a scenario: a world, a process in it, perhaps a second one, and somebody who restarts what was killed.

use std::{
    cell::{Cell, RefCell},
    future::pending,
    ops::Deref,
    time::Duration,
};

use futures::FutureExt as _;
use sandbox::{Line, Step, Upstream, World, driver::Trouble};
use serde_json::Value;
use tokio::time::{Instant, advance, sleep, timeout};
use tonic::Code;

use crate::{
    always::Eye,
    rest::Rest,
    scenario::Scenario,
    sidecar::{CLAIMS, HOME, LEASE, Pod, Sidecar, empty_world, secs, text},
};

/// The longest that a world may take to come to rest, in virtual time.
const PATIENCE: Duration = secs(30 * 60);
/// How long it has to stay there.
const QUIET: Duration = secs(30);
/// How often it is looked at what tells nobody of its changes.
const GLANCE: Duration = Duration::from_millis(500);
/// How long a process is stopped: beyond any lease.
const STOPPED: Duration = secs(60);
/// What kubelet takes to start a container again, the first time.
const RESTART: Duration = Duration::from_millis(500);

/// A world whose class has the policy Retain.
pub(crate) fn retained() -> World {
    empty_world().class_with("fast", |class| class["reclaimPolicy"] = "Retain".into())
}

/// Who has the lease; empty when nobody has.
pub(crate) fn holder(world: &World) -> String {
    let lease = world.api.get("leases", HOME, LEASE).unwrap_or_default();
    text(&lease, "/spec/holderIdentity").to_owned()
}

pub(crate) const FIRST: &str = "pod-a";
pub(crate) const OTHER: &str = "pod-b";

/// The world of one run, with what a scenario may do there besides.
pub(crate) struct Stage {
    pub(crate) world: World,
    pub(crate) eye: Eye,
    flags: &'static [&'static str],
    /// What the process that follows the first one in its pod is to have.
    next: RefCell<Line>,
    /// The processes, the one that is cut first.
    processes: RefCell<Vec<(Line, Sidecar)>>,
    /// What has ended is not started again.
    down: Cell<bool>,
}

impl Deref for Stage {
    type Target = World;

    fn deref(&self) -> &World {
        &self.world
    }
}

impl Stage {
    /// The driver's ids are names, or a new one for each volume that is made.
    pub(crate) fn new(scenario: &Scenario, id_is_name: bool) -> Self {
        let world = (scenario.world)();
        world
            .driver
            .configure(|identity| identity.id_is_name = id_is_name);
        let elected = !scenario.flags.contains(&"--leader-election=false");
        Self {
            eye: Eye::new(&world, elected, scenario.misfits).renewing(scenario.renews),
            world,
            flags: scenario.flags,
            next: RefCell::default(),
            processes: RefCell::default(),
            down: Cell::new(false),
        }
    }

    /// Starts a process in this pod; it is the last one then.
    pub(crate) fn start(&self, line: &Line, pod: &str) {
        self.eye.watch(line, pod);
        let mut processes = self.processes.borrow_mut();
        let pod = Pod::named(pod);
        let process = match processes.first() {
            None => Sidecar::on(&self.world, line, pod, self.flags),
            Some((_, first)) => first.beside_on(&self.world, line, pod, self.flags),
        };
        processes.push((line.clone(), process));
    }

    /// The process that follows the first one in its pod has this line.
    pub(crate) fn next(&self, line: &Line) {
        self.next.replace(line.clone());
    }

    /// Starts the first process, which is stopped for a minute when the effect of this number is done, and then goes
    /// on where it was. Meanwhile another one leads, which keeps no ledger.
    pub(crate) fn start_and_stop_at(&self, line: &Line, number: usize) {
        self.start(line, FIRST);
        let upstream = self.upstream();
        self.eye.watch_and(line, FIRST, move |effect| {
            if effect.number == Some(number) && effect.step != Step::Sent {
                upstream.seize();
                upstream.work();
                // It jumps at once; what is left to wait for is only that others have their turn.
                let _ = advance(STOPPED).now_or_never();
            }
        });
    }

    /// Waits until somebody leads.
    pub(crate) async fn leads(&self) {
        let led = |world: &World| !holder(world).is_empty();
        self.world.eventually("somebody leads", led).await;
    }

    /// Kills all processes, for a while.
    pub(crate) fn down(&self) {
        self.down.set(true);
        for (line, _) in &*self.processes.borrow() {
            line.cut();
        }
    }

    /// Starts them again.
    pub(crate) fn up(&self) {
        self.down.set(false);
    }

    /// What the first process sends waits for so long.
    pub(crate) async fn held_up(&self, time: Duration) {
        let line = self.processes.borrow().first().map(|(line, _)| line.clone());
        let Some(line) = line else { return };
        line.hold();
        sleep(time).await;
        line.let_go();
    }

    /// The ways of the first process.
    ///
    /// # Panics
    /// When there is none.
    pub(crate) fn line(&self) -> Line {
        self.processes.borrow()[0].0.clone()
    }

    /// Adds the claim `data`, for whose volume the driver takes so many seconds, and waits until it was asked.
    pub(crate) async fn slowly_asked(&self, seconds: u64) {
        let slow = Trouble::Delay(secs(seconds));
        self.driver.upset("CreateVolume", 1, slow);
        self.add_claim("default", "data", "1Gi", |_| {});
        self.is_asked().await;
    }

    /// Adds the claim `data`, whose volume the driver makes, and says nothing any more.
    pub(crate) async fn made_in_doubt(&self) {
        self.driver.upset("CreateVolume", 1, Trouble::LoseReply);
        let away = Trouble::Refuse(Code::Unavailable, "away");
        self.driver.upset("CreateVolume", usize::MAX, away);
        self.add_claim("default", "data", "1Gi", |_| {});
        self.is_made().await;
    }

    /// Waits until the driver was asked for a volume, by us or by another one that leads.
    pub(crate) async fn is_asked(&self) {
        self.world
            .eventually("the driver is asked", |world| {
                world.driver.count("CreateVolume") > 0 || !world.driver.volumes().is_empty()
            })
            .await;
    }

    /// Waits until the driver has a volume.
    pub(crate) async fn is_made(&self) {
        self.world
            .eventually("the driver has a volume", |world| {
                !world.driver.volumes().is_empty()
            })
            .await;
    }

    /// Deletes the claim `data` and waits until it is gone.
    pub(crate) async fn claim_goes(&self) {
        self.api.delete(CLAIMS, "default", "data");
        let gone = |world: &World| world.api.get(CLAIMS, "default", "data").is_none();
        self.world.eventually("the claim is gone", gone).await;
    }

    /// Something that may lead, and keeps no ledger.
    pub(crate) fn upstream(&self) -> Upstream {
        Upstream::new(&self.world, HOME, LEASE)
    }

    /// Changes every shard of the ledger; says whether there was one.
    pub(crate) fn edit_shards(&self, edit: impl Fn(&mut Value)) -> bool {
        let shards = self.api.filter("leases", |lease| {
            text(lease, "/metadata/name").contains("-ledger-")
        });
        for shard in &shards {
            self.api
                .edit("leases", HOME, text(shard, "/metadata/name"), &edit);
        }
        !shards.is_empty()
    }

    /// Asks the first process to stop, as SIGTERM does.
    pub(crate) fn stop(&self) {
        if let Some((_, first)) = self.processes.borrow().first() {
            first.stop();
        }
    }

    fn log(&self) -> String {
        let processes = self.processes.borrow();
        processes
            .first()
            .map(|(_, first)| first.log().join("\n"))
            .unwrap_or_default()
    }

    /// Starts what was killed, or has ended, again: the first process in the same pod, with the same identity.
    pub(crate) async fn restart_what_ends(&self) {
        loop {
            let ended = |(line, process): &(Line, Sidecar)| line.is_cut() || process.is_over();
            let ended = self.processes.borrow().first().is_some_and(ended);
            if !ended || self.down.get() {
                let line = self.processes.borrow().first().map(|(line, _)| line.clone());
                let cut = async {
                    match line.filter(|line| !line.is_cut()) {
                        Some(line) => line.cut_off().await,
                        None => pending().await,
                    }
                };
                // One that ends by itself, or is to be started again, tells nobody.
                let _ = timeout(GLANCE, cut).await;
                continue;
            }
            sleep(RESTART).await;
            if self.down.get() {
                continue;
            }
            let line = self.next.take();
            self.eye.watch(&line, FIRST);
            let (_, killed) = self.processes.borrow_mut().remove(0);
            let next = killed.beside_on(&self.world, &line, Pod::named(FIRST), self.flags);
            killed.kill();
            self.processes.borrow_mut().insert(0, (line, next));
        }
    }

    /// Waits until everything is as expected, makes sure that it stays so, and ends the processes.
    ///
    /// # Panics
    /// When it does not come to that.
    pub(crate) async fn comes_to_rest(&self, rest: &Rest) {
        let limit = Instant::now() + PATIENCE;
        let mut changes = self.world.api.changes();
        while let Some(missing) = rest.missing(&self.world) {
            assert!(Instant::now() < limit, "no rest: {missing}\n{}", self.print());
            // Either way it is time to look again.
            let _ = timeout(GLANCE, changes.changed()).await;
        }
        sleep(QUIET).await;
        self.check(rest);
        self.down.set(true);
        for (line, process) in self.processes.take() {
            process.stop();
            if line.is_cut() {
                process.kill();
            } else if let Err(fatal) = timeout(secs(60), process.ended()).await.expect("an end") {
                panic!("the process ended by itself: {fatal}");
            }
        }
        self.check(rest);
    }

    fn check(&self, rest: &Rest) {
        if let Some(missing) = rest.missing(&self.world) {
            panic!("no rest any more: {missing}\n{}", self.print());
        }
        let breaches = self.eye.breaches();
        assert!(breaches.is_empty(), "{breaches:#?}\n{}", self.print());
        let log = self.log();
        assert!(!log.contains("panicked"), "{log}");
    }

    /// The world and the log.
    pub(crate) fn print(&self) -> String {
        format!(
            "{}\n{}\n{:#?}",
            self.world.print(),
            self.log(),
            self.eye.breaches()
        )
    }
}
