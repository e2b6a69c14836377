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
    denied::Denied,
    hot::{HotSet, OnLine},
    rows::{Attachment, Claim, Class, Volume},
    shelf::Shelf,
    watch::{Turn, follow},
    wire::Row,
};

/// What is of interest, decided by the rooms.
#[derive(Clone, Copy)]
pub struct Interest {
    /// Whether a claim needs work from the driver of this name.
    pub claim: fn(&Claim, &str) -> bool,
    /// Whether a volume that is ours needs work.
    pub volume: fn(&Volume) -> bool,
    /// Whether attachments are watched: only drivers that attach have any.
    pub attachments: bool,
}

/// What the watches told that others may wait for, each with the UID of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News<'a> {
    /// The claim needs nothing from us any more: it is gone, bound, or no longer ours.
    ClaimLeft(&'a str),
    /// A volume object of ours for the claim was seen.
    VolumeStands(&'a str),
}

/// Who hears of [`News`].
pub type OnNews = Box<dyn Fn(News<'_>) + Send + Sync>;

/// What the cluster looks like.
pub struct View {
    driver: String,
    interest: Interest,
    /// Claims that need a volume from us.
    pub claims: Arc<HotSet<Claim>>,
    /// Volumes of ours that need work.
    pub volumes: Arc<HotSet<Volume>>,
    known: Mutex<Known>,
    progress: watch::Sender<Progress>,
    news: OnNews,
}

#[derive(Default)]
struct Known {
    claims: Shelf<()>,
    classes: Shelf<Arc<Class>>,
    volumes: Shelf<Name>,
    attachments: Shelf<Attachment>,
    /// Which attachments hold a volume, by volume name.
    held: HashMap<String, Vec<String>>,
}

/// What is remembered of a volume of ours that needs no work: its UID and that of its claim, in one piece because
/// there may be tens of thousands.
struct Name(Box<str>);

impl Name {
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
pub struct Progress(Vec<(&'static str, Option<Listing>)>);

/// Why a list is not complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listing {
    /// The first answer is awaited.
    Running,
    /// The API server refuses or is away.
    Denied(Denied),
}

impl Progress {
    /// All lists are complete.
    pub fn is_complete(&self) -> bool {
        self.0.iter().all(|(_, missing)| missing.is_none())
    }

    /// What is missing, for a person.
    pub fn missing(&self) -> Vec<String> {
        let text = |(resource, listing): &(&str, Option<Listing>)| match listing {
            None => None,
            Some(Listing::Running) => Some(format!("the list of {resource} is not complete yet")),
            Some(Listing::Denied(denied)) => Some(denied.to_string()),
        };
        self.0.iter().filter_map(text).collect()
    }
}

impl View {
    /// A view of nothing yet.
    pub fn new(driver: &str, interest: Interest, claims: OnLine, volumes: OnLine, news: OnNews) -> Self {
        let mut waiting = vec![Claim::PLURAL, Volume::PLURAL, Class::PLURAL];
        if interest.attachments {
            waiting.push(Attachment::PLURAL);
        }
        let progress = Progress(
            waiting
                .into_iter()
                .map(|kind| (kind, Some(Listing::Running)))
                .collect(),
        );
        Self {
            driver: driver.to_owned(),
            interest,
            claims: HotSet::new(claims),
            volumes: HotSet::new(volumes),
            known: Mutex::default(),
            progress: watch::Sender::new(progress),
            news,
        }
    }

    /// Follows the cluster. Never returns.
    pub async fn follow(&self, client: Client) -> Infallible {
        let attachments = async {
            if !self.interest.attachments {
                std::future::pending::<()>().await;
            }
            follow::<Attachment>(client.clone(), |turn| self.attachment(turn)).await
        };
        let (never, ..) = join4(
            follow::<Claim>(client.clone(), |turn| self.claim(turn)),
            follow::<Volume>(client.clone(), |turn| self.volume(turn)),
            follow::<Class>(client.clone(), |turn| self.class(turn)),
            attachments,
        )
        .await;
        never
    }

    /// How far the first lists are.
    pub fn progress(&self) -> watch::Receiver<Progress> {
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

    fn claim(&self, turn: Turn<Claim>) {
        match turn {
            Turn::Begin => self.known().claims.begin(),
            Turn::Row(claim) if (self.interest.claim)(&claim, &self.driver) => {
                let uid = claim.uid.clone();
                self.known().claims.put(&uid, ());
                // A relist shows everything again: what it shows unchanged is no reason to look.
                if self.claims.get(&uid).as_deref() != Some(&claim) {
                    self.claims.put(&uid, claim);
                }
            }
            Turn::Row(claim) | Turn::Gone(claim) => {
                let was = self.known().claims.take(&claim.uid);
                was.iter().for_each(|()| self.depart(&claim.uid));
            }
            Turn::End => {
                let gone = self.known().claims.finish();
                gone.iter().for_each(|(uid, ())| self.depart(uid));
                self.arrived(Claim::PLURAL, None);
            }
            Turn::Trouble(denied) => self.arrived(Claim::PLURAL, Some(denied)),
        }
    }

    fn depart(&self, uid: &str) {
        self.claims.remove(uid);
        (self.news)(News::ClaimLeft(uid));
    }

    fn volume(&self, turn: Turn<Volume>) {
        match turn {
            Turn::Begin => self.known().volumes.begin(),
            Turn::Row(volume) if volume.belongs_to(&self.driver) => {
                let uid = volume.uid.clone();
                let claim = volume.claim.as_ref().map_or("", |claim| &claim.uid);
                let before = self.known().volumes.put(&volume.name, Name::new(&uid, claim));
                // The same name under another UID: the old object is gone, and no event of its own says so when the
                // change fell into a relist.
                if let Some(before) = before.filter(|before| before.uid() != uid) {
                    self.volumes.remove(before.uid());
                }
                (self.news)(News::VolumeStands(claim));
                if !(self.interest.volume)(&volume) {
                    self.volumes.remove(&uid);
                } else if self.volumes.get(&uid).as_deref() != Some(&volume) {
                    self.volumes.put(&uid, volume);
                }
            }
            Turn::Row(volume) | Turn::Gone(volume) => {
                let gone = self.known().volumes.take(&volume.name);
                gone.iter().for_each(|known| self.forget(&volume.name, known));
            }
            Turn::End => {
                let gone = self.known().volumes.finish();
                gone.iter().for_each(|(name, known)| self.forget(name, known));
                self.arrived(Volume::PLURAL, None);
            }
            Turn::Trouble(denied) => self.arrived(Volume::PLURAL, Some(denied)),
        }
    }

    fn forget(&self, name: &str, known: &Name) {
        self.volumes.remove(known.uid());
        // A claim whose volume object was deleted before it was bound needs another one.
        self.claims.wake(known.claim());
        tracing::debug!(volume = name, "volume object is gone");
    }

    fn class(&self, turn: Turn<Class>) {
        match turn {
            Turn::Begin => self.known().classes.begin(),
            Turn::Row(class) => {
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
            Turn::Gone(class) => {
                self.known().classes.take(&class.name);
            }
            Turn::End => {
                self.known().classes.finish();
                self.arrived(Class::PLURAL, None);
            }
            Turn::Trouble(denied) => self.arrived(Class::PLURAL, Some(denied)),
        }
    }

    fn attachment(&self, turn: Turn<Attachment>) {
        match turn {
            Turn::Begin => self.known().attachments.begin(),
            Turn::Row(attachment) if attachment.attacher == self.driver => {
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
            Turn::Row(attachment) | Turn::Gone(attachment) => {
                let gone = self.known().attachments.take(&attachment.name);
                gone.iter().for_each(|attachment| self.detached(attachment));
            }
            Turn::End => {
                let gone = self.known().attachments.finish();
                gone.iter().for_each(|(_, attachment)| self.detached(attachment));
                self.arrived(Attachment::PLURAL, None);
            }
            Turn::Trouble(denied) => self.arrived(Attachment::PLURAL, Some(denied)),
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

    fn arrived(&self, kind: &'static str, trouble: Option<Denied>) {
        if let Some(denied) = &trouble {
            tracing::warn!(%denied, "watching is interrupted");
        }
        self.progress.send_if_modified(|progress| {
            let Some((_, listing)) = progress.0.iter_mut().find(|(resource, _)| *resource == kind) else {
                return false;
            };
            match (listing.is_none(), trouble) {
                // Trouble after the first list is the watcher's to mend; what is known stays known.
                (true, _) => return false,
                (false, None) => *listing = None,
                (false, Some(denied)) => *listing = Some(Listing::Denied(denied)),
            }
            true
        });
    }
}
