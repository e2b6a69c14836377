//! Pure. What an open record needs next, and what an answer of the driver says about it.
//!
//! A record is settled by finishing the creation and writing the PersistentVolume, also when its claim is gone: the
//! ordinary reclaim takes it from there. Nothing here leads to DeleteVolume.

use std::{fmt, time::Duration};

use crate::{
    csi::Code,
    ledger::{Distrust, Origin},
};

/// A claim that is gone is not waited for longer than this, where the driver has given nothing but final answers that
/// do not judge its request.
pub const PATIENCE: Duration = Duration::from_secs(24 * 3600);

/// As many requests may have made the volume of one claim besides the one that is sent; then it gets no other one. A record
/// has to fit into an object.
pub const MOST_EARLIER: usize = 4;

/// The claim of a record, now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClaimState {
    /// It stands, has no volume, and asks for one of ours.
    Waits,
    /// As before, and it is being deleted.
    BeingDeleted,
    /// It is gone, another one has its name, it is bound, or another driver is asked.
    Gone,
}

/// What is known of the volume of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VolumeState {
    /// Nothing: the driver is to be asked.
    Nothing,
    /// The driver has said at some time that it exists.
    CreatedEarlier,
    /// The driver has said so just now.
    Created,
    /// As before, and then a live list had no object for it.
    Unlisted,
    /// As before, and then a live list had an object for it.
    Listed,
    /// As before, and then a live list had an object for another volume of its claim.
    OtherListed,
}

/// What stands under the name of a record's volume, for its claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SeenObject {
    /// Nothing.
    Absent,
    /// An object, and the driver has not said which volume there is.
    Unproven,
    /// The object of the volume that the driver has made.
    Same,
    /// By the cache, which may be old, the object of another volume.
    Other,
    /// The same by what the API server has at this moment.
    OtherLive,
}

impl SeenObject {
    /// Whether nothing of the creation is left to be remembered. `asked`: a call of ours may have made a volume that the
    /// object is not for, since an earlier leader may have written it late, for one that is deleted by now.
    pub const fn closes(self, asked: bool) -> bool {
        match self {
            Self::Same => true,
            Self::Unproven => !asked,
            Self::Absent | Self::Other | Self::OtherLive => false,
        }
    }
}

/// What is known about an open record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordFacts {
    /// Its claim.
    pub claim: ClaimState,
    /// What was seen of its PersistentVolume.
    pub object: SeenObject,
    /// This process has called the driver, and was not told since which volume there is.
    pub asked: bool,
    /// How it came to this process.
    pub origin: Origin,
    /// Its volume.
    pub known: VolumeState,
}

/// What an open record needs next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing: the object stands, and the record is to be erased.
    Close,
    /// A person.
    Hold(HoldReason),
    /// The driver is to be asked again, with the same request.
    Create,
    /// The object of the volume's name is to be read live.
    Look,
    /// A live list is to tell whether there is an object for the volume.
    List,
    /// The PersistentVolume is to be written.
    Save,
}

/// Why a record is not acted upon until a person decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HoldReason {
    /// It is not trusted, and nobody waits for its volume.
    Distrust(Distrust),
    /// The claim has got another volume of the driver.
    OtherVolume,
    /// The driver refuses for a day, and never because of the request.
    OnlyRefusals,
}

/// What an open record needs next.
pub fn settle(facts: RecordFacts) -> Step {
    let RecordFacts {
        claim,
        object,
        asked,
        origin,
        known,
    } = facts;
    // A request to write the object whose answer was lost, or another leader, has done it. Writing it again later,
    // when the volume has been deleted, would make an object for nothing.
    if object.closes(asked) {
        return Step::Close;
    }
    match object {
        SeenObject::Other => return Step::Look,
        SeenObject::OtherLive => return Step::Hold(HoldReason::OtherVolume),
        // Only asking again tells what the object is for.
        SeenObject::Absent | SeenObject::Unproven | SeenObject::Same => {}
    }
    match (origin, claim, known) {
        (Origin::Own, _, VolumeState::Nothing) => Step::Create,
        (Origin::Own, ..) => Step::Save,
        // Asking again is what is wanted, whoever led in between: who waits has no volume. The other leader may have
        // deleted what we know of.
        (Origin::Inherited { .. }, ClaimState::Waits, VolumeState::Nothing | VolumeState::CreatedEarlier) => {
            Step::Create
        }
        (Origin::Inherited { .. }, ClaimState::Waits, _) => Step::Save,
        (Origin::Inherited { distrust: Some(why) }, ..) => Step::Hold(HoldReason::Distrust(why)),
        // The other leader may have finished the creation, and the volume may be in use under any name.
        (_, _, VolumeState::Nothing | VolumeState::CreatedEarlier) => Step::Create,
        (_, _, VolumeState::Created) => Step::List,
        (_, _, VolumeState::Unlisted) => Step::Save,
        (_, _, VolumeState::Listed) => Step::Close,
        (_, _, VolumeState::OtherListed) => Step::Hold(HoldReason::OtherVolume),
    }
}

/// What to do when the secret of a request is gone, or the right to read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WithoutSecret {
    /// The claim's namespace takes the secret along, and the right to read it, which is denied first. What the driver
    /// was called with before is good enough to finish.
    UseLast,
    /// Nobody knows it any more, or somebody waits who may restore it: the driver is not called without.
    Wait,
}

/// What to do when the secret of a request is gone. `at_hand`: this process has read it before.
pub fn without_secret(claim: ClaimState, at_hand: bool) -> WithoutSecret {
    match (claim, at_hand) {
        (ClaimState::BeingDeleted | ClaimState::Gone, true) => WithoutSecret::UseLast,
        (ClaimState::Waits, _) | (_, false) => WithoutSecret::Wait,
    }
}

/// Whether a volume may exist, or come to exist, that one final answer of the driver says nothing about: of a call that
/// ended without a word, or that another process made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Doubt {
    /// Each call of this process has had its final answer, and no other process made any.
    #[default]
    None,
    /// There may be one.
    Doubted {
        /// The final answers since the last one that was none.
        finals: Option<Finals>,
    },
}

/// Final answers without any other in between. Moments are durations since some fixed one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finals {
    /// When the first one came.
    pub first: Duration,
    /// When the first one came that judged the request.
    pub judging: Option<Duration>,
}

/// A final answer and what was known when it came.
#[derive(Clone, Copy, Debug)]
pub struct FinalAnswer {
    /// Its code.
    pub code: Code,
    /// Whether the content of the volume was to come from somewhere.
    pub has_source: bool,
    /// How many requests that were sent before this one may have made the volume.
    pub earlier: usize,
    /// The claim.
    pub claim: ClaimState,
    /// When it came.
    pub now: Duration,
    /// `--timeout`: what the driver is at work on may take this long.
    pub timeout: Duration,
}

/// What a final answer says about a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// No volume exists, nor will one come of this request. The record is to be erased.
    Erase,
    /// The same request is to be repeated.
    Repeat,
    /// It is to be repeated, and that will take long.
    RepeatSlowly,
    /// The claim may get another request, in place of this one.
    Renew,
    /// A volume exists that another request has made: an earlier one is to be repeated, and this one after it.
    FallBack,
    /// No volume exists, nor will one come of this request, but may be of an earlier one, which is to be repeated in its
    /// place.
    Drop,
    /// Repeating has taken too long.
    Hold(HoldReason),
}

impl Doubt {
    /// There may be a volume, and no answer has come since.
    pub const FRESH: Self = Self::Doubted { finals: None };

    /// What is in doubt once a volume that was made, and could not be used, is deleted.
    pub fn cleaned_up(self) -> Self {
        match self {
            Self::None => Self::None,
            Self::Doubted { .. } => Self::FRESH,
        }
    }

    /// A final answer came: what it says, and what is in doubt from now on about the request that is sent next.
    pub fn judge(self, answer: FinalAnswer) -> (Self, Verdict) {
        let (doubt, verdict) = self.judge_request(answer);
        if answer.earlier == 0 {
            return (doubt, verdict);
        }
        match (verdict, doubt) {
            (Verdict::Hold(_), _) => (doubt, verdict),
            // Else requests that take turns would put off for ever what a person has to decide.
            (_, Self::Doubted { finals: Some(finals) })
                if answer.code == Code::AlreadyExists && answer.claim == ClaimState::Gone =>
            {
                let finals = Some(Finals {
                    judging: None,
                    ..finals
                });
                (Self::Doubted { finals }, Verdict::FallBack)
            }
            _ if answer.code == Code::AlreadyExists => (Self::FRESH, Verdict::FallBack),
            (Verdict::Erase, _) => (Self::FRESH, Verdict::Drop),
            _ => (doubt, verdict),
        }
    }

    /// What a final answer says where no other request is on record.
    fn judge_request(self, answer: FinalAnswer) -> (Self, Verdict) {
        let Self::Doubted { finals } = self else {
            return (Self::None, Verdict::Erase);
        };
        let FinalAnswer {
            code,
            has_source,
            earlier,
            claim,
            now,
            timeout,
        } = answer;
        let judges = judges(code, has_source);
        let mut finals = finals.unwrap_or(Finals {
            first: now,
            judging: None,
        });
        if judges {
            finals.judging.get_or_insert(now);
        }
        let is_second = |first: Duration| now.saturating_sub(first) >= timeout && now > first;
        let verdict = if judges && finals.judging.is_some_and(is_second) {
            return (Self::None, Verdict::Erase);
        } else if !is_second(finals.first) {
            Verdict::Repeat
        } else {
            match claim {
                ClaimState::Waits if code != Code::AlreadyExists && earlier < MOST_EARLIER => Verdict::Renew,
                ClaimState::Waits | ClaimState::BeingDeleted => Verdict::Repeat,
                ClaimState::Gone if judges => Verdict::Repeat,
                ClaimState::Gone if now.saturating_sub(finals.first) >= PATIENCE => {
                    Verdict::Hold(HoldReason::OnlyRefusals)
                }
                ClaimState::Gone => Verdict::RepeatSlowly,
            }
        };
        (Self::Doubted { finals: Some(finals) }, verdict)
    }
}

/// Whether an answer is about the request itself, so that the driver would give it whatever happened before. A backend
/// that is down says Internal, too.
const fn judges(code: Code, has_source: bool) -> bool {
    match code {
        Code::InvalidArgument | Code::OutOfRange | Code::ResourceExhausted | Code::Unimplemented => true,
        Code::NotFound => !has_source,
        _ => false,
    }
}

impl fmt::Display for HoldReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Distrust(why) => why.fmt(f),
            Self::OtherVolume => f.write_str(
                "its claim has another PersistentVolume of the driver, and none names the volume that was made for it",
            ),
            Self::OnlyRefusals => f.write_str(
                "its claim is gone, and for 24 hours the driver has refused to say whether the volume exists",
            ),
        }
    }
}
