//! The election against a small API server in virtual time, its decisions as tables, and a model of it.

mod acquire;
mod api;
mod elect;
mod fence;
mod leaders;
mod model;
mod release;
mod renew;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use self::api::Api;
use super::{Candidate, Election, Health, Leadership, Over, Term, Timing};
use crate::cluster::active::Active;

struct Running {
    leadership: watch::Receiver<Leadership>,
    health: Health,
    compete: watch::Sender<bool>,
    stop: CancellationToken,
    slow: Arc<AtomicU32>,
    active: Active,
    keeps_ledger: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<()>,
}

fn candidate(identity: &str) -> Candidate {
    let s = Duration::from_secs;
    Candidate {
        namespace: "ns".into(),
        name: "lab".into(),
        identity: identity.into(),
        labels: BTreeMap::from([("team".to_owned(), "storage".to_owned())]),
        timing: Timing::new(s(15), s(10), s(5)).unwrap(),
    }
}

fn start(api: &Api, identity: &str) -> Running {
    start_keeping(api, identity, true)
}

/// With or without a ledger.
fn start_keeping(api: &Api, identity: &str, keeps_ledger: bool) -> Running {
    let slow = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&slow);
    let active = Active::default();
    let keeps_ledger = Arc::new(AtomicBool::new(keeps_ledger));
    let (fence, keeps) = (active.clone(), Arc::clone(&keeps_ledger));
    let election = Election::new(api.client(), candidate(identity), fence, keeps, move || {
        count.fetch_add(1, Ordering::Relaxed);
    });
    let (compete, wanted) = watch::channel(true);
    let stop = CancellationToken::new();
    let (leadership, health) = (election.leadership(), election.health());
    let task = tokio::spawn(election.run(wanted, stop.clone()));
    Running {
        leadership,
        health,
        compete,
        stop,
        slow,
        active,
        keeps_ledger,
        task,
    }
}

impl Running {
    async fn until(&mut self, what: impl FnMut(&Leadership) -> bool) -> Leadership {
        let reached = tokio::time::timeout(Duration::from_secs(120), self.leadership.wait_for(what));
        reached.await.expect("not within two minutes").unwrap().clone()
    }

    async fn term(&mut self) -> Term {
        match self.until(|now| matches!(now, Leadership::Leading(_))).await {
            Leadership::Leading(term) => term,
            other => panic!("{other:?}"),
        }
    }

    /// The term after `before`, which has ended.
    async fn next_term(&mut self, before: Term) -> Term {
        let work = before._alive.downgrade();
        drop(before);
        let next = self.term().await;
        assert!(work.upgrade().is_none(), "it is still the same term");
        next
    }

    async fn over(&mut self) -> Over {
        match self.until(|now| matches!(now, Leadership::Over { .. })).await {
            Leadership::Over { why, .. } => why,
            other => panic!("{other:?}"),
        }
    }

    /// While this one leads; empty for nobody.
    async fn standby(&mut self, by: &str) {
        self.until(|now| {
            matches!(now, Leadership::Standby { holder } if holder.as_deref().unwrap_or_default() == by)
        })
        .await;
    }

    /// As kill -9 does.
    fn kill(self) {
        self.task.abort();
    }
}
