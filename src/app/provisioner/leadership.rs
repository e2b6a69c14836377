//! The controllers as the work of a leader.

use super::controllers::Controllers;
use crate::{
    app::sidecar::{leadership::Runnable, metrics::SidecarMetrics},
    cluster::events::{Event, ObjectReference},
};

impl Runnable for Controllers {
    async fn run(&self) {
        self.work().await;
    }

    async fn drain(&self) {
        Controllers::drain(self).await;
    }

    async fn close(&self) {
        Controllers::close(self).await;
    }

    fn distrust(&self) {
        Controllers::distrust(self);
    }

    fn publish(&self, about: ObjectReference, event: Event) {
        self.say(about, event);
    }

    fn metrics(&self) -> &SidecarMetrics {
        &self.metrics.sidecar
    }
}
