//! From a key of the work queue to what is done about the claim, or about what its creation has left.

use std::{sync::Arc, time::Duration};

use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::PersistentVolume;
use tokio::time::Instant;

use super::{
    decide::{Decision, Facts, Infeasible, decide},
    memory::{
        AnnouncedClaims, ClaimsBeingSaved, ClaimsWaitingForNodes, ClaimsWaitingForSource, ClaimsWithoutClass,
        InfeasibleClaims, OtherIds, RecentlyRescheduled, RecentlySaved,
    },
    metrics::ProvisionMetrics,
    plan::Plan,
    policy::Policy,
    races::Races,
    record::Record,
    refusal::Refusal,
    settle::{SeenObject, VolumeState},
    volume::written_source,
};
use crate::{
    base::names,
    cluster::{
        active::Active,
        api::{ApiClient, LiveVolumes},
        cache::Cache,
        events::{Event, EventRecorder},
        objects::Claim,
        queue::Requeue,
        source::{NotHeld, Source},
    },
    csi::{Driver, DriverInfo},
    ledger::{Entry, Ledger},
};

/// The lease is not certainly ours at the moment, and nothing is sent. The term may go on all the same, when a renewal is
/// confirmed late: then the claim is looked at after this pause. Where the term is over the queue is closed, and takes no
/// key.
pub(super) const NOT_LEADING: Requeue = Requeue::After(Duration::from_secs(1));
/// A volume of the claim is being deleted: that is looked at again after this pause.
const DELETION: Duration = Duration::from_secs(1);
pub(super) const FAILED: &str = "ProvisioningFailed";

/// Hears of each answer to CreateVolume: what was asked for, and the object of the volume if it was made.
pub type OnAnswer = Box<dyn Fn(&Plan, Option<&PersistentVolume>) + Send + Sync>;

/// Whether the volume of the claim of this UID is being deleted at the driver, or was, and its object stands still.
pub type IsDeleting = Box<dyn Fn(&str) -> bool + Send + Sync>;

/// Keeps what the content of a volume comes from, for a creation that is about to be recorded, or is: the source, the UID of
/// the object that was read, and that of the claim.
pub type HoldSource =
    Box<dyn Fn(&Source, Option<&str>, &str) -> BoxFuture<'static, Result<(), NotHeld>> + Send + Sync>;

/// How long the controller waits.
#[derive(Clone, Copy, Debug)]
pub struct Timings {
    /// `--timeout`: the deadline of a call, and the budget of one clean-up.
    pub timeout: Duration,
    /// `--retry-interval-max`
    pub longest_retry: Duration,
}

/// The controller that turns claims into volumes.
pub struct Provision {
    pub(super) driver: Driver,
    pub(super) driver_info: DriverInfo,
    pub(super) timings: Timings,
    pub(super) api: ApiClient,
    pub(super) live: LiveVolumes,
    /// For looks at events: volumes do not wait for them.
    pub(super) events_api: ApiClient,
    pub(super) cache: Arc<Cache>,
    pub(super) ledger: Arc<Ledger<Record>>,
    pub(super) events: EventRecorder,
    pub(super) metrics: ProvisionMetrics,
    pub(super) policy: Policy,
    pub(super) races: Races,
    pub(super) infeasible: InfeasibleClaims,
    pub(super) being_saved: ClaimsBeingSaved,
    pub(super) saved: RecentlySaved,
    pub(super) rescheduled: RecentlyRescheduled,
    without_class: ClaimsWithoutClass,
    pub(super) other_ids: OtherIds,
    pub(super) announced: AnnouncedClaims,
    pub(super) waiting_for_source: ClaimsWaitingForSource,
    waiting: ClaimsWaitingForNodes,
    pub(super) active: Active,
    pub(super) on_answer: OnAnswer,
    is_deleting: IsDeleting,
    pub(super) hold_source: HoldSource,
    /// The moments in records count from here.
    pub(super) origin: Instant,
}

impl Provision {
    /// `active` says whether the driver may be called.
    #[expect(
        clippy::too_many_arguments,
        reason = "each is one thing that the controller talks to"
    )]
    pub fn new(
        driver: Driver,
        driver_info: DriverInfo,
        timings: Timings,
        api: ApiClient,
        cache: Arc<Cache>,
        ledger: Arc<Ledger<Record>>,
        events: EventRecorder,
        metrics: ProvisionMetrics,
        policy: Policy,
        active: Active,
        on_answer: OnAnswer,
        is_deleting: IsDeleting,
        hold_source: HoldSource,
    ) -> Self {
        Self {
            live: LiveVolumes::new(api.clone(), &driver_info.name),
            driver,
            driver_info,
            timings,
            events_api: api.with_rate_limit(None),
            api,
            cache,
            ledger,
            events,
            metrics,
            policy,
            races: Races::default(),
            infeasible: InfeasibleClaims::default(),
            being_saved: ClaimsBeingSaved::default(),
            saved: RecentlySaved::default(),
            rescheduled: RecentlyRescheduled::default(),
            without_class: ClaimsWithoutClass::default(),
            other_ids: OtherIds::default(),
            announced: AnnouncedClaims::default(),
            waiting_for_source: ClaimsWaitingForSource::default(),
            waiting: ClaimsWaitingForNodes::default(),
            active,
            on_answer,
            is_deleting,
            hold_source,
            origin: Instant::now(),
        }
    }

    /// The cache that this controller reads.
    pub fn cache(&self) -> Arc<Cache> {
        self.cache.clone()
    }

    /// UIDs of all claims to be reconciled: those that need a volume, and those with a creation under way. What is
    /// remembered of races for others is forgotten: they went away while nobody reconciled them.
    pub fn claim_uids(&self) -> Vec<String> {
        self.races.retain(|uid| self.cache.claim(uid).is_some());
        let mut uids = self.cache.claim_uids();
        uids.extend(self.ledger.claim_uids());
        uids
    }

    /// Reconciles the claim of this UID, whether it stands or is gone.
    pub async fn reconcile(&self, uid: &str) -> Requeue {
        // The volume may be made anew under the same id, and nobody would know of that one when the object is gone.
        if (self.is_deleting)(uid) {
            return Requeue::After(DELETION);
        }
        match (self.cache.claim(uid), self.ledger.get(uid)) {
            (Some(claim), entry) => self.reconcile_claim(&claim, entry).await,
            (None, Some(entry)) => {
                tracing::info!(
                    claim = entry.record.key,
                    volume = entry.record.plan.request.name,
                    "finishing a creation whose claim is gone or has a volume"
                );
                self.reconcile_record(&entry, None).await
            }
            (None, None) => {
                self.announced.remove(uid);
                self.waiting.remove(uid);
                self.races.leave(uid);
                Requeue::AwaitChange
            }
        }
    }

    /// Reconciles a claim that is asked of us and has no volume.
    async fn reconcile_claim(&self, claim: &Claim, entry: Option<Entry<Record>>) -> Requeue {
        let decision = self.decide(claim, entry.as_ref());
        self.waiting.update(&claim.uid, &decision);
        // One that this node has won stays: if there is no room for it after all, the next try is a later one.
        if matches!(decision, Decision::Leave(_)) {
            self.races.leave(&claim.uid);
        }
        match (decision, entry) {
            (Decision::Leave(why), _) => {
                tracing::debug!(claim = claim.key(), ?why, "claim left alone");
                Requeue::AwaitChange
            }
            (Decision::Wait(why, left), _) => {
                tracing::debug!(claim = claim.key(), ?why, ?left, "claim left alone for a while");
                Requeue::After(left)
            }
            (Decision::Tell(refusal), _) => self.refuse(claim, &refusal),
            (Decision::Reschedule(node, problem), _) => {
                self.reschedule(claim, &node, &problem.to_string()).await
            }
            (Decision::Resume, Some(entry)) => {
                self.announce(claim);
                self.reconcile_record(&entry, Some(claim)).await
            }
            // There is nothing to resume without a record.
            (Decision::Resume, None) => Requeue::AwaitChange,
            (Decision::Provision(plan), entry) => self.provision(claim, plan, entry).await,
            (Decision::Race(plan), _) => self.race(claim, &plan).await,
            (Decision::TellOnce(refusal), _) => self.cannot_take(claim, &refusal.to_string()).await,
        }
    }

    /// UIDs of the claims that waited because of nodes, and may go on now that nodes have changed.
    pub fn unblocked_by_nodes(&self) -> Vec<String> {
        self.waiting.changed(|uid| {
            let claim = self.cache.claim(uid)?;
            Some(self.decide(&claim, self.ledger.get(uid).as_ref()))
        })
    }

    /// What to do with a claim, by what is known now.
    fn decide(&self, claim: &Claim, entry: Option<&Entry<Record>>) -> Decision {
        let has_topology = self.driver_info.topology && self.policy.topology;
        let topology = has_topology.then(|| self.cache.topology());
        let class = self.cache.class(claim.class());
        let name = names::volume_name(&self.policy.name_prefix, &claim.uid, self.policy.uid_length);
        // Another prefix since: a record is about one volume name.
        let is_renamed = |known: &str| name.as_deref().is_ok_and(|name| name != known);
        let in_progress = entry.is_some_and(|Entry { record, .. }| {
            !record.renewable
                || claim.deleting
                || self.has_object(record)
                || is_renamed(&record.plan.request.name)
        });
        let name_used_by = name
            .as_ref()
            .ok()
            .and_then(|name| self.cache.claim_of_volume(name));
        let infeasible = self.infeasible.get(&claim.uid);
        decide(Facts {
            claim,
            class: class.as_deref(),
            class_lag: match class {
                Some(_) => None,
                None => self.without_class.left(&claim.uid),
            },
            driver: &self.driver_info,
            policy: &self.policy,
            topology: topology.as_deref(),
            in_progress,
            infeasible: infeasible.as_ref().map(|(request, left)| Infeasible {
                class_uid: &request.class_uid,
                attributes_class: request.attributes_class.as_deref(),
                left: *left,
            }),
            name: name.as_deref().map_err(|error| *error),
            name_used_by: name_used_by.as_deref(),
            saved: self.saved.left(&claim.uid),
            rescheduled: self.rescheduled.left(&claim.uid, &claim.resource_version),
        })
    }

    /// Brings an open record as far as it goes now. `claim` is there if it needs a volume still.
    pub(super) async fn reconcile_record(&self, entry: &Entry<Record>, claim: Option<&Claim>) -> Requeue {
        let known = match entry.record.created {
            Some(_) => VolumeState::CreatedEarlier,
            None => VolumeState::Nothing,
        };
        match self.advance(entry, known, claim).await {
            Some(next) => next,
            None => self.create_again(entry, claim).await,
        }
    }

    /// Whether an object of the volume's name was seen that is for the claim.
    pub(super) fn has_object(&self, record: &Record) -> bool {
        let claim = self.cache.claim_of_volume(&record.plan.request.name);
        claim.as_deref() == Some(&*record.uid)
    }

    /// What was seen of the object of a creation.
    pub(super) fn seen_object(&self, record: &Record) -> SeenObject {
        let name = &record.plan.request.name;
        match record.created.as_deref().and_then(written_source) {
            _ if !self.has_object(record) => SeenObject::Absent,
            None => SeenObject::Unproven,
            Some(source) if self.cache.volume_has_handle(name, &source.handle) => SeenObject::Same,
            Some(_) => SeenObject::Other,
        }
    }

    /// Once for a claim, however many attempts it takes.
    pub(super) fn announce(&self, claim: &Claim) {
        if !self.announced.insert(&claim.uid) {
            return;
        }
        let text = format!(
            "External provisioner is provisioning volume for claim \"{}\"",
            claim.key()
        );
        self.events.publish(claim, Event::normal("Provisioning", text));
    }

    pub(super) fn refuse(&self, claim: &Claim, refusal: &Refusal) -> Requeue {
        let text = refusal.to_string();
        if !refusal.is_warning() {
            self.events.publish(claim, Event::normal("Provisioning", text));
            return Requeue::AwaitChange;
        }
        self.fail_claim(claim, text)
    }

    /// A failure of a claim for which there is no plan.
    pub(super) fn fail_claim(&self, claim: &Claim, text: String) -> Requeue {
        self.metrics.provision_failed(
            claim.class_name.as_deref().unwrap_or_default(),
            claim.source_kind(),
        );
        self.events.publish(claim, Event::warning(FAILED, text));
        Requeue::Backoff
    }

    pub(super) fn fail(&self, plan: &Plan, claim: Option<&Claim>, text: &str) -> Requeue {
        self.metrics
            .provision_failed(&plan.class_label, &plan.source_label);
        match claim {
            Some(claim) => self.events.publish(claim, Event::warning(FAILED, text)),
            None => tracing::warn!(
                volume = plan.request.name,
                err = text,
                "cannot finish a creation yet"
            ),
        }
        Requeue::Backoff
    }
}
