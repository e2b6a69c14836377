//! The cluster as far as it concerns one driver: what the watches told so far.
//!
//! Everything is decided on arrival: an object that needs work becomes a hot row; a volume of ours becomes a name; all
//! else is forgotten at once, so the claims and volumes of other drivers cost nothing. The watches run from start to
//! end of the process, on leaders and standbys alike.

use std::{
    collections::HashMap,
    convert::Infallible,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures::future::join4;
use kube::Client;
use tokio::sync::watch;

use super::{
    decode::Object,
    hot::{HotSet, OnLine},
    objects::{Attachment, Claim, Class, Volume},
    reflector::{Update, list_watch},
    store::Store,
};
use crate::base::api_error::ApiError;

/// What is of interest, decided by the rooms.
#[derive(Clone, Copy)]
pub struct Predicates {
    /// Whether a claim needs work from the driver of this name.
    pub claim: fn(&Claim, &str) -> bool,
    /// Whether a volume that is ours needs work.
    pub volume: fn(&Volume) -> bool,
    /// Whether attachments are watched: only drivers that attach have any.
    pub attachments: bool,
}

/// What the watches told that others may wait for, each with the UID of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheEvent<'a> {
    /// The claim needs nothing from us any more: it is gone, bound, or no longer ours.
    ClaimLeft(&'a str),
    /// A volume object of ours for the claim was seen.
    VolumeStands(&'a str),
}

/// Who hears of [`CacheEvent`].
pub type OnCacheEvent = Box<dyn Fn(CacheEvent<'_>) + Send + Sync>;

/// What the cluster looks like.
pub struct Cache {
    driver: String,
    predicates: Predicates,
    /// Claims that need a volume from us.
    pub claims: Arc<HotSet<Claim>>,
    /// Volumes of ours that need work.
    pub volumes: Arc<HotSet<Volume>>,
    known: Mutex<Known>,
    progress: watch::Sender<SyncStatus>,
    on_event: OnCacheEvent,
}

#[derive(Default)]
struct Known {
    claims: Store<()>,
    classes: Store<Arc<Class>>,
    volumes: Store<VolumeUids>,
    attachments: Store<Attachment>,
    /// Which attachments hold a volume, by volume name.
    held: HashMap<String, Vec<String>>,
}

/// What is remembered of a volume of ours that needs no work: its UID and that of its claim, in one piece because
/// there may be tens of thousands.
struct VolumeUids(Box<str>);

impl VolumeUids {
    fn new(uid: &str, claim: &str) -> Self {
        Self(format!("{uid} {claim}").into())
    }

    fn uid(&self) -> &str {
        self.0.split_once(' ').unwrap_or_default().0
    }

    fn claim(&self) -> &str {
        self.0.split_once(' ').unwrap_or_default().1
    }
}

/// Which lists are complete, and what keeps the others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SyncStatus(Vec<(&'static str, Option<ListState>)>);

/// Why a list is not complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListState {
    /// The first answer is awaited.
    Running,
    /// The API server refuses or is away.
    ApiError(ApiError),
}

impl SyncStatus {
    /// All lists are complete.
    pub fn has_synced(&self) -> bool {
        self.0.iter().all(|(_, missing)| missing.is_none())
    }

    /// What is missing, for a person.
    pub fn missing(&self) -> Vec<String> {
        let text = |(resource, listing): &(&str, Option<ListState>)| match listing {
            None => None,
            Some(ListState::Running) => Some(format!("the list of {resource} is not complete yet")),
            Some(ListState::ApiError(error)) => Some(error.to_string()),
        };
        self.0.iter().filter_map(text).collect()
    }
}

impl Cache {
    /// A view of nothing yet.
    pub fn new(
        driver: &str,
        predicates: Predicates,
        claims: OnLine,
        volumes: OnLine,
        on_event: OnCacheEvent,
    ) -> Self {
        let mut waiting = vec![Claim::PLURAL, Volume::PLURAL, Class::PLURAL];
        if predicates.attachments {
            waiting.push(Attachment::PLURAL);
        }
        let progress = SyncStatus(
            waiting
                .into_iter()
                .map(|kind| (kind, Some(ListState::Running)))
                .collect(),
        );
        Self {
            driver: driver.to_owned(),
            predicates,
            claims: HotSet::new(claims),
            volumes: HotSet::new(volumes),
            known: Mutex::default(),
            progress: watch::Sender::new(progress),
            on_event,
        }
    }

    /// Follows the cluster. Never returns.
    pub async fn list_watch(&self, client: Client) -> Infallible {
        let attachments = async {
            if !self.predicates.attachments {
                std::future::pending::<()>().await;
            }
            list_watch::<Attachment>(client.clone(), |update| self.attachment(update)).await
        };
        let (never, ..) = join4(
            list_watch::<Claim>(client.clone(), |update| self.claim(update)),
            list_watch::<Volume>(client.clone(), |update| self.volume(update)),
            list_watch::<Class>(client.clone(), |update| self.class(update)),
            attachments,
        )
        .await;
        never
    }

    /// How far the first lists are.
    pub fn progress(&self) -> watch::Receiver<SyncStatus> {
        self.progress.subscribe()
    }

    /// A class by name.
    pub fn class_named(&self, name: &str) -> Option<Arc<Class>> {
        self.known().classes.get(name).cloned()
    }

    /// UID of the claim that our volume of this name is for; `None` if there is no such volume.
    pub fn claim_of_volume(&self, name: &str) -> Option<String> {
        self.known()
            .volumes
            .get(name)
            .map(|volume| volume.claim().to_owned())
    }

    /// A node that the volume of this name is attached to, or was asked to be.
    pub fn node_of_volume(&self, name: &str) -> Option<String> {
        let known = self.known();
        let attachment = known.held.get(name)?.first()?;
        Some(known.attachments.get(attachment)?.node.clone())
    }

    /// How many claims, classes, volumes, attachments and held volumes are remembered.
    #[cfg(test)]
    pub(super) fn remembered(&self) -> [usize; 5] {
        let known = self.known();
        let (claims, classes) = (known.claims.len(), known.classes.len());
        let (volumes, attachments) = (known.volumes.len(), known.attachments.len());
        [claims, classes, volumes, attachments, known.held.len()]
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn claim(&self, update: Update<Claim>) {
        match update {
            Update::Init => self.known().claims.begin(),
            Update::Apply(claim) if (self.predicates.claim)(&claim, &self.driver) => {
                let uid = claim.uid.clone();
                self.known().claims.put(&uid, ());
                // A relist shows everything again: what it shows unchanged is no reason to look.
                if self.claims.get(&uid).as_deref() != Some(&claim) {
                    self.claims.put(&uid, claim);
                }
            }
            Update::Apply(claim) | Update::Delete(claim) => {
                let was = self.known().claims.take(&claim.uid);
                was.iter().for_each(|()| self.depart(&claim.uid));
            }
            Update::InitDone => {
                let gone = self.known().claims.finish();
                gone.iter().for_each(|(uid, ())| self.depart(uid));
                self.arrived(Claim::PLURAL, None);
            }
            Update::Error(error) => self.arrived(Claim::PLURAL, Some(error)),
        }
    }

    fn depart(&self, uid: &str) {
        self.claims.remove(uid);
        (self.on_event)(CacheEvent::ClaimLeft(uid));
    }

    fn volume(&self, update: Update<Volume>) {
        match update {
            Update::Init => self.known().volumes.begin(),
            Update::Apply(volume) if volume.belongs_to(&self.driver) => {
                let uid = volume.uid.clone();
                let claim = volume.claim.as_ref().map_or("", |claim| &claim.uid);
                let before = self
                    .known()
                    .volumes
                    .put(&volume.name, VolumeUids::new(&uid, claim));
                // The same name under another UID: the old object is gone, and no event of its own says so when the
                // change fell into a relist.
                if let Some(before) = before.filter(|before| before.uid() != uid) {
                    self.volumes.remove(before.uid());
                }
                (self.on_event)(CacheEvent::VolumeStands(claim));
                if !(self.predicates.volume)(&volume) {
                    self.volumes.remove(&uid);
                } else if self.volumes.get(&uid).as_deref() != Some(&volume) {
                    self.volumes.put(&uid, volume);
                }
            }
            Update::Apply(volume) | Update::Delete(volume) => {
                let gone = self.known().volumes.take(&volume.name);
                gone.iter().for_each(|known| self.forget(&volume.name, known));
            }
            Update::InitDone => {
                let gone = self.known().volumes.finish();
                gone.iter().for_each(|(name, known)| self.forget(name, known));
                self.arrived(Volume::PLURAL, None);
            }
            Update::Error(error) => self.arrived(Volume::PLURAL, Some(error)),
        }
    }

    fn forget(&self, name: &str, known: &VolumeUids) {
        self.volumes.remove(known.uid());
        // A claim whose volume object was deleted before it was bound needs another one.
        self.claims.wake(known.claim());
        tracing::debug!(volume = name, "volume object is gone");
    }

    fn class(&self, update: Update<Class>) {
        match update {
            Update::Init => self.known().classes.begin(),
            Update::Apply(class) => {
                let name = class.name.clone();
                // Of foreign classes only the provisioner counts: that they are foreign is worth knowing.
                let ours = class.provisioner == self.driver;
                let class = if ours {
                    class
                } else {
                    Class {
                        name: class.name,
                        uid: class.uid,
                        provisioner: class.provisioner,
                        ..Class::default()
                    }
                };
                let class = Arc::new(class);
                let before = self.known().classes.put(&name, class.clone());
                if before.as_ref() != Some(&class) {
                    let waiting = self.claims.rows();
                    let of_class = waiting.iter().filter(|claim| claim.class() == name);
                    of_class.for_each(|claim| self.claims.wake(&claim.uid));
                }
            }
            Update::Delete(class) => {
                self.known().classes.take(&class.name);
            }
            Update::InitDone => {
                self.known().classes.finish();
                self.arrived(Class::PLURAL, None);
            }
            Update::Error(error) => self.arrived(Class::PLURAL, Some(error)),
        }
    }

    fn attachment(&self, update: Update<Attachment>) {
        match update {
            Update::Init => self.known().attachments.begin(),
            Update::Apply(attachment) if attachment.attacher == self.driver => {
                let mut known = self.known();
                let (name, volume) = (attachment.name.clone(), attachment.volume.clone());
                let before = known.attachments.put(&name, attachment);
                if before.as_ref().is_none_or(|before| before.volume != volume) {
                    known.held.entry(volume).or_default().push(name);
                    drop(known);
                    // Recreated for another volume while we did not look.
                    before.iter().for_each(|before| self.detached(before));
                }
            }
            Update::Apply(attachment) | Update::Delete(attachment) => {
                let gone = self.known().attachments.take(&attachment.name);
                gone.iter().for_each(|attachment| self.detached(attachment));
            }
            Update::InitDone => {
                let gone = self.known().attachments.finish();
                gone.iter().for_each(|(_, attachment)| self.detached(attachment));
                self.arrived(Attachment::PLURAL, None);
            }
            Update::Error(error) => self.arrived(Attachment::PLURAL, Some(error)),
        }
    }

    fn detached(&self, attachment: &Attachment) {
        let free = {
            let mut known = self.known();
            let Some(holders) = known.held.get_mut(&attachment.volume) else {
                return;
            };
            holders.retain(|name| *name != attachment.name);
            let free = holders.is_empty();
            if free {
                known.held.remove(&attachment.volume);
            }
            free.then(|| {
                known
                    .volumes
                    .get(&attachment.volume)
                    .map(|volume| volume.uid().to_owned())
            })
            .flatten()
        };
        if let Some(uid) = free {
            self.volumes.wake(&uid);
        }
    }

    fn arrived(&self, kind: &'static str, trouble: Option<ApiError>) {
        if let Some(error) = &trouble {
            tracing::warn!(%error, "watching is interrupted");
        }
        self.progress.send_if_modified(|progress| {
            let Some((_, listing)) = progress.0.iter_mut().find(|(resource, _)| *resource == kind) else {
                return false;
            };
            match (listing.is_none(), trouble) {
                // Trouble after the first list is the watcher's to mend; what is known stays known.
                (true, _) => return false,
                (false, None) => *listing = None,
                (false, Some(error)) => *listing = Some(ListState::ApiError(error)),
            }
            true
        });
    }
}
