//! Sends what is to be sent, one request at a time, and hands the answers back.

use std::{convert::Infallible, time::Duration};

use jiff::Timestamp;
use serde_json::Value;
use tokio::{
    sync::oneshot,
    time::{sleep, sleep_until},
};

use super::{
    Ledger, LedgerEvent, Locked, OpenError,
    next::{Next, Write},
    record::Storable,
    shard::shard_name,
    slot::{Effects, Notice, Ticket},
    state::LedgerState,
};
use crate::base::api_error::ApiError;

/// How long a request may take, while the lease is certain.
pub(super) const LIMIT: Duration = Duration::from_secs(10);
/// How long one may take for a shard that is left alone: the others wait for it.
const TRIAL_LIMIT: Duration = Duration::from_secs(2);
/// How often somebody who waits looks whether we lead still.
const LOOK: Duration = Duration::from_millis(250);

impl<R: Storable> Ledger<R> {
    /// Writes what is to be written, until it is dropped: then whoever waits for a record hears that we do not lead.
    pub async fn run(&self) -> Infallible {
        let _running = Running::new(self);
        loop {
            let now = self.origin.elapsed();
            let next = self.change(|state| match self.active.leads() {
                true => state.next(now, Timestamp::now()),
                false => {
                    state.fail_pending(&OpenError::NotLeading);
                    Next::Wait(Some(now + LOOK))
                }
            });
            match next {
                Next::Read(number) => {
                    let answer = self.read_shard(number).await;
                    let now = self.origin.elapsed();
                    self.change(|state| state.read(number, answer, now));
                }
                Next::Write(write) => {
                    let _ = self.send(write).await;
                }
                Next::Wait(until) => {
                    let until = async {
                        match until {
                            Some(until) => sleep_until(self.origin + until).await,
                            None => std::future::pending().await,
                        }
                    };
                    tokio::select! {
                        () = self.wake.notified() => {}
                        () = until => {}
                    }
                }
            }
        }
    }

    /// Writes all erasures that were not written yet. It waits for that, or until we do not lead any more.
    pub async fn flush(&self) {
        self.change(|state| state.flushing = true);
        self.wake.notify_one();
        let written = async {
            loop {
                let changed = self.changed.notified();
                if !self.active.leads() || self.locked.lock().state.is_flushed() {
                    return;
                }
                tokio::select! {
                    () = changed => {}
                    () = sleep(LOOK) => {}
                }
            }
        };
        if self.locked.lock().running {
            written.await;
        } else {
            tokio::select! {
                biased;
                () = written => {}
                _ = self.run() => {}
            }
        }
        self.change(|state| state.flushing = false);
    }

    /// Waits until shards that could not be read when the term began can be read: then [`Ledger::take_over`] is to be
    /// called once more with the same term.
    pub async fn became_readable(&self) {
        loop {
            let changed = self.changed.notified();
            if self.locked.lock().state.readable {
                return;
            }
            changed.await;
        }
    }

    /// Reads a shard.
    pub(super) async fn read_shard(&self, number: usize) -> Result<Option<Value>, ApiError> {
        let deadline = self.active.deadline(self.limit(number));
        self.leases.get(&self.shard(number), deadline).await
    }

    /// Sends a write, if we lead, and hands the answer back.
    pub(super) async fn send(&self, write: Write) -> Result<(), ApiError> {
        let Write {
            number,
            create,
            object,
        } = write;
        let (name, deadline) = (self.shard(number), self.active.deadline(self.limit(number)));
        // The state may have been locked for a while, or the whole process stopped.
        if !self.active.leads() {
            self.change(|state| state.unsent(number));
            let verb = if create { "create" } else { "update" };
            return Err(ApiError::not_leading(
                verb,
                "coordination.k8s.io",
                "leases",
                &name,
            ));
        }
        let answer = match create {
            true => self.leases.create(&name, &object, deadline).await,
            false => self.leases.update(&name, &object, deadline).await,
        };
        let done = answer.as_ref().map(|_| ()).map_err(ApiError::clone);
        let now = self.origin.elapsed();
        self.change(|state| state.written(number, answer, now));
        done
    }

    /// While a term begins nobody else waits.
    fn limit(&self, number: usize) -> Duration {
        let state = &self.locked.lock().state;
        match !state.taking && state.slots[number].pause.is_left_alone() {
            true => TRIAL_LIMIT,
            false => LIMIT,
        }
    }

    pub(super) fn shard(&self, number: usize) -> String {
        shard_name(&self.settings.name, number)
    }

    /// Changes the state, and tells what follows. The status is told with the state locked, so that of two changes the
    /// later one is heard last.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut LedgerState<R>) -> T) -> T {
        self.change_locked(|locked| change(&mut locked.state))
    }

    pub(super) fn change_locked<T>(&self, change: impl FnOnce(&mut Locked<R>) -> T) -> T {
        let (changed, effects, waiting) = {
            let mut locked = self.locked.lock();
            let changed = change(&mut locked);
            let effects = std::mem::take(&mut locked.state.effects);
            let status = locked.state.status();
            if status != locked.status {
                (self.on_event)(LedgerEvent::Status(&status));
                locked.status = status;
            }
            let waiting: Vec<_> = effects
                .answers
                .iter()
                .filter_map(|(ticket, answer)| Some((locked.waiting.remove(ticket)?, answer.clone())))
                .collect();
            (changed, effects, waiting)
        };
        for (waiting, answer) in waiting {
            // Who does not wait any more has said so.
            let _ = waiting.send(answer);
        }
        self.tell(effects);
        self.changed.notify_waiters();
        changed
    }

    fn tell(&self, effects: Effects) {
        for told in effects.notices {
            match told {
                Notice::Written(bytes) => (self.on_event)(LedgerEvent::Written(bytes)),
                Notice::Held { head, lease, why } => (self.on_event)(LedgerEvent::Held {
                    head: &head,
                    lease: &lease,
                    why: &why,
                }),
                Notice::Unreadable { uid, lease, why } => (self.on_event)(LedgerEvent::Unreadable {
                    uid: &uid,
                    lease: &lease,
                    why: &why,
                }),
                Notice::LeftAlone(error) => tracing::warn!(
                    err = %error,
                    "A shard of the ledger is left alone, since it cannot be read or written: its records wait, and it \
                     is tried again every minute"
                ),
                Notice::Settling(uid) => (self.on_event)(LedgerEvent::Settle { uid: &uid }),
            }
        }
        if effects.resign {
            tracing::warn!("Another replica has written the ledger, so this one does not lead any more");
            self.active.resign();
        }
    }
}

/// The writer runs while this exists.
struct Running<'a, R: Storable>(&'a Ledger<R>);

impl<'a, R: Storable> Running<'a, R> {
    fn new(ledger: &'a Ledger<R>) -> Self {
        ledger.locked.lock().running = true;
        Self(ledger)
    }
}

impl<R: Storable> Drop for Running<'_, R> {
    fn drop(&mut self) {
        self.0.locked.lock().running = false;
        let now = self.0.origin.elapsed();
        self.0.change(|state| state.end_term(now));
    }
}

/// Somebody waits for a record to be stored while this exists.
pub(super) struct Waiting<'a, R: Storable> {
    pub(super) ledger: &'a Ledger<R>,
    pub(super) ticket: Ticket,
    pub(super) answer: oneshot::Receiver<Result<(), OpenError>>,
}

impl<R: Storable> Drop for Waiting<'_, R> {
    fn drop(&mut self) {
        let waiting = self.ledger.locked.lock().waiting.remove(&self.ticket);
        if waiting.is_some() {
            self.ledger.change(|state| state.cancel(self.ticket));
        }
    }
}
