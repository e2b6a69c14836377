//! Whether a call may be sent at this very moment.
//!
//! The channel connects when a call needs it, and a request may wait for that, for its turn, or because the whole
//! process was stopped. So the question is asked when the request becomes bytes on a connection that stands. A driver
//! never sees a call whose request has not arrived whole: the stream is reset instead.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

/// Says whether a call that makes or deletes something may be sent now. It is asked on the caller's task or the
/// connection's, so it must not block.
pub type MayCall = Arc<dyn Fn() -> bool + Send + Sync>;

/// The call was not sent, since we may not call any more. The driver knows nothing of it: this is no failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotSent;

/// The question for one call, and whether the answer was no.
#[derive(Clone, Default)]
pub(super) struct Fence {
    may_call: Option<MayCall>,
    withheld: Arc<AtomicBool>,
}

impl Fence {
    /// `None`: every call may be sent.
    pub(super) fn new(may_call: Option<MayCall>) -> Self {
        Self {
            may_call,
            withheld: Arc::default(),
        }
    }

    /// Whether the call may be sent now; if not, it never is.
    pub(super) fn passes(&self) -> bool {
        let may = self.may_call.as_ref().is_none_or(|may_call| may_call());
        if !may {
            self.withheld.store(true, Ordering::SeqCst);
        }
        may
    }

    /// Whether the call was not sent.
    pub(super) fn withheld(&self) -> bool {
        self.withheld.load(Ordering::SeqCst)
    }
}
