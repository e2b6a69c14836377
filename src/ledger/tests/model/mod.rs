//! Every interleaving of two replicas, an unknowing leader, one claim, a slow driver, crashes, lost messages and stale
//! caches, over our own functions: `settle` and its judge of answers, trust, the chain of leaders, the decision to delete.

mod broken;
mod calls;
mod replica;
mod search;
mod seen;
mod steps;
mod world;

use std::{sync::OnceLock, time::Duration};

use serde_json::json;

use self::{
    search::search,
    world::{Broken, Came, Lease, Phase, Rules, Stored},
};
use crate::{
    cluster::objects::{CsiSource, PROVISIONED_BY, VOLUME_FINALIZER, Volume},
    csi::DriverInfo,
    lease::{carry_on, first_leader},
    ledger::{
        record::Opening,
        trust::{Found, distrust},
    },
    reclaim::decide::{Decision, Facts, decide},
};

/// Half of how long a gone claim is waited for, so that two of them are enough.
const TIMEOUT: Duration = Duration::from_secs(12 * 3600);
const NOW: Duration = Duration::from_secs(100 * 3600);

const UID: &str = super::UID;
const DRIVER: &str = super::DRIVER;

/// Writes the annotation as a leader that keeps a ledger does, and returns the first leader of the chain.
fn chain(lease: &mut Lease, before: Lease) -> u8 {
    const LEADERS: &str = "ledger.volwright.dev/leaders";
    let annotations = match before.chain {
        Some((first, last)) => json!({LEADERS: format!("{first}-{last}")}),
        None => json!({}),
    };
    let mut object = json!({
        "metadata": {"annotations": annotations},
        "spec": {"leaseTransitions": before.count},
    });
    carry_on(&mut object, lease.count.into(), true);
    object["spec"]["leaseTransitions"] = json!(lease.count);
    let first = first_leader(&object).map_or(lease.count, |first| first as u8);
    lease.chain = Some((first, lease.count));
    first
}

fn is_trusted(stored: Stored, first: u8, rules: Rules) -> Came {
    let opening = Opening {
        at: "2026-11-21T04:36:01Z".parse().unwrap(),
        driver: DRIVER.to_owned(),
        lease_uid: if stored.copied { "theirs" } else { "ours" }.to_owned(),
        transitions: stored.term.into(),
        was_stale: false,
    };
    let found = Found {
        driver: DRIVER,
        lease_uid: match rules.broken {
            Some(Broken::CopyTrusted) => &opening.lease_uid,
            _ => "ours",
        },
        first_transitions: Some(first.into()),
        kept: true,
    };
    if rules.broken == Some(Broken::AllTrusted) {
        return Came::Trusted;
    }
    let volume = format!("pvc-{UID}");
    Came::from_distrust(distrust(UID, &opening, false, &volume, rules.deletes, found))
}

/// Whether reclaim deletes a volume of this phase and policy.
fn is_deleted(phase: Phase, deletes: bool) -> bool {
    static TABLE: OnceLock<[bool; 6]> = OnceLock::new();
    let row = usize::from(deletes) * 3 + phase as usize;
    TABLE.get_or_init(|| {
        std::array::from_fn(|row| {
            let phase = ["Available", "Bound", "Released"][row % 3];
            let policy = ["Retain", "Delete"][row / 3];
            let volume = Volume {
                finalizers: vec![VOLUME_FINALIZER.to_owned()],
                annotations: [(PROVISIONED_BY.to_owned(), DRIVER.to_owned())].into(),
                phase: phase.to_owned(),
                reclaim_policy: policy.to_owned(),
                csi: Some(CsiSource {
                    driver: DRIVER.to_owned(),
                    handle: "volume".to_owned(),
                }),
                ..Volume::default()
            };
            let driver = DriverInfo {
                name: DRIVER.to_owned(),
                ..DriverInfo::default()
            };
            let decision = decide(Facts {
                volume: &volume,
                class: None,
                driver: &driver,
                node: None,
            });
            matches!(decision, Decision::Delete { .. })
        })
    })[row]
}

/// Everything that may go wrong, at most once or twice.
const ALL: Rules = Rules {
    deletes: true,
    id_is_name: false,
    copied: false,
    crashes: 2,
    losses: 1,
    terms: 3,
    unknowing: true,
    stale: true,
    broken: None,
};

/// How many things happen at most before nothing goes wrong any more: all that fits into the time of `make test`.
const DEPTH: usize = 11;

#[test]
fn nothing_is_lost_and_nothing_in_use_is_deleted_whatever_happens_in_whatever_order() {
    let depth = std::env::var("MODEL_DEPTH")
        .ok()
        .and_then(|depth| depth.parse().ok());
    let calm = Rules {
        crashes: 0,
        losses: 0,
        terms: 1,
        unknowing: false,
        stale: false,
        ..ALL
    };
    for (name, rules, depth) in [
        ("Delete", ALL, depth.unwrap_or(DEPTH)),
        (
            "Retain",
            Rules {
                deletes: false,
                ..ALL
            },
            depth.unwrap_or(DEPTH),
        ),
        (
            "a copied record",
            Rules { copied: true, ..ALL },
            depth.unwrap_or(DEPTH),
        ),
        ("one leader, to the end", calm, usize::MAX),
        // One that was deleted and made anew is beyond the depth of the others.
        (
            "ids are names, one leader, to the end",
            Rules {
                id_is_name: true,
                crashes: 1,
                losses: 1,
                ..calm
            },
            usize::MAX,
        ),
    ] {
        let searched = search(rules, depth);
        println!(
            "{name}: {} states, {} steps, {} deep, {}",
            searched.states,
            searched.steps,
            searched.depth,
            if searched.finished {
                "all there are"
            } else {
                "and there are more"
            }
        );
        if let Some((what, trace)) = searched.wrong {
            panic!("{name}: {what}\n  {}", trace.join("\n  "));
        }
    }
}
