//! One time of leading: what is on record comes first, then the controllers work, and at the end what can be written is
//! written.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::time::{Instant, sleep, timeout};

use super::controllers::Controllers;
use crate::{base::reminder::Reminder, ledger::TermFacts, provision::record::Record};

/// How long running calls may go on after the signal to stop, or after the lease is lost, before the lease is given up
/// all the same. Kubernetes kills 30 s after the signal unless told otherwise.
const GRACE: Duration = Duration::from_secs(15);
/// After the first try to take the ledger over that failed; it doubles.
const TAKE_OVER_PAUSE: Duration = Duration::from_secs(1);
/// It does not grow beyond this.
const LONGEST_TAKE_OVER_PAUSE: Duration = Duration::from_secs(15);
/// Name of the note in `/readyz`.
const TAKE_OVER: &str = "ledger take-over";
/// How long the last writes may take after that.
const FINAL_SAVE_TIMEOUT: Duration = Duration::from_secs(3);

impl Controllers {
    /// One term, until `over`: first what is on record is taken over, then the controllers work. Afterwards what runs
    /// is waited for, and what can still be written is written, while the lease holds.
    pub(super) async fn run_term(&self, term: Option<&TermFacts>, over: impl Future<Output = ()>) {
        let taken_over = AtomicBool::new(false);
        let work = async {
            loop {
                self.take_over(term).await;
                taken_over.store(true, Ordering::Relaxed);
                tokio::select! {
                    () = self.run() => return,
                    // What could not be read before is taken over like the rest.
                    () = self.ledger.became_readable() => {}
                }
            }
        };
        let term = async {
            tokio::select! {
                () = work => {}
                () = over => {}
            }
            self.ready.note(TAKE_OVER, None);
            self.drain().await;
            // Before it is taken over, nobody knows what another leader has made of what this process remembers.
            if taken_over.load(Ordering::Relaxed) {
                self.flush().await;
            }
        };
        tokio::select! {
            () = term => {}
            // It writes for all of the above, and never ends.
            _ = self.ledger.run() => {}
        }
    }

    async fn take_over(&self, term: Option<&TermFacts>) {
        let (mut reminder, origin) = (Reminder::default(), Instant::now());
        let (provision, mut pause) = (&self.provision, TAKE_OVER_PAUSE);
        let is_waiting = |record: Arc<Record>| async move { provision.is_claim_waiting(&record).await };
        while let Err(error) = self.ledger.take_over(term, is_waiting).await {
            if reminder.is_due(&error, origin.elapsed()) {
                tracing::warn!(%error, "waiting: the ledger cannot be taken over, and nothing is begun before");
            }
            let text = format!("it cannot be taken over, and nothing is begun before: {error}");
            self.ready.note(TAKE_OVER, Some(text));
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_TAKE_OVER_PAUSE);
        }
        self.ready.note(TAKE_OVER, None);
    }

    /// Writes what can still be written at the end of a term.
    async fn flush(&self) {
        let flush = async {
            self.provision.flush().await;
            self.ledger.flush().await;
        };
        if timeout(FINAL_SAVE_TIMEOUT, flush).await.is_err() {
            tracing::warn!("the API server does not answer: what was made is finished by the next leader");
        }
    }

    /// Waits for what runs, for [`GRACE`] at most.
    async fn drain(&self) {
        self.tasks.close();
        if timeout(GRACE, self.tasks.wait()).await.is_err() {
            tracing::warn!(
                running = self.tasks.len(),
                "calls are still running, not waiting for them any longer"
            );
        }
        self.tasks.reopen();
    }
}
