//! Giving the lease up at the end of a term, so that nobody has to wait for it to run out.

use jiff::Timestamp;
use tokio::time::{sleep, timeout};

use super::{Election, RETRIES_PER_PERIOD, api::LeaseError};

impl Election {
    /// Gives the lease up so that the next replica need not wait for it to run out. A conflict, or
    /// whatever else passes, is tried again until the renew deadline.
    pub(super) async fn release(&mut self) {
        self.health.set(None);
        let (renew, pause) = (
            self.candidate.timing.renew(),
            self.candidate.timing.retry() / RETRIES_PER_PERIOD,
        );
        let released = timeout(renew, async {
            while let Err(error) = self.try_release().await {
                tracing::debug!(err = %error, "Releasing the lease");
                sleep(pause).await;
            }
        });
        match released.await {
            Ok(()) => tracing::info!(lease = %self.api.path(), "Released the lease"),
            Err(_) => {
                tracing::warn!(lease = %self.api.path(), "Could not release the lease, it will run out")
            }
        }
        self.elector.step_down();
    }

    async fn try_release(&mut self) -> Result<(), LeaseError> {
        let lease = match self.lease.take() {
            Some(lease) => Some(lease),
            None => self.read().await?,
        };
        // Not there, or not ours any more: nothing to give up.
        let (Some(mut lease), Some(record)) = (lease, self.elector.release(Timestamp::now())) else {
            return Ok(());
        };
        record.write(&mut lease, &self.candidate.labels);
        let sent = self.now();
        self.write(record, lease, sent, true).await
    }
}
