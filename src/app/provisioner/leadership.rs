//! When the controllers run: always, or while this process leads.

use tokio_util::sync::CancellationToken;

use super::controllers::Controllers;
use crate::{
    app::sidecar::eligibility::Eligibility,
    cluster::events::{Event, ObjectReference},
    lease::{Election, Leadership, LeaseRef, Term},
    ledger::TermFacts,
};

/// Works from start to end, without an election.
pub(super) async fn run_alone(controllers: &Controllers, stop: &CancellationToken) {
    controllers.run_term(None, stop.cancelled()).await;
}

/// Works while this process leads. Losing the Lease stops the work, not the process: the caches stay filled, and the
/// process competes again.
pub(super) async fn run_elected(
    controllers: &Controllers,
    election: Election,
    eligibility: Eligibility,
    release: bool,
    stop: &CancellationToken,
) {
    let (identity, mut leadership) = (election.identity().to_owned(), election.leadership());
    controllers.metrics.controller.leading(election.name(), false);
    // Without release the Lease is renewed until the work has stopped, and then left to expire.
    let election_stop = if release {
        stop.clone()
    } else {
        CancellationToken::new()
    };
    let terms = async {
        loop {
            let now = leadership.borrow_and_update().clone();
            if let Leadership::Leading(term) = now {
                controllers.publish(reference(&term.lease), event(&identity, "became leader"));
                controllers.metrics.controller.leading(&term.lease.name, true);
                let over = async {
                    tokio::select! {
                        _ = leadership.wait_for(|now| !matches!(now, Leadership::Leading(_))) => {}
                        () = stop.cancelled() => {}
                    }
                    controllers.metrics.controller.leading(&term.lease.name, false);
                };
                controllers.run_term(Some(&facts(&term)), over).await;
                controllers.publish(reference(&term.lease), event(&identity, "stopped leading"));
            }
            if stop.is_cancelled() && !release {
                return;
            }
            tokio::select! {
                changed = leadership.changed() => if changed.is_err() { return },
                () = stop.cancelled(), if !release => {}
            }
        }
    };
    // With release the election ends by itself once the last term is over. Without it the terms end first.
    tokio::select! {
        () = election.run(eligibility.0, election_stop) => {}
        () = terms => {}
    }
}

fn facts(term: &Term) -> TermFacts {
    TermFacts {
        lease_uid: term.lease.uid.clone(),
        transitions: term.transitions,
        first_transitions: term.first_transitions,
        undisturbed: term.undisturbed,
    }
}

fn reference(lease: &LeaseRef) -> ObjectReference {
    ObjectReference::lease(&lease.namespace, &lease.name, &lease.uid)
}

fn event(identity: &str, what: &str) -> Event {
    Event::normal("LeaderElection", format!("{identity} {what}"))
}
