//! The state of the model: what stands at the API server and at the driver, and what each process knows.

use crate::{
    ledger::{Distrust, Origin},
    provision::settle::{Doubt, Finals, VolumeState},
};

use super::{NOW, TIMEOUT};

/// What the model allows, and which of our rules it breaks on purpose.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    /// The class has the policy Delete.
    pub(super) deletes: bool,
    /// All volumes have one id, as with drivers whose ids are names.
    pub(super) id_is_name: bool,
    /// A record was copied from another cluster, whose volume it is.
    pub(super) copied: bool,
    /// How often a replica may be killed, a message lost, and the lease change hands.
    pub(super) crashes: u8,
    pub(super) losses: u8,
    pub(super) terms: u8,
    /// Whether a leader that knows no ledger is among the candidates.
    pub(super) unknowing: bool,
    /// Whether caches may lag behind.
    pub(super) stale: bool,
    pub(super) broken: Option<Broken>,
}

/// A rule that is broken on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Broken {
    /// Nothing is stored.
    NoRecord,
    /// A record is erased when the driver has answered, not when the object stands.
    ErasedEarly,
    /// What was copied from another cluster counts as ours.
    CopyTrusted,
    /// Any record counts, whoever has led since.
    AllTrusted,
    /// No live list comes before an object is written for a claim that is gone.
    NoList,
    /// What the watch told is good enough to delete, and nobody asks who else has the handle.
    NoLiveLook,
    /// A task's flag says whether we lead.
    NoFence,
    /// One final answer ends the doubt.
    OneFinalAnswer,
    /// An erasure that was not written in its term is carried into a later one, although another has led in between.
    OldErasures,
    /// An object of the volume's name closes the record, whatever handle it has, and although a call has no answer.
    ClosedByName,
    /// After a renewal whose write had no answer the old request is repeated at once, whatever stands in the shard.
    RepeatedUnstored,
    /// The driver works on after it has answered OK to CreateVolume of the same name, or to DeleteVolume of its volume.
    LateAfterOk,
    /// A volume is asked for while the object of a deleted one of the same id stands.
    AskedWhileDeleting,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum ClaimLife {
    Absent,
    Waits,
    Deleting,
    Bound,
    /// It got another driver's volume.
    Elsewhere,
    Gone,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Phase {
    Pending,
    Bound,
    Released,
}

/// The PersistentVolume of the claim's volume name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Object {
    pub(super) phase: Phase,
    pub(super) handle: u8,
}

/// A record in the shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Stored {
    pub(super) request: u8,
    pub(super) term: u8,
    pub(super) copied: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Holder {
    Nobody,
    Replica(u8),
    Unknowing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Lease {
    pub(super) holder: Holder,
    pub(super) count: u8,
    /// First and last leader of the chain that the annotation names.
    pub(super) chain: Option<(u8, u8)>,
}

/// What [`Origin`] says, in a form that can be counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Came {
    Own,
    Trusted,
    UnknownLeader,
    Foreign,
}

impl Came {
    pub(super) fn origin(self) -> Origin {
        let distrust = match self {
            Self::Own => return Origin::Own,
            Self::Trusted => None,
            Self::UnknownLeader => Some(Distrust::UnknownLeader),
            Self::Foreign => Some(Distrust::Foreign),
        };
        Origin::Inherited { distrust }
    }

    pub(super) fn from_distrust(why: Option<Distrust>) -> Self {
        match why {
            None => Self::Trusted,
            Some(Distrust::UnknownLeader) => Self::UnknownLeader,
            Some(Distrust::Foreign | Distrust::Stale | Distrust::ShortName) => Self::Foreign,
        }
    }
}

/// What [`Doubt`] says, with ages in whole timeouts instead of moments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Unsure {
    No,
    Yes(Option<(u8, Option<u8>)>),
}

impl Unsure {
    pub(super) const FRESH: Self = Self::Yes(None);

    pub(super) fn doubt(self) -> Doubt {
        let at = |age: u8| NOW - TIMEOUT * u32::from(age);
        match self {
            Self::No => Doubt::None,
            Self::Yes(finals) => Doubt::Doubted {
                finals: finals.map(|(first, judging)| Finals {
                    first: at(first),
                    judging: judging.map(at),
                }),
            },
        }
    }

    pub(super) fn from_doubt(doubt: Doubt) -> Self {
        let age = |at| ((NOW - at).as_secs() / TIMEOUT.as_secs()) as u8;
        match doubt {
            Doubt::None => Self::No,
            Doubt::Doubted { finals } => {
                Self::Yes(finals.map(|Finals { first, judging }| (age(first), judging.map(age))))
            }
        }
    }

    /// Ages beyond two timeouts mean the same.
    pub(super) fn older(self, oldest: u8) -> Self {
        let older = |age: u8| (age + 1).min(oldest).max(age);
        match self {
            Self::Yes(Some((first, judging))) => Self::Yes(Some((older(first), judging.map(older)))),
            other => other,
        }
    }

    /// Another final answer would be the second one, long enough after the first.
    pub(super) fn next_is_second(self) -> bool {
        matches!(self, Self::Yes(Some((1.., _))))
    }
}

/// A record in the memory of a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Open {
    pub(super) request: u8,
    pub(super) term: u8,
    pub(super) came: Came,
    pub(super) doubt: Unsure,
    /// The handle that the driver answered with.
    pub(super) created: Option<u8>,
    pub(super) renewable: bool,
    /// This process has called the driver, and has not heard OK since.
    pub(super) asked: bool,
}

/// Where the one worker of a replica is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum At {
    Idle,
    /// CreateVolume is under way. `before`: what was in doubt before. `spent`: another call of the same name was
    /// answered OK, so this one makes nothing any more.
    Calling {
        request: u8,
        before: Unsure,
        spent: bool,
    },
    /// The driver has made it, or a list has come after that: [`VolumeState`] in order.
    Made,
    Unlisted,
    Listed,
    OtherListed,
    /// The POST of the object is under way.
    Posting(u8),
    /// DeleteVolume is under way.
    Deleting(u8),
    /// The removal of the object is next.
    Removing(u8),
}

impl At {
    pub(super) fn known(self) -> Option<VolumeState> {
        Some(match self {
            Self::Made => VolumeState::Created,
            Self::Unlisted => VolumeState::Unlisted,
            Self::Listed => VolumeState::Listed,
            Self::OtherListed => VolumeState::OtherListed,
            _ => return None,
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Replica {
    /// The term that it works in, by its own flag.
    pub(super) term: Option<u8>,
    pub(super) last_term: Option<u8>,
    pub(super) sees_claim: ClaimLife,
    pub(super) sees_object: Option<Object>,
    pub(super) record: Option<Open>,
    /// What is in the shard is to go, or to be held.
    pub(super) erasing: bool,
    pub(super) holding: bool,
    /// It wrote the object a moment ago.
    pub(super) saved: bool,
    /// It deletes the volume, or has, and the object stands still as far as it knows: it does not ask for it meanwhile.
    pub(super) deleting: bool,
    pub(super) at: At,
}

/// Everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct World {
    pub(super) claim: ClaimLife,
    /// The class has changed, so that a new request is another one.
    pub(super) changed: bool,
    pub(super) object: Option<Object>,
    /// A person has given this volume an object of another name, for another claim.
    pub(super) adopted: Option<u8>,
    pub(super) lease: Lease,
    pub(super) record: Option<Stored>,
    pub(super) held: bool,
    /// The term that the shard was last written in.
    pub(super) shard_term: u8,
    /// A POST whose sender waits no more.
    pub(super) late_post: Option<u8>,
    /// All volumes have one handle, instead of a new one each.
    pub(super) id_is_name: bool,
    /// By request, with their handles.
    pub(super) volumes: [Option<u8>; 2],
    /// Calls that nobody waits for, by request.
    pub(super) at_work: [bool; 2],
    pub(super) replicas: [Replica; 2],
    /// The unknowing leader has made this volume and writes its object next.
    pub(super) unknowing_made: Option<u8>,
    pub(super) crashes: u8,
    pub(super) losses: u8,
    pub(super) terms: u8,
    /// What must never be was seen on the way here.
    pub(super) wrong: Option<&'static str>,
}

impl World {
    pub(super) fn new(rules: Rules) -> Self {
        let replica = Replica {
            term: None,
            last_term: None,
            sees_claim: if rules.copied {
                ClaimLife::Gone
            } else {
                ClaimLife::Absent
            },
            sees_object: None,
            record: None,
            erasing: false,
            holding: false,
            saved: false,
            deleting: false,
            at: At::Idle,
        };
        let copied = Stored {
            request: 0,
            term: 0,
            copied: true,
        };
        Self {
            claim: replica.sees_claim,
            changed: false,
            object: None,
            adopted: None,
            lease: Lease {
                holder: Holder::Nobody,
                count: 0,
                chain: None,
            },
            record: rules.copied.then_some(copied),
            held: false,
            shard_term: 0,
            late_post: None,
            id_is_name: rules.id_is_name,
            volumes: [rules.copied.then_some(0), None],
            at_work: [false; 2],
            replicas: [replica; 2],
            unknowing_made: None,
            crashes: rules.crashes,
            losses: rules.losses,
            terms: rules.terms,
            wrong: None,
        }
    }

    /// Whether this replica leads, by the lease and the clock.
    pub(super) fn leads(&self, replica: usize) -> bool {
        self.lease.holder == Holder::Replica(replica as u8)
            && self.replicas[replica].term == Some(self.lease.count)
    }

    /// Whether the driver has a volume of this handle.
    pub(super) fn has(&self, handle: u8) -> bool {
        self.volumes.contains(&Some(handle))
    }

    /// The handle of a volume that is made: one that nothing has or knows, unless it is the name.
    pub(super) fn new_handle(&self) -> u8 {
        if self.id_is_name {
            return 0;
        }
        let known = |handle: &u8| {
            let object = |object: Option<Object>| object.is_some_and(|object| object.handle == *handle);
            self.has(*handle)
                || self.adopted == Some(*handle)
                || self.late_post == Some(*handle)
                || self.unknowing_made == Some(*handle)
                || object(self.object)
                || self.replicas.iter().any(|replica| {
                    object(replica.sees_object)
                        || replica.record.is_some_and(|open| open.created == Some(*handle))
                        || matches!(replica.at, At::Posting(at) | At::Deleting(at) | At::Removing(at) if at == *handle)
                })
        };
        (0..u8::MAX).find(|handle| !known(handle)).unwrap_or(u8::MAX)
    }

    /// What is wrong now, whatever comes later.
    pub(super) fn always(&self) -> Option<&'static str> {
        if self.volumes.iter().all(Option::is_some) {
            return Some("two volumes at the driver for one claim");
        }
        if self
            .adopted
            .is_some_and(|handle| self.object.is_some_and(|object| object.handle == handle))
        {
            return Some("two objects for one volume");
        }
        self.wrong
    }

    /// What is wrong where nothing is left to be done.
    pub(super) fn at_rest(&self, rules: Rules) -> Option<&'static str> {
        let named = |handle: u8| {
            self.object.is_some_and(|object| object.handle == handle) || self.adopted == Some(handle)
        };
        let lost = self.volumes.iter().flatten().any(|handle| !named(*handle));
        let over = matches!(self.claim, ClaimLife::Gone | ClaimLife::Elsewhere);
        match self.object {
            _ if lost && !self.held => Some("a volume is lost"),
            _ if self.claim == ClaimLife::Waits => Some("the claim waits for ever"),
            _ if self.record.is_some() => Some("a record is never settled"),
            Some(object) if !self.has(object.handle) => Some("an object without a volume"),
            Some(object) if rules.deletes && over && self.adopted != Some(object.handle) => {
                Some("a volume is never deleted")
            }
            _ => None,
        }
    }
}
