//! The identity of this process in what the provisioner writes, in upstream's form.

use crate::app::sidecar::identity::Identity;

impl Identity {
    /// The attribute by which a volume tells which process created it.
    pub(super) fn provisioner_identity(&self, driver: &str, node: Option<&str>) -> String {
        let node = node.map_or_else(String::new, |node| format!("-{node}"));
        format!("{}-{}-{driver}{node}", self.started, self.nonce % 10_000)
    }

    /// The source of events.
    pub(super) fn component(&self, driver: &str) -> String {
        format!("{driver}_{}_{:016x}", self.hostname, self.nonce)
    }
}
