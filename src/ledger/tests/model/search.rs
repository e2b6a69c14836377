//! Breadth first through all states, and from each of them on to rest.
//!
//! Our own, since stateright costs 42 s to compile on two cores, brings a web server, and does not tell a circle from the
//! way to rest.

use std::{
    collections::{HashMap, HashSet},
    hash::{Hash as _, Hasher},
};

use super::{
    steps::Next,
    world::{Rules, World},
};

/// Longer ways to rest are circles.
const LONGEST: usize = 200;

/// What a search came to.
pub(super) struct Searched {
    pub(super) states: usize,
    pub(super) steps: usize,
    pub(super) depth: usize,
    pub(super) finished: bool,
    /// What is wrong, and how it comes about.
    pub(super) wrong: Option<(&'static str, Vec<String>)>,
}

/// Quick even without optimization; 64 bits are enough for some millions of states.
struct Mixer(u64);

impl Hasher for Mixer {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u8(&mut self, value: u8) {
        self.write_u64(u64::from(value));
    }

    fn write_isize(&mut self, value: isize) {
        self.write_u64(value as u64);
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = (self.0.rotate_left(23) ^ value).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.0 ^= self.0 >> 29;
    }
}

fn fingerprint(world: &World) -> u64 {
    let mut hasher = Mixer(1);
    world.hash(&mut hasher);
    hasher.finish()
}

fn told(next: &Next) -> String {
    match next.who {
        Some(who) => format!("{} {}", ["A", "B"][who], next.what),
        None => next.what.to_owned(),
    }
}

/// The way to rest when nothing goes wrong any more; an error is what is wrong there.
fn calm(mut world: World, rules: Rules, known: &mut HashSet<u64>) -> Result<(), (&'static str, Vec<String>)> {
    let mut way = Vec::new();
    let mut passed = Vec::new();
    loop {
        let print = fingerprint(&world);
        if known.contains(&print) {
            break;
        }
        passed.push(print);
        if let Some(wrong) = world.always() {
            return Err((wrong, way));
        }
        let next = world
            .next(rules, true)
            .into_iter()
            .filter(|next| next.calm.is_some());
        let Some(next) = next.min_by_key(|next| next.calm) else {
            match world.at_rest(rules) {
                Some(wrong) => return Err((wrong, way)),
                None => break,
            }
        };
        way.push(told(&next));
        if way.len() > LONGEST {
            way.truncate(40);
            return Err(("it never comes to rest", way));
        }
        world = next.world;
    }
    known.extend(passed);
    Ok(())
}

/// Goes through all states that can be reached, up to so many steps.
pub(super) fn search(rules: Rules, longest: usize) -> Searched {
    let begin = World::new(rules);
    // Each state with the one that it was first reached from.
    let mut parents = HashMap::from([(fingerprint(&begin), None)]);
    let mut at_rest = HashSet::new();
    let (mut level, mut steps, mut depth) = (vec![begin], 0, 0);
    let mut wrong = None;
    'search: while !level.is_empty() && depth < longest {
        let mut below = Vec::new();
        for world in &level {
            if let Some(what) = world.always() {
                wrong = Some((*world, what, Vec::new()));
                break 'search;
            }
            if let Err((what, way)) = calm(*world, rules, &mut at_rest) {
                wrong = Some((*world, what, way));
                break 'search;
            }
            for next in world.next(rules, false) {
                steps += 1;
                let print = fingerprint(&next.world);
                if let std::collections::hash_map::Entry::Vacant(vacant) = parents.entry(print) {
                    vacant.insert(Some((fingerprint(world), next.what, next.who)));
                    below.push(next.world);
                }
            }
        }
        depth += 1;
        level = below;
    }
    let wrong = wrong.map(|(world, what, way)| {
        let mut trace = Vec::new();
        let mut at = fingerprint(&world);
        while let Some(Some((parent, what, who))) = parents.get(&at) {
            trace.push(match who {
                Some(who) => format!("{} {what}", ["A", "B"][*who]),
                None => (*what).to_owned(),
            });
            at = *parent;
        }
        trace.reverse();
        if !way.is_empty() {
            trace.push("-- from here on nothing goes wrong --".to_owned());
            trace.extend(way);
        }
        trace.push(format!("{what}: {world:?}"));
        (what, trace)
    });
    Searched {
        states: parents.len(),
        steps,
        depth,
        finished: level.is_empty(),
        wrong,
    }
}
