//! The work queue by itself: no task, no clock.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use proptest::prelude::*;

use crate::{
    base::backoff::Backoff,
    cluster::queue::{QueueEvent, Requeue, WorkQueue},
};

const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

type Events = Arc<Mutex<Vec<QueueEvent>>>;

fn queue(workers: usize) -> (WorkQueue, Events) {
    let events = Events::default();
    let heard = events.clone();
    let backoff = Backoff {
        start: secs(1),
        max: secs(10),
    };
    let on_event = Box::new(move |event| heard.lock().push(event));
    let mut queue = WorkQueue::new(workers, backoff, on_event);
    queue.open();
    (queue, events)
}

fn take(queue: &mut WorkQueue, now: u64) -> Option<String> {
    queue.take(secs(now)).map(|key| key.to_string())
}

#[test]
fn keys_are_handed_out_first_come_first_served_and_once_each() {
    let (mut queue, _) = queue(9);
    for key in ["c", "a", "b", "a", "c"] {
        queue.add(key, secs(0));
    }
    let order: Vec<_> = std::iter::from_fn(|| take(&mut queue, 1)).collect();
    assert_eq!(order, ["c", "a", "b"]);
}

#[test]
fn no_more_keys_are_handed_out_than_there_are_workers() {
    let (mut queue, _) = queue(2);
    ["a", "b", "c"].iter().for_each(|key| queue.add(key, secs(0)));
    assert!(take(&mut queue, 0).is_some() && take(&mut queue, 0).is_some());
    assert_eq!(take(&mut queue, 0), None);
    queue.done("a", Requeue::AwaitChange, secs(1));
    assert_eq!(take(&mut queue, 1).as_deref(), Some("c"));
}

#[test]
fn a_key_that_is_added_while_it_is_worked_on_comes_once_more_behind_those_that_wait() {
    let (mut queue, _) = queue(2);
    queue.add("a", secs(0));
    take(&mut queue, 0);
    queue.add("a", secs(1));
    queue.add("a", secs(2));
    assert_eq!(take(&mut queue, 2), None, "not twice at the same time");
    queue.add("b", secs(3));
    queue.add("c", secs(3));
    queue.done("a", Requeue::After(secs(100)), secs(4));
    let order: Vec<_> = std::iter::from_fn(|| {
        let key = take(&mut queue, 5)?;
        queue.done(&key, Requeue::AwaitChange, secs(5));
        Some(key)
    })
    .collect();
    assert_eq!(order, ["b", "c", "a"]);
    assert!(
        queue.is_empty() && queue.next_wake().is_none(),
        "the delay is not kept"
    );
}

#[test]
fn a_delayed_key_comes_when_its_moment_has() {
    let (mut queue, _) = queue(9);
    ["late", "soon"].iter().for_each(|key| queue.add(key, secs(0)));
    take(&mut queue, 0);
    take(&mut queue, 0);
    queue.done("late", Requeue::After(secs(20)), secs(0));
    queue.done("soon", Requeue::After(secs(10)), secs(0));
    assert_eq!((queue.next_wake(), take(&mut queue, 9)), (Some(secs(10)), None));
    assert_eq!(take(&mut queue, 10).as_deref(), Some("soon"));
    queue.add("late", secs(11));
    assert_eq!(
        take(&mut queue, 11).as_deref(),
        Some("late"),
        "a change ends the delay"
    );
    assert_eq!(queue.next_wake(), None);
}

#[test]
fn failures_count_until_success_or_until_the_object_is_gone() {
    let (mut queue, _) = queue(1);
    let mut now = secs(0);
    let mut delay = |queue: &mut WorkQueue, requeue| {
        queue.add("a", now);
        queue.take(now);
        queue.done("a", requeue, now);
        let delay = queue.next_wake().map(|wake| (wake - now).as_secs());
        now += secs(1);
        delay
    };
    assert_eq!(delay(&mut queue, Requeue::Backoff), Some(1));
    assert_eq!(delay(&mut queue, Requeue::Backoff), Some(2));
    assert_eq!(delay(&mut queue, Requeue::After(secs(7))), Some(7));
    assert_eq!(
        delay(&mut queue, Requeue::Backoff),
        Some(4),
        "a set time keeps the count"
    );
    assert_eq!(delay(&mut queue, Requeue::AwaitChange), None);
    assert_eq!(delay(&mut queue, Requeue::Backoff), Some(1), "success ends it");
    queue.forget("a");
    assert!(queue.is_empty());
    assert_eq!(delay(&mut queue, Requeue::Backoff), Some(1), "so does removal");
}

#[test]
fn what_is_forgotten_while_it_is_worked_on_does_not_come_back_by_itself() {
    let (mut queue, _) = queue(1);
    for (requeue, added, comes) in [
        (Requeue::Backoff, false, false),
        (Requeue::After(secs(1)), false, false),
        (Requeue::Backoff, true, true),
    ] {
        queue.add("a", secs(0));
        queue.take(secs(0));
        queue.forget("a");
        if added {
            queue.add("a", secs(0));
        }
        queue.done("a", requeue, secs(0));
        assert_eq!(take(&mut queue, 50).is_some(), comes, "{requeue:?}");
        queue.done("a", Requeue::AwaitChange, secs(50));
        assert!(queue.is_empty());
    }
}

#[test]
fn a_closed_queue_takes_nothing_and_remembers_failures_and_what_is_worked_on() {
    let (mut queue, _) = queue(2);
    ["a", "b", "c"].iter().for_each(|key| queue.add(key, secs(0)));
    take(&mut queue, 0);
    take(&mut queue, 0);
    queue.add("a", secs(0));
    queue.close();
    queue.add("d", secs(1));
    assert_eq!((take(&mut queue, 1), queue.len()), (None, 2));
    queue.done("a", Requeue::Backoff, secs(2));
    assert_eq!((take(&mut queue, 99), queue.next_wake()), (None, None));
    queue.open();
    ["a", "b"].iter().for_each(|key| queue.add(key, secs(100)));
    assert_eq!(
        take(&mut queue, 100).as_deref(),
        Some("a"),
        "b is worked on still"
    );
    queue.done("a", Requeue::Backoff, secs(100));
    assert_eq!(queue.next_wake(), Some(secs(102)), "the second failure");
    queue.done("b", Requeue::AwaitChange, secs(100));
    assert_eq!(take(&mut queue, 100).as_deref(), Some("b"));
}

#[test]
fn events_tell_how_long_keys_waited_and_were_worked_on() {
    let (mut queue, events) = queue(1);
    queue.add("a", secs(1));
    queue.add("b", secs(1));
    take(&mut queue, 3);
    assert_eq!(queue.unfinished(secs(5)).collect::<Vec<_>>(), [secs(2)]);
    queue.done("a", Requeue::Backoff, secs(7));
    queue.forget("b");
    // Due at 8, but nobody asked before 9.
    take(&mut queue, 9);
    queue.done("a", Requeue::AwaitChange, secs(9));
    use QueueEvent::{Add, Done, Forget, Get, Retry};
    let expected = [
        Add,
        Add,
        Get(secs(2)),
        Done(secs(4)),
        Retry,
        Forget,
        Add,
        Get(secs(1)),
        Done(secs(0)),
    ];
    assert_eq!(*events.lock(), expected);
}

/// What may happen to a queue of five keys.
#[derive(Clone, Debug)]
enum Action {
    Add(u8),
    Forget(u8),
    Take,
    Done(u8, Requeue),
    Close,
    Open,
    Pass(u64),
}

fn action() -> impl Strategy<Value = Action> {
    let requeue = prop_oneof![
        Just(Requeue::AwaitChange),
        Just(Requeue::Backoff),
        (0..5_u64).prop_map(|n| Requeue::After(secs(n))),
    ];
    prop_oneof![
        5 => (0..5_u8).prop_map(Action::Add),
        1 => (0..5_u8).prop_map(Action::Forget),
        5 => Just(Action::Take),
        5 => (0..5_u8, requeue).prop_map(|(key, requeue)| Action::Done(key, requeue)),
        1 => Just(Action::Close),
        1 => Just(Action::Open),
        3 => (0..4_u64).prop_map(Action::Pass),
    ]
}

proptest! {
    /// Against a model that knows only which keys are owed a worker and which have one.
    #[test]
    fn no_key_is_lost_nor_handed_out_twice(actions in prop::collection::vec(action(), 0..200)) {
        let (mut queue, events) = queue(2);
        let mut now = secs(0);
        let mut open = true;
        // Whether it was added since it was last handed out.
        let mut owed = BTreeMap::<String, bool>::new();
        let mut running = Vec::<String>::new();
        for action in actions {
            match action {
                Action::Add(key) => {
                    queue.add(&key.to_string(), now);
                    owed.insert(key.to_string(), open);
                }
                Action::Forget(key) => {
                    queue.forget(&key.to_string());
                    owed.remove(&key.to_string());
                }
                Action::Take => {
                    let waits = owed.iter().any(|(key, owed)| *owed && !running.contains(key));
                    match queue.take(now) {
                        Some(key) => {
                            prop_assert!(open && running.len() < 2 && !running.contains(&key.to_string()));
                            owed.insert(key.to_string(), false);
                            running.push(key.to_string());
                        }
                        None => prop_assert!(!waits || running.len() == 2, "{owed:?} {running:?}"),
                    }
                }
                Action::Done(key, requeue) => {
                    queue.done(&key.to_string(), requeue, now);
                    running.retain(|running| *running != key.to_string());
                }
                Action::Close => {
                    queue.close();
                    open = false;
                    owed.clear();
                }
                Action::Open => {
                    queue.open();
                    open = true;
                }
                Action::Pass(n) => now += secs(n),
            }
            let (mut depth, mut processing) = (0_usize, 0_usize);
            for event in &*events.lock() {
                match event {
                    QueueEvent::Add => depth += 1,
                    QueueEvent::Get(_) => (depth, processing) = (depth - 1, processing + 1),
                    QueueEvent::Done(_) => processing -= 1,
                    QueueEvent::Forget => depth -= 1,
                    QueueEvent::Retry => {}
                }
            }
            prop_assert_eq!(processing, running.len());
            prop_assert_eq!(queue.unfinished(now).count(), running.len());
            prop_assert!(open || depth == 0);
        }
        for key in 0..5 {
            queue.done(&key.to_string(), Requeue::AwaitChange, now);
            queue.forget(&key.to_string());
        }
        prop_assert!(queue.is_empty());
    }
}
