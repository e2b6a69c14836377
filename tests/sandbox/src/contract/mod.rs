//! What a client of Kubernetes may rely on, as cases that run against any API server: the sandbox, so that it cannot
//! lie, and the real one, so that the cases cannot.
//!
//! The cases make their own namespace and names and remove what they made.
//! Against a real cluster they tolerate running controllers.

mod capacities;
mod custom;
mod history;
pub mod kubelet;
mod lists;
mod metadata;
mod objects;
mod probe;
mod refusals;
mod samples;
mod topology;
mod verbs;
mod volumes;
mod watches;

use futures::{
    future::BoxFuture,
    stream::{FuturesUnordered, StreamExt},
};
use probe::Probe;

/// How a case ended: what was expected and what came instead.
pub(crate) type CaseResult = Result<(), String>;

/// The server under test.
pub struct Target {
    /// A client that may do everything. None of the clients may retry by
    /// itself (`kube::Config::default_retry`): a 504 is an answer to check.
    pub admin: kube::Client,
    /// A client of a known user without any right.
    pub stranger: kube::Client,
    /// That user's name, as refusals print it.
    pub stranger_name: String,
    /// A client that is nobody: its token is unknown.
    pub nobody: kube::Client,
    /// Makes the server forget every revision so far. On a real one: compact etcd, then start kube-apiserver anew,
    /// whose watch cache begins there. `None` leaves those cases out.
    pub expire: Option<Expire>,
    /// Installs the CRDs of the custom resources. `None` when they are there already.
    pub install: Option<Install>,
    /// Whether cases may wait longer than a minute.
    pub patient: bool,
}

/// See [`Target::expire`].
pub type Expire = Box<dyn Fn() -> BoxFuture<'static, ()> + Send + Sync>;

/// See [`Target::install`].
pub type Install = Box<dyn Fn() -> BoxFuture<'static, ()> + Send + Sync>;

/// No case needs longer, bookmarks and a restarted server included.
const LIMIT: std::time::Duration = std::time::Duration::from_secs(120);

/// One thing to rely on.
pub(crate) struct Case<P = Probe> {
    pub(crate) name: String,
    pub(crate) run: Box<dyn FnOnce(P) -> BoxFuture<'static, CaseResult> + Send>,
}

impl<P> Case<P> {
    pub(crate) fn new<F>(name: impl Into<String>, run: impl FnOnce(P) -> F + Send + 'static) -> Self
    where
        F: Future<Output = CaseResult> + Send + 'static,
    {
        Self {
            name: name.into(),
            run: Box::new(|probe| Box::pin(run(probe))),
        }
    }
}

/// Runs all cases; gives the number that ran and what failed, by name.
pub async fn run(target: Target) -> (usize, Vec<(String, String)>) {
    let expire = target.expire.is_some();
    let install = target.install.is_some();
    let probe = Probe::new(target).await;
    let mut failed = Vec::new();
    // Alone and first: the others need the CRDs.
    if install {
        for case in custom::before() {
            failed.extend(check(case, &probe).await);
        }
    }
    let mut cases = verbs::cases();
    cases.extend(objects::cases());
    cases.extend(volumes::cases());
    cases.extend(capacities::cases());
    cases.extend(custom::cases());
    cases.extend(lists::cases());
    cases.extend(metadata::cases());
    cases.extend(topology::cases());
    cases.extend(watches::cases(probe.target().patient));
    cases.extend(refusals::cases());
    let mut ran = cases.len() + if install { custom::before().len() } else { 0 };
    let mut running: FuturesUnordered<_> = cases.into_iter().map(|case| check(case, &probe)).collect();
    while let Some(ended) = running.next().await {
        failed.extend(ended);
    }
    // Alone and last: nothing else survives a server that forgets.
    if expire {
        let case = history::case();
        ran += 1;
        failed.extend(check(case, &probe).await);
    }
    probe.clean().await;
    (ran, failed)
}

async fn check<P: Clone>(case: Case<P>, probe: &P) -> Option<(String, String)> {
    let running = (case.run)(probe.clone());
    let ended = tokio::time::timeout(LIMIT, running).await;
    let ended = ended.unwrap_or_else(|_| Err("does not come to an end".into()));
    ended.err().map(|why| (case.name, why))
}
