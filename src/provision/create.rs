//! From a plan to a volume at the driver: the first half of a creation.

use std::{sync::Arc, time::Duration};

use super::{
    credentials::SecretUnavailable,
    decide::can_reschedule,
    memory::INFEASIBLE,
    metrics::Settled,
    outcome::{CreateOutcome, object_of, outcome_of},
    plan::Plan,
    reconcile::{FAILED, NOT_LEADING, Provision},
    record::{Record, SecretData},
    settle::{ClaimState, Doubt, FinalAnswer, Verdict, VolumeState, WithoutSecret, without_secret},
    volume::out_of_reach,
};
use crate::{
    base::api_error::ApiError,
    cluster::{events::Event, objects::Claim, queue::Requeue},
    csi::{NotSent, RpcError},
    ledger::{Entry, OpenError, Origin},
};

/// A record was closed while it was being worked on: the watch tells why within this time.
pub(super) const OVERTAKEN: Duration = Duration::from_secs(1);
/// Upstream's words, which people search events for.
pub(super) const RETRIES_DELAYED: &str =
    "Volume provisioning failed with infeasible error. Retries will be delayed.";
const ASKED_AGAIN: &str =
    "the same request is repeated, because an earlier one that was not answered may have made the volume";

/// What is left of the calls of a record before the one that comes now.
#[derive(Clone, Copy)]
struct EarlierCalls {
    /// There were some, and none has told which volume there is.
    asked: bool,
    doubt: Doubt,
}

impl Provision {
    /// Opens a record and makes the first call. `source_uid`: that of the object whose content was read. `before`: the open
    /// record that it takes the place of.
    pub(super) async fn begin(
        &self,
        claim: &Claim,
        plan: Arc<Plan>,
        source_uid: Option<String>,
        before: Option<Entry<Record>>,
    ) -> Requeue {
        let begun = self.origin.elapsed();
        self.announce(claim);
        // Done before the record is opened: what is missing is no reason to remember anything.
        let prepared = self.prepare(claim, &plan, source_uid.as_deref()).await;
        let secrets = match (prepared, &before) {
            (Ok(secrets), _) => secrets,
            // It may have made a volume.
            (Err(_), Some(before)) => return self.repeat(before, claim).await,
            (Err(text), None) => return self.fail(&plan, Some(claim), &text),
        };
        if !self.active.is_set() {
            return NOT_LEADING;
        }
        if !self.is_current(&claim.uid, before.as_ref().map(|entry| &entry.record)) {
            return Requeue::After(OVERTAKEN);
        }
        let earlier = EarlierCalls {
            asked: before.as_ref().is_some_and(|entry| entry.record.asked),
            doubt: match &before {
                None => Doubt::None,
                // Its object alone has changed.
                Some(Entry { record, .. }) if record.plan.is_same_request(&plan) => record.doubt,
                Some(_) => Doubt::FRESH,
            },
        };
        let record = Record {
            uid: claim.uid.clone(),
            key: claim.key(),
            begun,
            earlier: before
                .as_ref()
                .map_or_else(Vec::new, |entry| entry.record.earlier_than(&plan)),
            plan,
            secrets: Some(secrets),
            created: None,
            asked: true,
            doubt: Doubt::FRESH,
            renewable: false,
        };
        let record = Arc::new(record);
        if let Err(next) = self.open(&record, Some(claim)).await {
            // The request that stands is repeated all the same.
            if let Some(Entry { record, .. }) = &before {
                self.remember(record, record.asked, record.doubt, false);
            }
            return next;
        }
        self.create(record, earlier, Some(claim)).await
    }

    /// The record is stored, as far as this ledger stores any; or what to do instead of calling the driver.
    pub(super) async fn open(&self, record: &Arc<Record>, claim: Option<&Claim>) -> Result<(), Requeue> {
        match self.ledger.open(&record.uid, record.clone()).await {
            Ok(()) => Ok(()),
            // Nothing has failed: the next leader sees to the claim.
            Err(OpenError::NotLeading) => Err(NOT_LEADING),
            Err(error) => {
                let text =
                    format!("the driver is not called, because the creation cannot be recorded: {error}");
                Err(self.fail(&record.plan, claim, &text))
            }
        }
    }

    /// Repeats the call of an open record.
    pub(super) async fn create_again(&self, entry: &Entry<Record>, claim: Option<&Claim>) -> Requeue {
        let Entry { record, origin } = entry;
        let begun = self.origin.elapsed();
        let read = self.secrets(record.plan.secret.as_ref()).await;
        let secrets = match secrets_for(read, claim_state(claim), record.secrets.as_ref()) {
            Ok(secrets) => secrets,
            Err(error) => return self.fail(&record.plan, claim, &error.to_string()),
        };
        self.hold_again(record).await;
        if !self.active.is_set() {
            return NOT_LEADING;
        }
        if !self.is_current(&record.uid, Some(record)) {
            return Requeue::After(OVERTAKEN);
        }
        let earlier = EarlierCalls {
            asked: record.asked,
            doubt: match (origin, record.doubt) {
                (Origin::Inherited { .. }, Doubt::None) => Doubt::FRESH,
                (_, doubt) => doubt,
            },
        };
        let record = Arc::new(Record {
            begun,
            secrets: Some(secrets),
            created: None,
            // Until it is answered.
            asked: true,
            doubt: Doubt::FRESH,
            renewable: false,
            ..Record::clone(record)
        });
        // The shard may have another request, which replaced this one as far as its next reader knows: what is sent is
        // what is stored.
        if let Err(next) = self.open(&record, claim).await {
            return next;
        }
        self.create(record, earlier, claim).await
    }

    /// Calls the driver. No call without a record: after a lost answer only the record tells that a volume may exist.
    async fn create(
        &self,
        mut record: Arc<Record>,
        EarlierCalls { asked, doubt }: EarlierCalls,
        claim: Option<&Claim>,
    ) -> Requeue {
        // An object that was seen before the record stood has closed nothing, and is not told of again.
        if !asked && self.has_object(&record) {
            let origin = self
                .ledger
                .get(&record.uid)
                .map_or(Origin::Own, |entry| entry.origin);
            return self.close(&record, origin, claim);
        }
        let plan = record.plan.clone();
        let request = plan.request_with(record.secrets.clone().unwrap_or_default().reveal());
        let answer = match self.active.is_set() {
            true => {
                self.driver
                    .migrated(plan.is_migrated())
                    .create_volume(request)
                    .await
            }
            false => Err(NotSent),
        };
        // The call may have outlived its term, and another leader may have called the driver since. Then this answer says
        // nothing about what is on record now, and the driver is asked again.
        let current = self.ledger.get(&record.uid);
        let origin = match &current {
            Some(entry) if !Arc::ptr_eq(&entry.record, &record) => {
                self.overtaken(entry);
                return Requeue::After(OVERTAKEN);
            }
            Some(entry) => entry.origin,
            // Nothing is erased, nor counted.
            None => Origin::Own,
        };
        let Ok(mut answer) = answer else {
            self.remember(&record, asked, doubt, false);
            return NOT_LEADING;
        };
        self.translate_source(&record, &mut answer);
        let mut outcome = outcome_of(&plan, answer);
        // The call may have taken long.
        let waits = self.cache.claim(&record.uid);
        if let CreateOutcome::Unusable(made, _) = &outcome {
            match self.is_needed(&record, current.is_some(), waits.as_deref()).await {
                Ok(true) => {}
                // Nobody needs another one: it is deleted as any volume whose claim is gone.
                Ok(false) => outcome = CreateOutcome::Created(Box::new(object_of(&plan, made))),
                Err(error) => {
                    let text = format!(
                        "the driver has made another volume than was asked for, and it is not known whether the claim waits \
                         still: {error}"
                    );
                    return self.fail(&plan, claim, &text);
                }
            }
        }
        (self.on_answer)(
            &plan,
            match &outcome {
                CreateOutcome::Created(volume) => Some(volume),
                _ => None,
            },
        );
        match outcome {
            CreateOutcome::Created(volume) => {
                let volume = Arc::from(volume);
                let before = Arc::clone(&record);
                let known = Arc::make_mut(&mut record);
                known.created = Some(Arc::clone(&volume));
                known.asked = false;
                known.doubt = doubt;
                // It was closed while the call ran: another replica has finished this creation, and may have deleted
                // the volume since. Or it was taken over at this moment.
                if !self.ledger.update(&record.uid, &before, record.clone()) {
                    self.look_for_orphan(&record, &volume).await;
                    return Requeue::After(OVERTAKEN);
                }
                if let (Some(claim), Some(node)) = (claim, plan.node())
                    && let Some(text) = out_of_reach(&volume, node)
                {
                    self.events.publish(claim, Event::warning(FAILED, text));
                }
                let made = Entry { record, origin };
                let next = self.advance(&made, VolumeState::Created, claim).await;
                next.unwrap_or(Requeue::Backoff)
            }
            CreateOutcome::Failed(ref error)
            | CreateOutcome::Reschedule(ref error)
            | CreateOutcome::Infeasible(ref error) => {
                let (doubt, verdict) = doubt.judge(FinalAnswer {
                    code: error.code,
                    has_source: plan.request.volume_content_source.is_some(),
                    earlier: record.earlier.len(),
                    claim: claim_state(waits.as_deref()),
                    now: self.origin.elapsed(),
                    timeout: self.timings.timeout,
                });
                let entry = Entry { record, origin };
                self.refused(&entry, claim, &outcome, error, doubt, verdict).await
            }
            CreateOutcome::InBackground(error) => self.fail(&plan, claim, &error.to_string()),
            CreateOutcome::MissingId(what) => {
                let text = format!("{what}; a volume named {} may exist there", plan.request.name);
                self.fail(&plan, claim, &text)
            }
            CreateOutcome::Unusable(made, mismatch) => {
                let entry = Entry { record, origin };
                self.reject(&entry, claim, &made, &mismatch, doubt).await
            }
        }
    }

    /// Whether somebody waits for the volume of a record. Whoever has closed it may have found a use for what was made;
    /// and a claim that the watch does not show may stand.
    async fn is_needed(
        &self,
        record: &Record,
        is_open: bool,
        claim: Option<&Claim>,
    ) -> Result<bool, ApiError> {
        match claim_state(claim) {
            _ if !is_open => Ok(false),
            ClaimState::Waits => Ok(true),
            ClaimState::BeingDeleted | ClaimState::Gone => self.is_claim_waiting(record).await,
        }
    }

    /// Carries out what a final answer says.
    async fn refused(
        &self,
        Entry { record, origin }: &Entry<Record>,
        claim: Option<&Claim>,
        outcome: &CreateOutcome,
        error: &RpcError,
        doubt: Doubt,
        verdict: Verdict,
    ) -> Requeue {
        let plan = &record.plan;
        match verdict {
            Verdict::Hold(why) => return self.hold(record, *origin, why, None),
            Verdict::Repeat | Verdict::RepeatSlowly => {
                self.remember(record, true, doubt, false);
                let next = self.fail(plan, claim, &format!("{error}; {ASKED_AGAIN}"));
                return match verdict {
                    Verdict::RepeatSlowly => Requeue::After(self.timings.longest_retry),
                    _ => next,
                };
            }
            Verdict::FallBack | Verdict::Drop => {
                if matches!(outcome, CreateOutcome::Infeasible(_)) && verdict == Verdict::Drop {
                    self.infeasible.insert(&record.uid, plan);
                }
                return self
                    .fall_back(record, claim, error, verdict == Verdict::FallBack, doubt)
                    .await;
            }
            Verdict::Renew => self.remember(record, true, doubt, true),
            Verdict::Erase => {
                if self.ledger.erase(&record.uid) {
                    self.count_settled(*origin, Settled::Erased);
                }
            }
        }
        match (outcome, claim, plan.node()) {
            (CreateOutcome::Reschedule(_), Some(claim), Some(node))
                if record.earlier.is_empty() && can_reschedule(claim) =>
            {
                self.reschedule(claim, &node.name, &error.to_string()).await
            }
            (CreateOutcome::Infeasible(_), ..) if verdict == Verdict::Erase => {
                self.infeasible.insert(&record.uid, plan);
                self.fail(plan, claim, &format!("{RETRIES_DELAYED} {error}"));
                Requeue::After(INFEASIBLE)
            }
            _ => self.fail(plan, claim, &error.to_string()),
        }
    }

    /// What this process remembers of a record beside what is stored. One that was taken over meanwhile is in fresh
    /// doubt, whatever the driver has said before.
    pub(super) fn remember(&self, record: &Arc<Record>, asked: bool, doubt: Doubt, renewable: bool) {
        let remembered = Record {
            asked,
            doubt,
            renewable,
            ..Record::clone(record)
        };
        self.ledger.update(&record.uid, record, Arc::new(remembered));
    }

    /// Whether this is what the ledger has for the claim: nobody has taken it over, replaced or closed it since.
    pub(super) fn is_current(&self, uid: &str, record: Option<&Arc<Record>>) -> bool {
        match (self.ledger.get(uid), record) {
            (Some(current), Some(record)) => Arc::ptr_eq(&current.record, record),
            (current, record) => current.is_none() && record.is_none(),
        }
    }

    /// A call for what was on record before this has ended: which volume there is, only the next one tells.
    fn overtaken(&self, Entry { record, .. }: &Entry<Record>) {
        tracing::info!(
            claim = record.key,
            volume = record.plan.request.name,
            "the driver is asked again, because another replica may have asked it while a call was running"
        );
        if !record.asked {
            let asked = Record {
                asked: true,
                ..Record::clone(record)
            };
            self.ledger.update(&record.uid, record, Arc::new(asked));
        }
    }
}

/// The state of a claim by the cache, which has those that ask us for a volume and have none.
pub(super) fn claim_state(claim: Option<&Claim>) -> ClaimState {
    match claim {
        Some(claim) if claim.deleting => ClaimState::BeingDeleted,
        Some(_) => ClaimState::Waits,
        None => ClaimState::Gone,
    }
}

/// The secrets to call the driver with.
fn secrets_for(
    read: Result<SecretData, SecretUnavailable>,
    claim: ClaimState,
    last: Option<&SecretData>,
) -> Result<SecretData, SecretUnavailable> {
    match (read, last) {
        (Err(error), Some(last))
            if error.is_refusal() && without_secret(claim, true) == WithoutSecret::UseLast =>
        {
            Ok(last.clone())
        }
        (read, _) => read,
    }
}
