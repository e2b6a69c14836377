//! The Kubernetes API: a state behind a cheap handle, and a service that
//! answers HTTP requests for it, without a socket or on a loopback port.

mod answer;
pub(crate) mod capacity;
mod custom;
mod failure;
mod faults;
mod kinds;
mod list;
mod media;
mod object;
mod options;
mod patch;
mod process;
mod rbac;
mod route;
mod rules;
mod serve;
mod store;
mod topology;
mod watch;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use parking_lot::Mutex;
use serde_json::Value;
use tokio::time::Instant;

pub use faults::{Fault, Harm};
pub use kinds::{KINDS, Kind};
pub use patch::PatchKind;
pub use rbac::{ADMIN, Right};
pub use route::Verb;
pub use serve::{ApiBody, BoxError, Service, kubeconfig};

use store::{Preconditions, Store};

/// A Kubernetes API of one's own. Clones share the same state.
#[derive(Clone)]
pub struct Api {
    state: Arc<Mutex<State>>,
    /// When virtual time began, in both calendars.
    epoch: (jiff::Timestamp, Instant),
}

pub(crate) struct State {
    pub(crate) store: Store,
    faults: faults::Faults,
    rbac: rbac::Rbac,
    log: Vec<Request>,
    latency: Duration,
    streaming: bool,
    /// Reads from the cache and watches see nothing newer than this.
    ceiling: Option<u64>,
    /// Counts how often all watches were cut.
    cuts: u64,
    hidden: BTreeSet<String>,
    /// Resources whose next event cannot be read.
    garbled: BTreeSet<String>,
    rng: fastrand::Rng,
}

/// One request that was answered or cut, as the audit log would have it.
#[derive(Clone, Debug)]
pub struct Request {
    /// Who asked.
    pub user: String,
    /// What for.
    pub verb: Verb,
    /// Plural name, with `/status` for the subresource.
    pub resource: String,
    /// API group of the resource, empty for core.
    pub group: &'static str,
    /// Empty for cluster scope and for lists over all namespaces.
    pub namespace: String,
    /// Empty for collections; for a create the name in the body.
    pub name: String,
    /// HTTP code; 0 when the client got no answer.
    pub code: u16,
    /// Since the API was made, in virtual time.
    pub at: Duration,
}

impl Default for Api {
    fn default() -> Self {
        Self::new()
    }
}

impl Api {
    /// An empty cluster with the namespaces `default` and `kube-system`.
    /// Must be called within a tokio runtime: its clock is the API's clock.
    pub fn new() -> Self {
        let state = State {
            store: Store::new(),
            faults: faults::Faults::default(),
            rbac: rbac::Rbac::default(),
            log: Vec::new(),
            latency: Duration::ZERO,
            streaming: true,
            ceiling: None,
            cuts: 0,
            // As on most clusters.
            hidden: BTreeSet::from(["referencegrants".to_owned()]),
            garbled: BTreeSet::new(),
            rng: fastrand::Rng::with_seed(11),
        };
        let epoch = (jiff::Timestamp::now(), Instant::now());
        let api = Self {
            state: Arc::new(Mutex::new(state)),
            epoch,
        };
        for name in ["default", "kube-system"] {
            api.create("namespaces", "", serde_json::json!({"metadata": {"name": name}}));
        }
        api
    }

    /// The service for one user; [`ADMIN`] may do everything, anybody else what [`Api::load_rbac`] granted.
    pub fn service(&self, user: &str) -> Service {
        Service::new(self.clone(), user)
    }

    /// A kube client for one user that needs no socket.
    pub fn client(&self, user: &str) -> kube::Client {
        kube::Client::new(self.service(user), "default")
    }

    // --- the world as a test makes it and looks at it, without HTTP ---

    /// Creates an object with all the server's rules.
    ///
    /// # Panics
    /// When the server would refuse it: the test's world is wrong.
    pub fn create(&self, plural: &str, namespace: &str, object: Value) -> Value {
        let now = self.now();
        let made = self
            .state
            .lock()
            .store
            .create(kind(plural), namespace, object, &now);
        match made {
            Ok(object) => (*object).clone(),
            Err(status) => panic!("cannot create {plural}: {:?}", status.message),
        }
    }

    /// Changes an object, status included, whatever the rules say. False when it is absent.
    pub fn edit(&self, plural: &str, namespace: &str, name: &str, edit: impl FnOnce(&mut Value)) -> bool {
        let place = (namespace.to_owned(), name.to_owned());
        self.state.lock().store.force(kind(plural), &place, edit)
    }

    /// Deletes an object as a client would: finalizers keep it. False when it is absent.
    pub fn delete(&self, plural: &str, namespace: &str, name: &str) -> bool {
        let now = self.now();
        let place = (namespace.to_owned(), name.to_owned());
        let mut state = self.state.lock();
        state
            .store
            .delete(kind(plural), &place, &Preconditions::default(), &now)
            .is_ok()
    }

    /// One object as it is now.
    pub fn get(&self, plural: &str, namespace: &str, name: &str) -> Option<Value> {
        let place = (namespace.to_owned(), name.to_owned());
        let state = self.state.lock();
        state
            .store
            .get(kind(plural), &place)
            .ok()
            .map(|object| (**object).clone())
    }

    /// All objects of a resource, in the order of namespace and name.
    pub fn list(&self, plural: &str) -> Vec<Value> {
        let state = self.state.lock();
        state
            .store
            .list(kind(plural))
            .values()
            .map(|object| (**object).clone())
            .collect()
    }

    /// The objects that a condition chooses, without copying the others.
    pub fn filter(&self, plural: &str, chosen: impl Fn(&Value) -> bool) -> Vec<Value> {
        let all = self.state.lock().store.list(kind(plural));
        all.values()
            .filter(|object| chosen(object))
            .map(|object| (**object).clone())
            .collect()
    }

    /// How many objects of a resource there are.
    pub fn len(&self, plural: &str) -> usize {
        self.state.lock().store.list(kind(plural)).len()
    }

    /// Resolves when anything was written, with the revision reached.
    pub fn changes(&self) -> tokio::sync::watch::Receiver<u64> {
        self.state.lock().store.subscribe()
    }

    /// What was written to a resource after a revision: namespace and name, oldest first.
    pub fn changed_since(&self, plural: &str, revision: u64) -> Vec<(String, String)> {
        let state = self.state.lock();
        state
            .store
            .since(kind(plural), revision)
            .iter()
            .map(|change| change.place.clone())
            .collect()
    }

    /// Every version of a resource's objects that ever stood, oldest first:
    /// what never may happen can be looked for here.
    pub fn history(&self, plural: &str) -> Vec<Value> {
        let state = self.state.lock();
        let changes = state.store.since(kind(plural), 0).iter();
        changes
            .filter_map(|change| change.after.as_deref().cloned())
            .collect()
    }

    // --- how the server behaves ---

    /// Grants what the RBAC documents of a YAML stream grant; `namespace` is where documents without one go.
    ///
    /// # Errors
    /// When the YAML or a rule can not be read.
    pub fn load_rbac(&self, manifests: &str, namespace: &str) -> Result<(), String> {
        self.state.lock().rbac.load(manifests, namespace)
    }

    /// Takes one right from everybody, by verb, API group and resource, until documents loaded later grant it. A rule
    /// with `*` in its place stays.
    pub fn withdraw(&self, verb: &str, group: &str, resource: &str) {
        self.state.lock().rbac.withdraw(verb, group, resource);
    }

    /// Every right granted to a user.
    pub fn granted(&self, user: &str) -> BTreeSet<Right> {
        self.state.lock().rbac.granted(user)
    }

    /// Every right that a user's requests needed so far, refused ones included.
    pub fn used(&self, user: &str) -> BTreeSet<Right> {
        let state = self.state.lock();
        let mine = state.log.iter().filter(|request| request.user == user);
        mine.map(|r| (r.verb.rbac().to_owned(), r.group.to_owned(), r.resource.clone()))
            .collect()
    }

    /// Every request takes at least this long, in virtual time.
    pub fn latency(&self, latency: Duration) {
        self.state.lock().latency = latency;
    }

    /// Adds a fault; those added first are asked first.
    pub fn harm(&self, fault: Fault) {
        self.state.lock().faults.add(fault);
    }

    /// From now on `per_mille` of all requests meet some harm, repeatably.
    pub fn chaos(&self, seed: u64, per_mille: u32) {
        self.state.lock().faults.chaos(seed, per_mille);
    }

    /// Ends all faults, scripted, random and outage.
    pub fn heal(&self) {
        self.state.lock().faults.clear();
    }

    /// Nobody answers, and all watches break, until [`Api::heal`].
    pub fn outage(&self) {
        self.state.lock().faults.down = true;
        self.cut_watches();
    }

    /// Breaks the connections of all running watches.
    pub fn cut_watches(&self) {
        let mut state = self.state.lock();
        state.cuts += 1;
        state.store.wake();
    }

    /// Forgets history: watches and pages from any revision so far answer 410.
    /// Running watches go on; cut them to see it.
    pub fn expire(&self) {
        self.state.lock().store.expire();
    }

    /// Switches streaming lists off, as on a server without the WatchList feature.
    pub fn streaming_lists(&self, on: bool) {
        self.state.lock().streaming = on;
    }

    /// Lists at resourceVersion 0 and watches stop seeing news, as from a
    /// watch cache that lags; consistent reads and writes go on.
    pub fn freeze_cache(&self) {
        let mut state = self.state.lock();
        state.ceiling = Some(state.store.revision);
    }

    /// As [`Api::freeze_cache`], so many writes ago: another server answers from now on, and it lags.
    pub fn lag(&self, writes: u64) {
        let mut state = self.state.lock();
        state.ceiling = Some(state.store.revision.saturating_sub(writes));
    }

    /// The next event of this resource reaches one running watch as something that is no event.
    pub fn garble(&self, plural: &str) {
        self.state.lock().garbled.insert(plural.to_owned());
    }

    /// The cache catches up.
    pub fn thaw_cache(&self) {
        let mut state = self.state.lock();
        state.ceiling = None;
        state.store.wake();
    }

    /// The server does not know this resource, or any of this group: 404, and absent from discovery. So it begins with
    /// `referencegrants`.
    pub fn hide(&self, name: &str) {
        let mut state = self.state.lock();
        state
            .hidden
            .extend(meant(name).map(|kind| kind.plural.to_owned()));
    }

    /// The server knows it again.
    pub fn reveal(&self, name: &str) {
        let mut state = self.state.lock();
        state
            .hidden
            .retain(|plural| meant(name).all(|kind| kind.plural != plural));
    }

    // --- what clients did ---

    /// Every request so far.
    pub fn requests(&self) -> Vec<Request> {
        self.state.lock().log.clone()
    }

    /// The latest request that a condition chooses, without copying the others.
    pub fn latest_request(&self, chosen: impl Fn(&Request) -> bool) -> Option<Request> {
        let state = self.state.lock();
        state.log.iter().rfind(|request| chosen(request)).cloned()
    }

    /// How many requests with this verb of RBAC on this resource were answered with success.
    pub fn count(&self, verb: &str, resource: &str) -> usize {
        let state = self.state.lock();
        let same = |r: &&Request| r.verb.rbac() == verb && r.resource == resource && r.code / 100 == 2;
        state.log.iter().filter(same).count()
    }

    /// Forgets the requests so far.
    pub fn forget_requests(&self) {
        self.state.lock().log.clear();
    }

    /// Since the API was made, in virtual time: [`Request::at`] of a request that is answered now.
    pub fn elapsed(&self) -> Duration {
        self.epoch.1.elapsed()
    }

    /// The API's clock, as objects carry it.
    pub fn now(&self) -> String {
        let (began, at) = self.epoch;
        let now = began + at.elapsed();
        now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
    }
}

/// The rows of one resource, or of a group.
fn meant(name: &str) -> impl Iterator<Item = &'static Kind> {
    KINDS
        .iter()
        .filter(move |kind| kind.plural == name || kind.group == name)
}

/// The row of a resource that a test names.
///
/// # Panics
/// When there is none: the test is wrong.
fn kind(plural: &str) -> &'static Kind {
    Kind::named(plural).unwrap_or_else(|| panic!("the sandbox has no resource {plural:?}"))
}
