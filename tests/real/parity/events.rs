//! What a provisioner said of claims, volumes and leading.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Event;
use kube::{Api, api::ListParams};

use super::{file::ScenarioFile, seen::Seen};
use crate::{
    sidecar::Binary,
    world::{SOON, eventually, text},
};

impl Seen<'_> {
    /// Events come after what they tell of: those that the file declares as different are waited for.
    pub(super) async fn events(&mut self, file: &ScenarioFile, binary: Binary, driver: &str) {
        let mut declared: Vec<_> = file.peer_6_3.iter().map(|it| it.line.as_str()).collect();
        let differences = file.differences();
        for difference in &differences {
            let own = match binary {
                Binary::Ours => &difference.ours,
                Binary::Upstream => &difference.upstream,
            };
            declared.extend(difference.both.iter().chain(own).map(String::as_str));
        }
        declared.retain(|start| start.starts_with("event of "));
        let lines = eventually(
            &format!("there are the declared events {declared:?}"),
            SOON,
            async || {
                let lines = self.said(driver).await?;
                let missing = |start: &&&str| !lines.iter().any(|line| line.starts_with(**start));
                match declared.iter().find(missing) {
                    None => Ok(lines),
                    Some(start) => Err(format!("no {start} in {lines:?}")),
                }
            },
        )
        .await;
        self.lines.extend(lines);
    }

    async fn said(&self, driver: &str) -> Result<BTreeSet<String>, String> {
        let mut lines = BTreeSet::new();
        let client = &self.world.client;
        // Those of objects without a namespace are in the second one, and so are other scenarios'.
        for namespace in [&self.world.namespace, "default"] {
            let events: Api<Event> = Api::namespaced(client.clone(), namespace);
            for event in events.list(&ListParams::default()).await.map_err(text)? {
                let reporter = event.source.as_ref().and_then(|source| source.component.clone());
                let reporter = reporter.unwrap_or_default();
                if reporter.starts_with(driver) || reporter == "external-provisioner" {
                    lines.insert(self.shown(said(&event, &reporter, driver)));
                }
            }
        }
        Ok(lines)
    }
}

fn said(event: &Event, reporter: &str, driver: &str) -> String {
    assert_eq!(event.reporting_component.as_deref(), Some(reporter));
    let object = &event.involved_object;
    let field = |field: &Option<String>| field.clone().unwrap_or_default();
    // Which end of a call of gRPC-Go's notices first that its time is over is chance.
    let message = field(&event.message).replace(
        "stream terminated by RST_STREAM with error code: CANCEL",
        "context deadline exceeded",
    );
    format!(
        "event of {} {}, {} {}: {:?}, {} by {}",
        field(&object.kind),
        field(&object.name).replace(&driver.replace('.', "-"), "<driver>"),
        field(&event.type_),
        field(&event.reason),
        message,
        field(&object.api_version),
        // <driver>_<host>_<random>, and the lease's name where it is about that.
        reporter.split('_').next().unwrap_or_default(),
    )
}
