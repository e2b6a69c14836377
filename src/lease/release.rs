//! Giving the lease up at the end of a term, so that nobody has to wait for it to run out.

use jiff::Timestamp;
use tokio::time::{Instant, sleep, timeout_at};

use super::{Election, RETRIES_PER_PERIOD};
use crate::base::api_error::ApiError;

impl Election {
    /// Gives the lease up so that the next replica need not wait for it to run out. After a conflict, or anything else
    /// that may pass, it tries again until the renew deadline.
    pub(super) async fn release(&mut self) {
        self.health.set(None);
        // Nothing may be sent any more from when somebody else may hold the lease.
        self.elector.step_down();
        self.publish_certainty();
        let timing = self.candidate.timing;
        let (deadline, pause) = (
            Instant::now() + timing.renew(),
            timing.retry() / RETRIES_PER_PERIOD,
        );
        let released = timeout_at(deadline, async {
            while let Err(error) = self.try_release(deadline).await {
                tracing::debug!(err = %error, "Releasing the lease");
                sleep(pause).await;
            }
        });
        match released.await {
            Ok(()) => tracing::info!(lease = %self.candidate.path(), "Released the lease"),
            Err(_) => {
                tracing::warn!(lease = %self.candidate.path(), "Could not release the lease, it will run out")
            }
        }
    }

    async fn try_release(&mut self, deadline: Instant) -> Result<(), ApiError> {
        let lease = match self.lease.take() {
            Some(lease) => Some(lease),
            None => self.read(deadline).await?,
        };
        // Not there, or not ours any more: nothing to give up.
        let (Some(mut lease), Some(record)) = (lease, self.elector.release(Timestamp::now())) else {
            return Ok(());
        };
        self.write(&record, &mut lease);
        self.update(record, &lease, self.now(), deadline).await
    }
}
