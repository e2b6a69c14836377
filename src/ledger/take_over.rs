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
        let writes = to_write.into_iter().map(|number| self.take_shard(number));
        let mut writes = stream::iter(writes).buffer_unordered(AT_ONCE);
        while let Some(written) = writes.next().await {
            match written {
                // Records are in memory from now on.
                Err(_) if self.locked.lock().state.refused.is_some() => {}
                written => written?,
            }
        }
        self.change(|state| state.taking = false);
        self.wake.notify_one();
        Ok(())
    }

    /// Reads all shards, those whose request failed once more, as long as some answers come.
    async fn read_shards(&self) -> Result<(), ApiError> {
        let mut unread: Vec<_> = (0..SHARDS).collect();
        loop {
            let asked = unread.len();
            let reads = unread
                .into_iter()
                .map(|number| async move { (number, self.get_in_time(number).await) });
            let mut reads = stream::iter(reads).buffer_unordered(SHARDS);
            let (mut failed, mut last) = (Vec::new(), None);
            while let Some((number, answer)) = reads.next().await {
                let now = self.origin.elapsed();
                match answer {
                    Ok(object) => self.change(|state| state.found(number, object, now)),
                    Err(error) if error.reason == Reason::Forbidden => {
                        self.change(|state| state.refuse(error, now));
                        return Ok(());
                    }
                    Err(error) => {
                        failed.push(number);
                        last = Some(error);
                    }
                }
            }
            drop(reads);
            match last {
                None => return Ok(()),
                Some(error) if failed.len() == asked => return Err(error),
                Some(_) => unread = failed,
            }
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

    async fn take_shard(&self, number: usize) -> Result<(), ApiError> {
        loop {
            let next = self.change(|state| state.write(number, Timestamp::now()));
            let Next::Write(write) = next else { return Ok(()) };
            let create = write.create;
            match self.send(write).await {
                Err(ApiError {
                    reason: Reason::TooManyRequests(pause),
                    ..
                }) => sleep(pause).await,
                // A person has made it so: it is left alone.
                Err(error) if error.reason == Reason::Invalid && !create => return Ok(()),
                answer => return answer,
            }
        }
    }
}
