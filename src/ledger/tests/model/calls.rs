//! What a replica of ours hears of its calls and requests, and what follows.

use super::{
    NOW, TIMEOUT, is_deleted,
    replica::claim_state,
    steps::{Steps, as_if_second},
    world::{At, Broken, Object, Phase, Rules, Unsure, World},
};
use crate::{
    csi::Code,
    provision::settle::{FinalAnswer, Verdict},
};

impl World {
    pub(super) fn calling(
        &self,
        me: usize,
        request: u8,
        before: Unsure,
        spent: bool,
        rules: Rules,
        steps: &mut Steps,
    ) {
        let mut idle = *self;
        idle.replicas[me].at = At::Idle;
        let other = self.volumes[usize::from(1 - request)].is_some();
        let can_make = !spent || self.volumes[usize::from(request)].is_some();
        if !other && can_make {
            let mut world = idle;
            world.ok(request, false, rules.broken);
            world.lose("never hears that the volume is made", steps);
            let made = world.volumes[usize::from(request)];
            if let Some(open) = &mut world.replicas[me].record {
                (open.created, open.doubt, open.asked) = (made, before, false);
                world.replicas[me].at = At::Made;
                if rules.broken == Some(Broken::ErasedEarly) {
                    world.record = None;
                }
            }
            steps.will("hears that the volume is made", 4, world);
        }
        let late = |mut world: Self| {
            // The name is taken: it is refused.
            world.at_work[usize::from(request)] |= !spent && !other;
            world
        };
        steps.may("waits no more, the call is at work", late(idle));
        if spent {
            steps.will("hears that the call failed for now", 4, idle);
        } else {
            steps.may("waits no more, the call has not arrived", idle);
        }
        // What the driver promises: two final answers this far apart are given when nothing is at work any more.
        if before.next_is_second() && self.others_at_work(me) {
            return;
        }
        if other {
            let mut world = idle.judged(me, Code::AlreadyExists, before, rules);
            if steps.calm {
                // It is repeated after a while.
                world = world.older();
            }
            steps.will("hears AlreadyExists", 4, world);
            return;
        }
        if self.volumes[usize::from(request)].is_none() {
            let world = idle.judged(me, Code::ResourceExhausted, before, rules);
            steps.may("hears ResourceExhausted", world);
        }
        let world = idle.judged(me, Code::Internal, before, rules);
        steps.may("hears Internal", world);
    }

    fn judged(mut self, me: usize, code: Code, before: Unsure, rules: Rules) -> Self {
        let own = &mut self.replicas[me];
        let Some(open) = &mut own.record else { return self };
        let before = match rules.broken {
            Some(Broken::OneFinalAnswer) => as_if_second(before),
            _ => before,
        };
        let (doubt, verdict) = before.doubt().judge(FinalAnswer {
            code,
            has_source: false,
            earlier: 0,
            claim: claim_state(own.sees_claim),
            now: NOW,
            timeout: TIMEOUT,
        });
        match verdict {
            Verdict::Erase => {
                own.record = None;
                own.erasing = true;
            }
            Verdict::Hold(_) => {
                own.record = None;
                own.holding = true;
            }
            // The class stays as it is, so there is one request.
            Verdict::FallBack | Verdict::Drop => {}
            Verdict::Repeat | Verdict::RepeatSlowly | Verdict::Renew => {
                open.doubt = Unsure::from_doubt(doubt);
                open.renewable = verdict == Verdict::Renew;
            }
        }
        self
    }

    pub(super) fn posting(&self, me: usize, handle: u8, rules: Rules, steps: &mut Steps) {
        let mut world = *self;
        world.replicas[me].at = At::Idle;
        world.lose("its POST is lost", steps);
        world.post(handle);
        world.lose("its POST is done, and it never hears of it", steps);
        let other = world.object.is_some_and(|object| object.handle != handle);
        let own = &mut world.replicas[me];
        if other && own.record.is_some() && rules.broken != Some(Broken::ClosedByName) {
            own.record = None;
            own.holding = true;
            steps.will("hears that an object of another handle stands", 4, world);
            return;
        }
        own.close();
        steps.will("hears that the object stands", 4, world);
    }

    pub(super) fn reclaim(&self, me: usize, rules: Rules, steps: &mut Steps) {
        let Some(seen) = self.replicas[me].sees_object else {
            return;
        };
        let wanted = |object: Object| is_deleted(object.phase, rules.deletes);
        if !wanted(seen) || !self.may_send(me, rules) {
            return;
        }
        let shared = self.adopted == Some(seen.handle);
        let live = self
            .object
            .is_some_and(|live| live.handle == seen.handle && wanted(live));
        if (!live || shared) && rules.broken != Some(Broken::NoLiveLook) {
            return;
        }
        let mut world = *self;
        world.sent(me);
        let released = self.object.is_some_and(|object| object.phase == Phase::Released);
        if !released || !rules.deletes || shared || rules.copied {
            world.wrong = Some("DeleteVolume for a volume in use");
        }
        world.replicas[me].at = At::Deleting(seen.handle);
        world.replicas[me].deleting = true;
        steps.will("calls DeleteVolume", 9, world);
    }
}
