//! The beginning of a term: every shard is read, judged, and written with our identity.

use std::{sync::Arc, time::Duration};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use jiff::Timestamp;
use serde_json::Value;
use tokio::time::sleep;

use super::{
    Ledger, TermFacts, judge::Untrusted, next::Next, record::Storable, settings::CrashSafe, shard::SHARDS,
};
use crate::base::api_error::{ApiError, Reason};

/// So many writes, or looks at claims, are under way at once. The reads go out together: on a slow API server the term
/// is over before they would have come one after another.
const AT_ONCE: usize = 16;
/// So often a shard is written before it is left as it is.
const TRIES: u32 = 3;
/// Before requests that failed are repeated.
const PAUSE: Duration = Duration::from_millis(250);

impl<R: Storable> Ledger<R> {
    /// Begins a term: from now on records are opened and erased under it. Each shard is read and written, so that a
    /// write of the leader before that comes late conflicts. `is_waiting` reads live whether the claim of a record
    /// waits for a volume of ours still; a record that is not trusted is held unless it does.
    ///
    /// # Errors
    /// [`ApiError`]: nothing may be reconciled yet, and all of this is to be repeated after a while.
    pub async fn take_over<F>(
        &self,
        term: Option<&TermFacts>,
        is_waiting: impl Fn(Arc<R>) -> F,
    ) -> Result<(), ApiError>
    where
        F: Future<Output = Result<bool, ApiError>>,
    {
        let (now, wall) = (self.origin.elapsed(), Timestamp::now());
        let judging = self.change(|state| state.begin_term(term, now, wall));
        if self.settings.mode != CrashSafe::Off {
            self.read_shards().await?;
        }
        let now = self.origin.elapsed();
        let untrusted = self.change(|state| state.judge(judging, now));
        let asked = untrusted.into_iter().map(|record: Untrusted<R>| {
            let waits = is_waiting(record.known.entry.record.clone());
            async { Ok::<_, ApiError>((waits.await?, record)) }
        });
        let decided: Vec<_> = stream::iter(asked)
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await?;
        let to_write = self.change(|state| {
            for (waits, record) in decided {
                state.decided(record, waits);
            }
            state.all_judged();
            match state.keeps() {
                true => (0..SHARDS)
                    .filter(|number| state.slots[*number].must_write)
                    .collect(),
                false => Vec::new(),
            }
        });
        self.write_shards(to_write).await?;
        self.change(|state| state.taking = false);
        self.wake.notify_one();
        Ok(())
    }

    /// Reads all shards, those whose request failed once more. One that fails while others are answered is left unread
    /// in the end, unless records must be stored.
    async fn read_shards(&self) -> Result<(), ApiError> {
        let mut asked: Vec<_> = (0..SHARDS).collect();
        loop {
            let reads = asked
                .into_iter()
                .map(|number| async move { (number, self.get_in_time(number).await) });
            let mut reads = stream::iter(reads).buffer_unordered(SHARDS);
            let (mut failed, mut answered) = (Vec::new(), None);
            while let Some((number, answer)) = reads.next().await {
                let now = self.origin.elapsed();
                match answer {
                    Ok(object) => {
                        self.change(|state| state.found(number, object, now));
                        answered = Some(number);
                    }
                    Err(error) if error.reason == Reason::Forbidden => {
                        self.change(|state| state.refuse(error, now));
                        return Ok(());
                    }
                    Err(error) => failed.push((number, error)),
                }
            }
            drop(reads);
            let now = self.origin.elapsed();
            asked = Vec::new();
            for (number, error) in failed {
                if answered.is_none() {
                    return Err(error);
                }
                let is_left = self.change(|state| {
                    state.fails(number, &error, false, now);
                    state.slots[number].pause.is_left_alone()
                });
                match (is_left, self.settings.mode) {
                    (true, CrashSafe::Required) => return Err(error),
                    (true, _) => {}
                    (false, _) => asked.push(number),
                }
            }
            if asked.is_empty() {
                return Ok(());
            }
            // One that was answered is asked, too: it tells a bad shard from an API server that is down.
            asked.extend(answered);
            sleep(PAUSE).await;
        }
    }

    /// As the server's flow control wants it.
    async fn get_in_time(&self, number: usize) -> Result<Option<Value>, ApiError> {
        loop {
            match self.read_shard(number).await {
                Err(ApiError {
                    reason: Reason::TooManyRequests(pause),
                    ..
                }) => sleep(pause).await,
                answer => return answer,
            }
        }
    }

    /// Writes these shards with our identity. One that fails while others are answered is left as it is in the end, unless
    /// records must be stored. What is decided does not depend on which was answered first.
    async fn write_shards(&self, shards: Vec<usize>) -> Result<(), ApiError> {
        let writes = shards
            .into_iter()
            .map(|number| async move { (number, self.take_shard(number).await) });
        let mut writes = stream::iter(writes).buffer_unordered(AT_ONCE);
        let (mut failed, mut answered, mut accepted) = (Vec::new(), false, false);
        while let Some((number, written)) = writes.next().await {
            let Err(error) = written else {
                (answered, accepted) = (true, true);
                continue;
            };
            match error.reason {
                // A term that ends in the middle is no fault of the shards.
                _ if error.reason == Reason::NotLeading || !self.active.leads() => return Err(error),
                // Of the first shard: records are in memory from now on.
                _ if self.locked.lock().state.refused.is_some() => {}
                // Somebody else wrote it meanwhile.
                Reason::Conflict | Reason::AlreadyExists | Reason::NotFound => return Err(error),
                // No new shards, which the state knows.
                Reason::Forbidden | Reason::Invalid
                    if !self.locked.lock().state.slots[number].shard.is_present() => {}
                reason => {
                    answered |= is_about_shard(reason);
                    failed.push((number, error));
                }
            }
        }
        let now = self.origin.elapsed();
        let forbidden = failed.iter().find(|(_, error)| error.reason == Reason::Forbidden);
        if let (false, Some((_, error))) = (accepted, forbidden) {
            // Records are in memory from now on.
            self.change(|state| state.refuse(error.clone(), now));
            return Ok(());
        }
        for (number, error) in failed {
            // A person has made it so, and must not stop claims by that.
            let is_persons = matches!(error.reason, Reason::Invalid | Reason::Forbidden);
            if !is_persons && (!answered || self.settings.mode == CrashSafe::Required) {
                return Err(error);
            }
            self.change(|state| state.leave(number, &error, now));
        }
        Ok(())
    }

    async fn take_shard(&self, number: usize) -> Result<(), ApiError> {
        let mut tries = 0;
        loop {
            let next = self.change(|state| state.write(number, Timestamp::now()));
            let Next::Write(write) = next else { return Ok(()) };
            let answer = self.send(write).await;
            tries += 1;
            match answer {
                Err(ApiError {
                    reason: Reason::TooManyRequests(pause),
                    ..
                }) => sleep(pause).await,
                Err(ApiError {
                    reason: Reason::Unavailable | Reason::Unauthorized | Reason::RetryLater,
                    ..
                }) if tries < TRIES && self.active.leads() => sleep(PAUSE).await,
                answer => return answer,
            }
        }
    }
}

/// Whether such an answer says something of this shard, and not of the whole API server.
const fn is_about_shard(reason: Reason) -> bool {
    matches!(reason, Reason::Invalid | Reason::RetryLater)
}
