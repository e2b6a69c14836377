//! The cache (client-go: shared informers): the cluster as far as it concerns one driver, as the reflectors last saw
//! it.
//!
//! Everything is decided on arrival. An object that needs work is kept; a volume of ours that needs none becomes two
//! UIDs; all else is forgotten at once, so the claims and volumes of other drivers cost nothing. The reflectors run
//! from start to end of the process, on leaders and standbys alike. Each kind of object has a file of its own here.

mod attachments;
mod claims;
mod classes;
mod volumes;

use std::{collections::HashMap, convert::Infallible, sync::Arc};

use futures::future::join4;
use kube::Client;
use parking_lot::Mutex;
use tokio::sync::watch;

use self::volumes::VolumeUids;
use super::{
    decode::Object,
    objects::{Attachment, Claim, Class, Volume},
    reflector::{self, Update},
    store::Store,
};
use crate::base::api_error::ApiError;

/// Which objects need work: the cheap part of a controller's decision, applied to everything that arrives.
#[derive(Clone, Copy)]
pub struct Predicates {
    /// Whether a claim needs work from the driver of this name.
    pub claim: fn(&Claim, &str) -> bool,
    /// Whether a volume that is ours needs work from the driver of this name.
    pub volume: fn(&Volume, &str) -> bool,
    /// Whether attachments are watched: only drivers that attach have any.
    pub attachments: bool,
}

/// A reason to reconcile an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheEvent<'a> {
    /// The claim of this UID changed, or its class did, or its volume went away; or it needs nothing from us any more.
    Claim(&'a str),
    /// A PersistentVolume of ours was seen.
    VolumeOfClaim {
        /// Its name.
        volume: &'a str,
        /// UID of the claim that it is for.
        claim: &'a str,
    },
    /// The volume of this UID changed, or is attached no longer; or it needs nothing from us any more.
    Volume(&'a str),
}

/// Hears of [`CacheEvent`]s. The cache shows the change already.
pub type OnCacheEvent = Box<dyn Fn(CacheEvent<'_>) + Send + Sync>;

/// What the cluster looks like.
pub struct Cache {
    driver: String,
    predicates: Predicates,
    stores: Mutex<Stores>,
    sync: watch::Sender<SyncStatus>,
    on_event: OnCacheEvent,
}

#[derive(Default)]
struct Stores {
    /// Claims that need a volume from us, by UID.
    claims: Store<Arc<Claim>>,
    /// By name.
    classes: Store<Arc<Class>>,
    /// Volumes of ours, by name.
    volumes: Store<VolumeUids>,
    /// Those of them that need work, by UID.
    unfinished_volumes: Store<Arc<Volume>>,
    /// By name.
    attachments: Store<Attachment>,
    /// Names of the attachments of a volume, by the volume's name.
    attachments_of_volume: HashMap<String, Vec<String>>,
}

/// How objects of one kind are cached.
trait Cached: Object {
    /// What is remembered of an object.
    type Kept;

    /// Under what it is remembered.
    fn key(&self) -> &str;

    fn store(stores: &mut Stores) -> &mut Store<Self::Kept>;

    /// The object exists and looks like this.
    fn applied(self, cache: &Cache);

    /// An object that was remembered is deleted, or is no concern of ours any more.
    fn removed(cache: &Cache, key: &str, kept: Self::Kept);

    /// A list is complete.
    fn listed(_cache: &Cache) {}
}

/// Which first lists are complete, and what keeps the others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SyncStatus(Vec<(&'static str, ListStatus)>);

/// How far a first list is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum ListStatus {
    /// An answer is awaited.
    Pending,
    /// The API server refuses or is away.
    Failing(ApiError),
    /// It is complete. Errors after that are the reflector's to mend; what is known stays known.
    Synced,
}

impl SyncStatus {
    /// All lists are complete.
    pub fn has_synced(&self) -> bool {
        self.0.iter().all(|(_, status)| *status == ListStatus::Synced)
    }

    /// What is missing, for a person.
    pub fn missing(&self) -> Vec<String> {
        let text = |(resource, status): &(&str, ListStatus)| match status {
            ListStatus::Pending => Some(format!("the list of {resource} is not complete yet")),
            ListStatus::Failing(error) => Some(error.to_string()),
            ListStatus::Synced => None,
        };
        self.0.iter().filter_map(text).collect()
    }
}

impl Cache {
    /// A cache of nothing yet.
    pub fn new(driver: &str, predicates: Predicates, on_event: OnCacheEvent) -> Self {
        let mut resources = vec![Claim::PLURAL, Volume::PLURAL, Class::PLURAL];
        if predicates.attachments {
            resources.push(Attachment::PLURAL);
        }
        let pending = resources
            .into_iter()
            .map(|resource| (resource, ListStatus::Pending));
        Self {
            driver: driver.to_owned(),
            predicates,
            stores: Mutex::default(),
            sync: watch::Sender::new(SyncStatus(pending.collect())),
            on_event,
        }
    }

    /// Runs the reflectors. Never returns.
    pub async fn run(&self, client: Client) -> Infallible {
        let attachments = async {
            if !self.predicates.attachments {
                std::future::pending::<()>().await;
            }
            self.list_watch::<Attachment>(&client).await
        };
        let (never, ..) = join4(
            self.list_watch::<Claim>(&client),
            self.list_watch::<Volume>(&client),
            self.list_watch::<Class>(&client),
            attachments,
        )
        .await;
        never
    }

    async fn list_watch<K: Cached>(&self, client: &Client) -> Infallible {
        reflector::list_watch::<K>(client.clone(), |update| self.update(update)).await
    }

    fn update<K: Cached>(&self, update: Update<K>) {
        match update {
            Update::Init => K::store(&mut self.stores.lock()).begin_list(),
            Update::Apply(object) => object.applied(self),
            Update::Delete(object) => self.remove::<K>(object.key()),
            Update::InitDone => {
                let gone = K::store(&mut self.stores.lock()).finish_list();
                for (key, kept) in gone {
                    K::removed(self, &key, kept);
                }
                self.set_status(K::PLURAL, ListStatus::Synced);
                K::listed(self);
            }
            Update::Error(error) => {
                tracing::warn!(%error, "watching is interrupted");
                self.set_status(K::PLURAL, ListStatus::Failing(error));
            }
        }
    }

    fn remove<K: Cached>(&self, key: &str) {
        let removed = K::store(&mut self.stores.lock()).remove(key);
        if let Some(kept) = removed {
            K::removed(self, key, kept);
        }
    }

    fn set_status(&self, resource: &str, now: ListStatus) {
        self.sync.send_if_modified(|sync| {
            let status = sync.0.iter_mut().find(|(name, _)| *name == resource);
            match status {
                Some((_, status)) if *status != ListStatus::Synced && *status != now => {
                    *status = now;
                    true
                }
                _ => false,
            }
        });
    }

    /// Whether the first list of this kind was complete.
    fn has_listed<K: Cached>(&self) -> bool {
        self.sync.borrow().0.contains(&(K::PLURAL, ListStatus::Synced))
    }

    fn emit(&self, event: CacheEvent<'_>) {
        (self.on_event)(event);
    }

    /// How far the first lists are.
    pub fn sync_status(&self) -> watch::Receiver<SyncStatus> {
        self.sync.subscribe()
    }

    /// How many claims, classes, volumes, attachments and attached volumes are remembered.
    #[cfg(test)]
    pub(super) fn remembered(&self) -> [usize; 5] {
        let stores = self.stores.lock();
        [
            stores.claims.len(),
            stores.classes.len(),
            stores.volumes.len(),
            stores.attachments.len(),
            stores.attachments_of_volume.len(),
        ]
    }
}
