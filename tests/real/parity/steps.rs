//! What happens in a scenario, step by step.

use std::collections::BTreeSet;

use futures::future::join_all;
use k8s_openapi::api::core::v1::Event;
use kube::{Api, ResourceExt, api::ListParams};
use serde_json::{Value, json};

use super::{
    file::{AskedFile, EventFile, ExitFile, MetricsFile, ScenarioFile, Step},
    metrics,
    objects::Object,
    stage::Stage,
};
use crate::{
    sidecar::{Binary, Shape, Sidecar},
    supervisor::{SIGKILL, SIGTERM},
    world::{SOON, World, eventually, text},
};

const SELECTED: &str = "volume.kubernetes.io/selected-node";

/// What could be seen.
pub(super) async fn play(file: &ScenarioFile, world: &World, binary: Binary) -> BTreeSet<String> {
    let mut stage = Stage::set(file, world, binary).await;
    for step in &file.steps {
        stage.step(step).await;
    }
    if file.steps.is_empty() {
        let claims: Vec<_> = file.claims.keys().cloned().collect();
        for claim in &claims {
            stage.claim(claim).await;
        }
        for claim in &claims {
            stage.bound(claim).await;
        }
        for claim in &claims {
            stage.delete(claim).await;
        }
        for claim in &claims {
            stage.gone(claim).await;
        }
    }
    let places = std::mem::take(&mut stage.places);
    // They come last, and some are waited for.
    stage.seen.events(file, binary, &places[0].driver.name).await;
    for place in &places {
        place.sidecar.iter().for_each(Sidecar::assert_runs);
        stage.seen.calls(&place.driver);
    }
    stage.seen.lines
}

impl Stage<'_> {
    async fn step(&mut self, step: &Step) {
        match step {
            Step::Claims(names) => {
                for name in names.list() {
                    self.claim(name).await;
                }
            }
            Step::Bound(names) => {
                for name in names.list() {
                    self.bound(name).await;
                }
            }
            Step::Fails(claims) => {
                for (claim, says) in claims {
                    self.event(claim, &["ProvisioningFailed".to_owned()], says, 1)
                        .await;
                }
            }
            Step::Event(EventFile {
                on,
                reason,
                says,
                times,
            }) => self.event(on, reason.list(), says, *times).await,
            Step::Look(names) => {
                for name in names.list() {
                    self.look(name).await;
                }
            }
            Step::Delete(names) => {
                for name in names.list() {
                    self.delete(name).await;
                }
            }
            Step::Gone(names) => {
                for name in names.list() {
                    self.gone(name).await;
                }
            }
            Step::Released(names) => {
                for name in names.list() {
                    self.released(name).await;
                }
            }
            Step::Returned(names) => {
                for name in names.list() {
                    self.seen.returned(name).await;
                }
            }
            Step::Select(claims) => {
                for (claim, node) in claims {
                    let node = self.world.node_name(node);
                    let patch = json!({"metadata": {"annotations": {SELECTED: node}}});
                    self.object(claim).patch(patch).await;
                }
            }
            Step::Wait(objects) => {
                for (object, wanted) in objects {
                    self.object(object).is_like(&self.expand(wanted)).await;
                }
            }
            Step::Create(objects) => self.create(objects).await,
            Step::Patch(objects) => {
                for (object, patch) in objects {
                    self.object(object).patch(self.expand(patch)).await;
                }
            }
            Step::Status(objects) => {
                for (object, patch) in objects {
                    self.object(object)
                        .patch_status(json!({"status": self.expand(patch)}))
                        .await;
                }
            }
            Step::Nodes(nodes) => self.nodes(nodes).await,
            Step::Driver(driver) => self.configure(driver),
            Step::Asked(asked) => self.asked(asked).await,
            Step::Capacities(wanted) => self.seen.capacities(wanted).await,
            Step::Pods(pods) => {
                for (pod, at) in pods {
                    self.world.pod(pod, &[pod], &self.labels(at)).await;
                }
            }
            Step::Placed(pods) => {
                for (pod, node) in pods {
                    assert_eq!(self.world.placed(pod).await, self.world.node_name(node));
                }
            }
            Step::Start => self.start().await,
            Step::Restart => {
                for place in &mut self.places {
                    let sidecar = place.sidecar.take().unwrap();
                    sidecar.process.signal(SIGKILL);
                    sidecar.ended(SOON).await;
                    place.sidecar = Some(sidecar.again(self.world));
                }
            }
            Step::Stop => {
                for place in &mut self.places {
                    let sidecar = place.sidecar.take().unwrap();
                    sidecar.process.signal(SIGTERM);
                    self.seen
                        .line(format!("stopped: exit {}", sidecar.ended(SOON).await));
                }
            }
            Step::Pages(paths) => {
                let pid = self.places[0].sidecar.as_ref().unwrap().process.pid;
                for path in paths.list() {
                    let what = format!("{path} is answered");
                    let (status, _) = eventually(&what, SOON, async || metrics::get(pid, path).await).await;
                    self.seen.line(format!("page {path}: {status}"));
                }
            }
            Step::Metrics(wanted) => self.metrics(wanted).await,
            Step::Exits(exits) => {
                let ends = join_all(
                    exits
                        .iter()
                        .enumerate()
                        .map(|(index, (_, exit))| self.ends(index, exit)),
                )
                .await;
                for (what, code) in exits.keys().zip(ends) {
                    self.seen.line(format!("{what}: exit {code}"));
                }
            }
        }
    }

    pub(super) async fn bound(&mut self, claim: &str) {
        let volume = self.world.bound(claim, SOON).await;
        let races = self.places.iter().any(|place| place.driver.node.is_some());
        if races && self.file.claims[claim].node.is_none() {
            let bound = self.world.claims.get(claim).await.unwrap();
            let winner = bound.annotations()[SELECTED].clone();
            self.seen.winners.insert(format!("{claim}:"), winner.clone());
            self.seen.winners.insert(volume.name_any(), winner);
        }
        self.volumes.insert(claim.to_owned(), volume.name_any());
        for place in &self.places {
            self.seen.handles(&place.driver);
        }
        self.seen.volume(&format!("volume of {claim}"), &volume);
        self.look(claim).await;
        self.event(claim, &["ProvisioningSucceeded".to_owned()], "", 1)
            .await;
    }

    async fn event(&self, on: &str, reasons: &[String], says: &str, times: i32) {
        let object = self.object(on);
        let namespace = if Object::is_namespaced(&object.kind) {
            &self.world.namespace
        } else {
            "default"
        };
        let events: Api<Event> = Api::namespaced(self.world.client.clone(), namespace);
        let says = self.text(says);
        eventually(
            &format!("{on} has the event {reasons:?}, {says:?}"),
            SOON,
            async || {
                let all = events.list(&ListParams::default()).await.map_err(text)?;
                let of = |event: &&Event| {
                    let named = event.involved_object.name.as_ref() == Some(&object.name);
                    named && event.involved_object.kind.as_ref() == Some(&object.kind)
                };
                let fits = |event: &Event| {
                    let message = event.message.as_deref().unwrap_or_default();
                    event
                        .reason
                        .as_ref()
                        .is_some_and(|reason| reasons.contains(reason))
                        && message.contains(&says)
                        && event.count.unwrap_or(1) >= times
                };
                let all: Vec<_> = all.iter().filter(of).collect();
                let short =
                    |event: &&Event| format!("{:?} {:?} {:?}", event.reason, event.message, event.count);
                match all.iter().any(|event| fits(event)) {
                    true => Ok(()),
                    false => Err(all.iter().map(short).collect::<Vec<_>>().join("; ")),
                }
            },
        )
        .await;
    }

    async fn look(&mut self, what: &str) {
        let object = self.object(what);
        let seen = object.get().await;
        if object.kind == "PersistentVolume" {
            let volume = serde_json::from_value(seen).unwrap();
            return self.seen.volume(what, &volume);
        }
        self.seen.object(what, seen);
    }

    pub(super) async fn delete(&self, what: &str) {
        let object = self.object(what);
        object.delete().await;
        if object.kind == "Node" {
            Object::new(self.world, "CSINode", &object.name).delete().await;
        }
    }

    pub(super) async fn gone(&self, what: &str) {
        self.object(what).gone().await;
        if self.volumes.contains_key(what) {
            self.object(&format!("PersistentVolume/{what}")).gone().await;
        }
    }

    async fn released(&mut self, claim: &str) {
        let volume = self.object(&format!("PersistentVolume/{claim}"));
        let alone = json!({"status": {"phase": "Released"}, "metadata": {"finalizers": ["kubernetes.io/pv-protection"]}});
        volume.is_like(&alone).await;
        let volume = serde_json::from_value(volume.get().await).unwrap();
        self.seen.volume(&format!("released volume of {claim}"), &volume);
    }

    async fn asked(&self, asked: &AskedFile) {
        let AskedFile {
            method,
            claim,
            times,
            more,
            exactly,
        } = asked;
        let uid = claim.as_ref().map(|claim| self.claims[claim].as_str());
        let count = || {
            let calls = self.places.iter().flat_map(|place| place.driver.calls_of(method));
            let about = |request: &Value| uid.is_none_or(|uid| request.to_string().contains(uid));
            calls.filter(|call| about(&call.request)).count()
        };
        let wanted = more.map_or(exactly.unwrap_or(*times), |more| count() + more);
        let what = format!("the driver has answered {method} for {claim:?} {wanted} times");
        eventually(&what, SOON, async || {
            let count = count();
            if count >= wanted {
                Ok(())
            } else {
                Err(format!("{count} times"))
            }
        })
        .await;
        assert!(
            exactly.is_none_or(|exactly| count() == exactly),
            "{what}, and more often: {}",
            count()
        );
    }

    async fn metrics(&mut self, wanted: &MetricsFile) {
        let pid = self.places[0].sidecar.as_ref().unwrap().process.pid;
        for (series, value) in &wanted.values {
            let series = self.text(series);
            eventually(&format!("{series} is {value}"), SOON, async || {
                let page = metrics::series(pid).await?;
                let kin = series.split('{').next().unwrap_or_default();
                let mut seen = page.iter().filter(|(name, _)| name.starts_with(kin));
                match seen.any(|it| *it == (series.clone(), *value)) {
                    true => Ok(()),
                    false => Err(format!(
                        "{:?}",
                        page.iter()
                            .filter(|(name, _)| name.starts_with(kin))
                            .collect::<Vec<_>>()
                    )),
                }
            })
            .await;
        }
        let page = metrics::series(pid).await.unwrap();
        let wanted: Vec<_> = wanted.series.iter().map(|start| self.text(start)).collect();
        for (series, _) in page {
            // Floating-point noise of Go's is in the bounds of buckets.
            let counts = wanted.iter().any(|start| series.starts_with(start)) && !series.contains("_bucket{");
            if counts {
                self.seen.line(format!("metric {series}"));
            }
        }
    }

    async fn ends(&self, index: usize, exit: &ExitFile) -> i32 {
        let flags: Vec<_> = exit.flags.iter().map(String::as_str).collect();
        let without: Vec<_> = exit.without.iter().map(String::as_str).collect();
        let shape = Shape {
            owner: None,
            without: &without,
        };
        let driver = &self.places[0].driver;
        let pod = format!("exits-{index}");
        let sidecar = Sidecar::start_in(self.world, self.binary, driver, &pod, &flags, shape).await;
        sidecar.ended(SOON).await
    }
}
