//! A volume that is not the one that was asked for goes away again, where somebody waits for another one.

use tokio::time::Instant;

use super::{outcome::Mismatch, reconcile::Provision, record::Record};
use crate::csi::{NotSent, proto};

/// How often DeleteVolume is tried before CreateVolume is called again, within one `--timeout`.
const CLEANUPS: usize = 5;

impl Provision {
    /// Deletes a volume that is not the one that was asked for, unless a PersistentVolume has it that is not about to go.
    /// The record stays open: only a final answer of the driver to another CreateVolume tells that none is left.
    /// Returns what to say, and whether it is gone.
    pub(super) async fn clean_up(&self, record: &Record, id: String, mismatch: &Mismatch) -> (String, bool) {
        // The cache says whether a volume may have the handle, for nothing; only then are all volumes read.
        let in_use = match self.cache.may_share_handle(&id, "") {
            false => Ok(None),
            true => {
                self.live
                    .find_with_handle(&id, |volume| !volume.is_unwanted())
                    .await
            }
        };
        match in_use {
            Ok(None) => {}
            Ok(Some(other)) => {
                let text = format!(
                    "{mismatch}; it is not deleted, because PersistentVolume {} names it: volume {id}",
                    other.name
                );
                return (text, false);
            }
            Err(error) => {
                let text = format!(
                    "{mismatch}; it is not deleted, as it is not known whether a PersistentVolume names it: {error}"
                );
                return (text, false);
            }
        }
        let end = Instant::now() + self.timings.timeout;
        let secrets = record.secrets.clone().unwrap_or_default();
        let mut last = String::new();
        for _ in 0..CLEANUPS {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let request = proto::DeleteVolumeRequest {
                volume_id: id.clone(),
                secrets: secrets.reveal(),
            };
            match self.driver.within(left).delete_volume(request).await {
                Ok(Ok(_)) => return (format!("{mismatch}; it was deleted and is asked for again"), true),
                Ok(Err(error)) => last = error.to_string(),
                Err(NotSent) => break,
            }
        }
        let text =
            format!("{mismatch}; deleting it failed, so volume {id} may be left at the driver: {last}");
        (text, false)
    }
}
