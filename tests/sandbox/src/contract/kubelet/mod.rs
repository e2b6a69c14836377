//! What a plugin may rely on when it registers with a kubelet, as cases that run against any: the double, so that it
//! cannot lie, and a real one, so that the cases cannot.

mod found;
mod ground;
pub(crate) mod plugin;
mod refused;
mod written;

use std::{path::PathBuf, time::Duration};

use futures::{
    future::BoxFuture,
    stream::{self, StreamExt},
};

use super::{CaseResult, check};
use ground::Ground;

type Case = super::Case<Ground>;

/// The kubelet under test. It runs on this machine.
pub struct Target {
    /// The folder that it watches for registration sockets, as it names it itself; sockets in it may have paths of
    /// at most 107 bytes, so it must not have more than 50.
    pub registry: PathBuf,
    /// A folder for the sockets of drivers, as the kubelet sees it, with as short a path.
    pub plugins: PathBuf,
    /// Name of its Node.
    pub node: String,
    /// A client that may read Nodes and CSINodes and change the labels of Nodes.
    pub client: kube::Client,
    /// Time between two reconciles: a second for a real one.
    pub tick: Duration,
    /// Ends the kubelet as a kill would and starts it again; done when it has begun. `None` leaves those cases out.
    pub restart: Option<Restart>,
}

/// See [`Target::restart`].
pub type Restart = Box<dyn Fn() -> BoxFuture<'static, ()> + Send + Sync>;

/// What runs at once. The kubelet tries a write four times only, and all write the same two objects.
const AT_ONCE: usize = 4;

/// Runs all cases; gives the number that ran and what failed, by name. Takes half a minute with a real kubelet.
pub async fn run(target: Target) -> (usize, Vec<(String, String)>) {
    let ground = Ground::new(target);
    let mut cases = found::cases();
    cases.extend(refused::cases());
    cases.extend(written::cases());
    let mut ran = cases.len();
    let checks = stream::iter(cases).map(|case| check(case, &ground));
    let checked: Vec<_> = checks.buffer_unordered(AT_ONCE).collect().await;
    let mut failed: Vec<_> = checked.into_iter().flatten().collect();
    // Alone and last: the others would see the kubelet go.
    if ground.target.restart.is_some() {
        for case in found::after_restart() {
            ran += 1;
            failed.extend(check(case, &ground).await);
        }
    }
    let cleaned = ground.clean().await;
    failed.extend(cleaned.err().map(|why| ("cleaning up".to_owned(), why)));
    (ran, failed)
}

/// Fails unless both are the same.
fn same<T: PartialEq + std::fmt::Debug>(what: &str, found: T, expected: T) -> CaseResult {
    if found == expected {
        return Ok(());
    }
    Err(format!("{what}: {found:?} instead of {expected:?}"))
}
