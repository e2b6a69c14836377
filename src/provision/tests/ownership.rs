//! Whose claim it is where each sidecar serves one node, and how the nodes keep apart.

use super::{
    super::{
        ownership::{Ownership, delay, jitter, ownership, tells},
        policy::NodePolicy,
    },
    *,
};
use crate::cluster::objects::{BindingMode, SELECTED_NODE, SELECTED_NODE_ALPHA};

fn node(base: u64, max: u64) -> NodePolicy {
    NodePolicy {
        name: "node-1".into(),
        immediate_binding: true,
        base_delay: Duration::from_secs(base),
        max_delay: Duration::from_secs(max),
    }
}

#[test]
fn a_claim_is_its_selected_nodes_and_open_only_where_its_class_says_immediate() {
    use BindingMode::{Immediate, WaitForFirstConsumer};
    let selected = |key: &str, node: &str| BTreeMap::from([(key.to_owned(), node.to_owned())]);
    let none = BTreeMap::new;
    let cases = [
        (
            "here",
            selected(SELECTED_NODE, "node-1"),
            None,
            true,
            Ownership::Ours,
        ),
        (
            "here, bound at once",
            selected(SELECTED_NODE, "node-1"),
            Some(Immediate),
            false,
            Ownership::Ours,
        ),
        (
            "here by the old name",
            selected(SELECTED_NODE_ALPHA, "node-1"),
            None,
            true,
            Ownership::Ours,
        ),
        (
            "elsewhere",
            selected(SELECTED_NODE, "node-2"),
            Some(Immediate),
            true,
            Ownership::OtherNodes,
        ),
        (
            "nowhere yet",
            none(),
            Some(WaitForFirstConsumer),
            true,
            Ownership::NotOpen,
        ),
        (
            "unset is not Immediate here",
            none(),
            None,
            true,
            Ownership::NotOpen,
        ),
        ("open", none(), Some(Immediate), true, Ownership::Open),
        (
            "an empty name is none",
            selected(SELECTED_NODE, ""),
            Some(Immediate),
            true,
            Ownership::Open,
        ),
        (
            "open, but not for us",
            none(),
            Some(Immediate),
            false,
            Ownership::NotOpen,
        ),
    ];
    for (what, annotations, binding_mode, immediate_binding, expected) in cases {
        let claim = Claim {
            annotations,
            ..Claim::default()
        };
        let class = Class {
            binding_mode,
            ..Class::default()
        };
        let node = NodePolicy {
            immediate_binding,
            ..node(20, 60)
        };
        assert_eq!(ownership(&claim, Some(&class), &node), expected, "{what}");
    }
    assert_eq!(
        ownership(&Claim::default(), None, &node(20, 60)),
        Ownership::Open,
        "that its class is missing each node finds"
    );
}

#[test]
fn delays_double_up_to_the_maximum_less_up_to_one_base() {
    let secs = Duration::from_secs;
    for (base, max, failures, jitter, expected) in [
        (20, 60, 0, 0.0, secs(20)),
        (20, 60, 0, 0.75, secs(5)),
        (20, 60, 1, 0.5, secs(30)),
        (20, 60, 2, 0.0, secs(60)),
        (20, 60, 99, 0.0, secs(60)),
        (0, 60, 5, 0.5, secs(0)),
        (90, 60, 0, 0.0, secs(60)),
        (90, 60, 0, 0.9, secs(0)),
        (20, 0, 3, 0.0, secs(0)),
    ] {
        assert_eq!(
            delay(&node(base, max), failures, jitter),
            expected,
            "{base} {max} {failures} {jitter}"
        );
    }
}

#[test]
fn no_delay_leaves_its_bounds_however_often_a_node_fails() {
    let node = node(1, 10);
    for failures in 0..100 {
        for draw in [0.0, jitter(&claim("1"), "node", failures), 1.0] {
            let delay = delay(&node, failures, draw);
            let bounds = Duration::ZERO..=Duration::from_secs(10);
            let id = "rate.RateLimiter.01";
            assert!(bounds.contains(&delay), "{id}: {failures}: {delay:?}");
        }
    }
}

/// At this resourceVersion.
fn claim(version: &str) -> Claim {
    Claim {
        uid: "uid".into(),
        resource_version: version.into(),
        ..Claim::default()
    }
}

#[test]
fn nodes_draw_different_delays_for_one_claim_and_one_node_for_different_tries() {
    let draws: Vec<_> = (0..1000)
        .map(|node| jitter(&claim("1"), &format!("node-{node}"), 0))
        .collect();
    assert!(draws.iter().all(|draw| (0.0..1.0).contains(draw)));
    let in_first_tenth = draws.iter().filter(|draw| **draw < 0.1).count();
    assert!((50..200).contains(&in_first_tenth), "{in_first_tenth} of 1000");
    assert_ne!(
        jitter(&claim("1"), "node", 0).to_bits(),
        jitter(&claim("1"), "node", 1).to_bits()
    );
    assert_ne!(
        jitter(&claim("1"), "node", 0).to_bits(),
        jitter(&claim("2"), "node", 0).to_bits(),
        "a claim that came back is drawn anew"
    );
}

#[test]
fn few_of_many_nodes_tell_of_a_claim_at_first_and_a_single_one_does_at_last() {
    let telling = |nodes: usize, secs: u64| {
        let named = |number: &usize| NodePolicy {
            name: format!("node-{number}"),
            ..node(20, 60)
        };
        let tell = |number: &usize| tells("uid", &named(number), Duration::from_secs(secs));
        (0..nodes).filter(tell).count()
    };
    let first = telling(5000, 20);
    assert!((10..100).contains(&first), "{first} of 5000");
    assert_eq!(telling(5000, 160), 5000, "after eight doublings everybody may");
    assert!(telling(1, 160) == 1);
    assert!(
        tells("uid", &node(0, 0), Duration::from_secs(8)),
        "a base of zero counts as a second"
    );
}
