//! Any interleaving of opens, erasures, lost and late answers, hand edits and restarts: what was confirmed is there
//! until it is erased, what was erased does not come back, and no shard grows too large.

use std::collections::BTreeSet;

use proptest::{collection::vec, prelude::*};

use super::{
    super::{annotation::OPEN, record::Storable as _},
    TermFacts, note,
    server::{Fate, Scene},
    settings, term,
};
use crate::base::api_error::Reason;

#[derive(Clone, Debug)]
enum Deed {
    /// One of a few claims, and a size.
    Open(u8, usize),
    Erase(u8),
    Step(Fate),
    Advance(u64),
    /// What came late comes now.
    CatchUp,
    DeleteShard(usize),
    /// A person takes a record out.
    TakeOut(u8),
    Restart,
    /// From now on this shard fails, or none does.
    Bad(Option<usize>),
    /// The same process, after a while without the lease.
    NextTerm,
    /// The same, and another has led meanwhile, which has changed nothing.
    AfterAnother,
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        8 => Just(Fate::Done),
        2 => Just(Fate::Unheard),
        2 => Just(Fate::Lost),
        2 => Just(Fate::Late),
        1 => Just(Fate::Refused(Reason::TooManyRequests(std::time::Duration::from_secs(1)))),
        1 => Just(Fate::Refused(Reason::Invalid)),
        1 => Just(Fate::Refused(Reason::Forbidden)),
    ]
}

fn deed() -> impl Strategy<Value = Deed> {
    prop_oneof![
        6 => (0u8..12, prop_oneof![6 => Just(900usize), 3 => Just(9_000), 1 => Just(60_000)])
            .prop_map(|(claim, size)| Deed::Open(claim, size)),
        4 => (0u8..12).prop_map(Deed::Erase),
        10 => fate().prop_map(Deed::Step),
        4 => (1u64..1500).prop_map(Deed::Advance),
        1 => Just(Deed::CatchUp),
        1 => (0usize..3).prop_map(Deed::DeleteShard),
        1 => (0u8..12).prop_map(Deed::TakeOut),
        1 => Just(Deed::Restart),
        1 => prop_oneof![Just(None), (0usize..3).prop_map(Some)].prop_map(Deed::Bad),
        1 => Just(Deed::NextTerm),
        1 => Just(Deed::AfterAnother),
    ]
}

/// What the callers know.
#[derive(Default)]
struct Callers {
    waiting: Vec<(u64, String)>,
    open: BTreeSet<String>,
    /// A person has been there: what is missing is put back later.
    tampered: BTreeSet<String>,
}

fn uid(claim: u8) -> String {
    format!("01234567-89ab-cdef-0123-4567890000{claim:02}")
}

fn listen(scene: &mut Scene, callers: &mut Callers) {
    for (ticket, answer) in std::mem::take(&mut scene.answers) {
        let Some(at) = callers.waiting.iter().position(|(it, _)| *it == ticket) else {
            continue;
        };
        let (_, uid) = callers.waiting.swap_remove(at);
        if answer.is_ok() {
            callers.open.insert(uid);
        }
    }
}

/// What a caller knows as stored is on the server, or in memory where nothing can be stored.
fn check(scene: &Scene, callers: &Callers) -> Result<(), TestCaseError> {
    let there = scene.server.uids();
    for uid in callers.open.difference(&callers.tampered) {
        prop_assert!(scene.state.open.contains_key(uid), "{uid} was forgotten");
        let stored = there.contains(uid) || scene.state.in_memory.contains(uid);
        prop_assert!(stored, "{uid} is stored nowhere");
    }
    Ok(())
}

fn act(scene: &mut Scene, callers: &mut Callers, deed: &Deed) {
    match deed {
        Deed::Open(claim, size) => {
            let uid = uid(*claim);
            if callers.waiting.iter().any(|(_, it)| *it == uid) {
                return;
            }
            match scene.open(&uid, note(&uid, *size)) {
                Ok(Some(ticket)) => callers.waiting.push((ticket, uid)),
                Ok(None) => {
                    callers.open.insert(uid);
                }
                Err(_) => {}
            }
        }
        Deed::Erase(claim) => {
            scene.state.erase(&uid(*claim), scene.now);
            callers.open.remove(&uid(*claim));
            callers.tampered.remove(&uid(*claim));
        }
        Deed::Step(fate) => {
            scene.step(*fate);
        }
        Deed::Advance(ms) => scene.now += std::time::Duration::from_millis(*ms),
        Deed::CatchUp => scene.server.catch_up(),
        Deed::DeleteShard(number) => {
            let gone = scene
                .server
                .open()
                .into_iter()
                .filter(|(_, there)| there == number);
            callers.tampered.extend(gone.map(|(uid, _)| uid));
            scene.server.shards[*number] = None;
        }
        Deed::TakeOut(claim) => {
            let uid = uid(*claim);
            let there: Vec<_> = scene
                .server
                .open()
                .into_iter()
                .filter(|(it, _)| *it == uid)
                .collect();
            for (uid, number) in there {
                scene.server.edit(number, |object| {
                    let annotations = object["metadata"]["annotations"].as_object_mut().unwrap();
                    annotations.remove(&format!("{OPEN}{uid}"));
                });
                callers.tampered.insert(uid);
            }
        }
        Deed::Restart => {
            // What a person took out of a process that ended then is lost, and so is what was in memory only.
            let there = scene.server.uids();
            callers.open.retain(|uid| there.contains(uid));
            callers.waiting.clear();
            callers.tampered.clear();
            scene.restart(&term());
            // Erased and not written yet, or never confirmed: it is settled again.
            callers.open.extend(scene.state.open.keys().cloned());
        }
        Deed::AfterAnother if scene.state.settings.elected => {
            let facts = TermFacts {
                transitions: scene.state.term.transitions + 2,
                undisturbed: false,
                ..term()
            };
            // What a person took out is as good as erased by the other.
            let (there, memory) = (scene.server.uids(), scene.state.in_memory.clone());
            callers
                .open
                .retain(|uid| there.contains(uid) || memory.contains(uid));
            callers.tampered.clear();
            scene.take_over(&facts, |_| true);
            // Erased and not written yet, or never confirmed: the other may have called the driver.
            callers.open.extend(scene.state.open.keys().cloned());
            for uid in there {
                assert!(scene.state.open.contains_key(&uid), "{uid} was not inherited");
            }
        }
        Deed::Bad(number) => scene.bad = number.map(|number| (number, Reason::Unavailable)),
        Deed::NextTerm | Deed::AfterAnother => {
            scene.take_over(&term(), |_| true);
        }
    }
    listen(scene, callers);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 120, ..ProptestConfig::default() })]

    #[test]
    fn what_was_confirmed_is_there_and_what_was_erased_is_not(
        elected: bool, deeds in vec(deed(), 1..120)
    ) {
        let settings = super::LedgerSettings { elected, ..settings() };
        let mut scene = Scene::leading(settings, &term());
        let mut callers = Callers::default();
        for deed in &deeds {
            act(&mut scene, &mut callers, deed);
            check(&scene, &callers)?;
        }
        scene.bad = None;
        // All is well from now on, for as long as a refusal is remembered.
        scene.server.catch_up();
        for _ in 0..2 {
            scene.run();
            listen(&mut scene, &mut callers);
            scene.now += std::time::Duration::from_secs(601);
        }
        scene.run();
        listen(&mut scene, &mut callers);
        prop_assert!(callers.waiting.is_empty(), "somebody waits for ever");
        let known: BTreeSet<_> = scene.state.open.keys().cloned().collect();
        prop_assert_eq!(&known, &callers.open);
        prop_assert_eq!(scene.server.uids(), known);
        // Once each, and readable as it was opened.
        prop_assert_eq!(scene.server.open().len(), scene.server.uids().len());
        let before = scene.state.open.iter().map(|(uid, known)| (uid.clone(), known.entry.record.encode().len()));
        let before: std::collections::BTreeMap<_, _> = before.collect();
        scene.restart(&term());
        let after = scene.state.open.iter().map(|(uid, known)| (uid.clone(), known.entry.record.encode().len()));
        prop_assert_eq!(after.collect::<std::collections::BTreeMap<_, _>>(), before);
    }
}
