//! What may happen next, to everything but our replicas: people, the control plane, the driver, the unknowing leader.

use super::world::{At, Broken, ClaimLife, Holder, Object, Phase, Replica, Rules, Unsure, World};

/// One thing that may happen.
#[derive(Clone, Copy, Debug)]
pub(super) struct Next {
    pub(super) what: &'static str,
    /// Which replica does it, if one does.
    pub(super) who: Option<usize>,
    /// In which order things happen when nothing goes wrong any more; `None`: then it does not happen.
    pub(super) calm: Option<u8>,
    pub(super) world: World,
}

/// Collects what may happen.
pub(super) struct Steps {
    pub(super) next: Vec<Next>,
    /// Nothing goes wrong any more.
    pub(super) calm: bool,
    who: Option<usize>,
}

impl Steps {
    fn new(calm: bool) -> Self {
        Self {
            next: Vec::new(),
            calm,
            who: None,
        }
    }

    pub(super) fn of(&mut self, who: usize) {
        self.who = Some(who);
    }

    pub(super) fn may(&mut self, what: &'static str, world: World) {
        if !self.calm {
            self.push(what, None, world);
        }
    }

    pub(super) fn will(&mut self, what: &'static str, calm: u8, world: World) {
        self.push(what, Some(calm), world);
    }

    fn push(&mut self, what: &'static str, calm: Option<u8>, world: World) {
        let who = self.who;
        self.next.push(Next {
            what,
            who,
            calm,
            world,
        });
    }
}

impl World {
    /// All that may happen next.
    pub(super) fn next(&self, rules: Rules, calm: bool) -> Vec<Next> {
        let mut steps = Steps::new(calm);
        self.people(rules, &mut steps);
        self.control_plane(&mut steps);
        self.driver(&mut steps);
        self.unknowing(rules, &mut steps);
        for replica in 0..self.replicas.len() {
            steps.of(replica);
            self.replica(replica, rules, &mut steps);
        }
        steps.next
    }

    fn people(&self, rules: Rules, steps: &mut Steps) {
        let claim = |claim| Self { claim, ..*self };
        match self.claim {
            ClaimLife::Absent => steps.may("the claim is made", claim(ClaimLife::Waits)),
            ClaimLife::Waits => {
                steps.may("the claim is to be deleted", claim(ClaimLife::Deleting));
                steps.may(
                    "the claim is bound to another volume",
                    claim(ClaimLife::Elsewhere),
                );
            }
            ClaimLife::Deleting => steps.will("the claim goes", 2, claim(ClaimLife::Gone)),
            ClaimLife::Bound => steps.may("the claim is deleted", claim(ClaimLife::Gone)),
            ClaimLife::Elsewhere | ClaimLife::Gone => {}
        }
        // The old request made a volume after all, so the driver refuses the new one: only this helps.
        let stuck = |me: usize| {
            let record = self.replicas[me].record.filter(|_| self.leads(me));
            record.is_some_and(|open| {
                self.volumes[usize::from(1 - open.request)].is_some() && open.doubt.next_is_second()
            })
        };
        if steps.calm && self.claim == ClaimLife::Waits && (stuck(0) || stuck(1)) {
            let claim = ClaimLife::Deleting;
            steps.will("the owner gives the claim up", 2, Self { claim, ..*self });
        }
        if self.claim == ClaimLife::Waits && !self.changed {
            steps.may(
                "the class is made anew",
                Self {
                    changed: true,
                    ..*self
                },
            );
        }
        // Deletion under way cannot be taken back; before it a person may set the policy to Retain. People are slower than
        // watches and requests: what they see has been seen.
        let seen = |me: &Replica| me.sees_claim == self.claim && me.sees_object == self.object;
        let busy = |at| matches!(at, At::Posting(_) | At::Deleting(_) | At::Removing(_));
        if let Some(object) = self.object
            && object.phase == Phase::Released
            && self.late_post.is_none()
            && self.has(object.handle)
            && self
                .replicas
                .iter()
                .all(|replica| seen(replica) && !busy(replica.at))
        {
            if self.adopted.is_none() {
                let adopted = Some(object.handle);
                let object = None;
                steps.may(
                    "the volume is given to another claim, under another name",
                    Self {
                        adopted,
                        object,
                        ..*self
                    },
                );
            }
            if !rules.deletes {
                let mut world = *self;
                world.object = None;
                world.gone(object.handle, rules.broken);
                steps.may("the volume is deleted by hand", world);
            }
        }
    }

    fn control_plane(&self, steps: &mut Steps) {
        if let Some(object) = self.object {
            let phase = |phase| Some(Object { phase, ..object });
            match (object.phase, self.claim) {
                (Phase::Pending, ClaimLife::Waits) => {
                    let (object, claim) = (phase(Phase::Bound), ClaimLife::Bound);
                    steps.will(
                        "claim and volume are bound",
                        2,
                        Self {
                            object,
                            claim,
                            ..*self
                        },
                    );
                }
                (Phase::Pending | Phase::Bound, ClaimLife::Gone | ClaimLife::Elsewhere) => {
                    let object = phase(Phase::Released);
                    steps.will("the volume is released", 2, Self { object, ..*self });
                }
                _ => {}
            }
        }
        if let Some(handle) = self.late_post {
            let gone = Self {
                late_post: None,
                ..*self
            };
            let mut stands = gone;
            stands.post(handle);
            steps.will("a late POST arrives", 0, stands);
            steps.may("a late POST is lost", gone);
        }
    }

    /// The object is written, unless it stands.
    pub(super) fn post(&mut self, handle: u8) {
        let phase = Phase::Pending;
        self.object.get_or_insert(Object { phase, handle });
    }

    fn driver(&self, steps: &mut Steps) {
        for request in 0..2 {
            if self.at_work[request] {
                let mut ended = *self;
                ended.at_work[request] = false;
                let mut made = ended;
                made.make(request);
                steps.will("a late call makes the volume", 0, made);
                steps.may("a late call comes to nothing", ended);
            }
        }
        let older = self.older();
        if older != *self {
            steps.may("--timeout passes", older);
        }
    }

    /// `--timeout` passes. A cache may lag that long, and not for a day.
    pub(super) fn older(mut self) -> Self {
        for replica in &mut self.replicas {
            let oldest = if replica.sees_claim == self.claim { 2 } else { 1 };
            if let Some(record) = &mut replica.record {
                record.doubt = record.doubt.older(oldest);
            }
            if let At::Calling { before, .. } = &mut replica.at {
                *before = before.older(oldest);
            }
        }
        self
    }

    fn make(&mut self, request: usize) {
        let handle = self.new_handle();
        self.volumes[request].get_or_insert(handle);
    }

    /// The driver says OK to this request. CSI: one name, one volume, so calls at work for it make no other.
    pub(super) fn ok(&mut self, request: u8, all: bool, broken: Option<Broken>) {
        self.make(usize::from(request));
        if broken != Some(Broken::LateAfterOk) {
            for other in 0..2 {
                if other == request || all {
                    self.end_calls(other);
                }
            }
        }
    }

    /// The driver has deleted a volume, and so ended what was at work for it.
    pub(super) fn gone(&mut self, handle: u8, broken: Option<Broken>) {
        for request in 0..self.volumes.len() {
            if self.volumes[request] == Some(handle) {
                self.volumes[request] = None;
                if broken != Some(Broken::LateAfterOk) {
                    self.end_calls(request as u8);
                }
            }
        }
    }

    fn end_calls(&mut self, ended: u8) {
        self.at_work[usize::from(ended)] = false;
        for replica in &mut self.replicas {
            if let At::Calling { request, spent, .. } = &mut replica.at
                && *request == ended
            {
                *spent = true;
            }
        }
    }

    /// Whether a call that this caller does not wait for may make a volume yet.
    pub(super) fn others_at_work(&self, caller: usize) -> bool {
        let calls = |replica: usize| match self.replicas[replica].at {
            At::Calling { spent, request, .. } => !spent && self.volumes[usize::from(1 - request)].is_none(),
            _ => false,
        };
        self.at_work != [false; 2] || calls(1 - caller)
    }

    /// Upstream: it leads by the same Lease, and leaves what it does not know. It is not what is checked here, so it
    /// finishes what it begins.
    fn unknowing(&self, rules: Rules, steps: &mut Steps) {
        if self.lease.holder != Holder::Unknowing {
            if rules.unknowing && self.terms > 0 {
                let mut world = *self;
                world.terms -= 1;
                world.lease.holder = Holder::Unknowing;
                world.lease.count = (world.lease.count + 1).max(1);
                steps.may("an unknowing leader takes the lease", world);
            }
            return;
        }
        if let Some(handle) = self.unknowing_made {
            let mut world = *self;
            world.unknowing_made = None;
            world.post(handle);
            steps.will("the unknowing leader writes the object", 1, world);
            return;
        }
        if self.claim == ClaimLife::Waits && self.object.is_none() && self.volumes[1].is_none() {
            let mut world = *self;
            world.ok(0, true, rules.broken);
            world.unknowing_made = world.volumes[0];
            steps.may("the unknowing leader makes the volume", world);
        }
        if let Some(object) = self.object
            && rules.deletes
            && object.phase == Phase::Released
            && self.adopted != Some(object.handle)
        {
            let mut world = *self;
            world.object = None;
            world.gone(object.handle, rules.broken);
            steps.may("the unknowing leader deletes the volume", world);
        }
    }

    /// The replica is killed, and restarts at once: with a list that is up to date, and nothing in memory.
    pub(super) fn kill(&self, replica: usize, steps: &mut Steps) {
        let me = self.replicas[replica];
        if self.crashes == 0 || (me.term.is_none() && me.record.is_none() && me.at == At::Idle) {
            return;
        }
        let mut world = *self;
        world.crashes -= 1;
        let fresh = &mut world.replicas[replica];
        *fresh = World::restarted(self.claim, self.object);
        match me.at {
            At::Calling { request, spent, .. } => {
                steps.may("is killed, its call has not arrived", world);
                world.at_work[usize::from(request)] |=
                    !spent && self.volumes[usize::from(1 - request)].is_none();
                steps.may("is killed, its call is at work", world);
            }
            At::Posting(handle) => {
                world.late_post = Some(handle);
                steps.may("is killed, its POST is on its way", world);
            }
            At::Deleting(handle) => {
                steps.may("is killed, its DeleteVolume has not arrived", world);
                world.gone(handle, None);
                steps.may("is killed, its DeleteVolume is done", world);
            }
            _ => steps.may("is killed", world),
        }
    }

    fn restarted(claim: ClaimLife, object: Option<Object>) -> Replica {
        Replica {
            term: None,
            last_term: None,
            sees_claim: claim,
            sees_object: object,
            record: None,
            erasing: false,
            holding: false,
            saved: false,
            deleting: false,
            at: At::Idle,
        }
    }
}

/// The first final answer is taken for the second.
pub(super) fn as_if_second(before: Unsure) -> Unsure {
    match before {
        Unsure::No => Unsure::No,
        Unsure::Yes(_) => Unsure::Yes(Some((1, Some(1)))),
    }
}
