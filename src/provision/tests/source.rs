//! Where the content of a claim is to come from.

use super::{
    super::refusal::Refusal,
    decide::{snapshot, source, tell},
    *,
};
use crate::cluster::source::{NoSource, Source, SourceKind};

#[test]
fn content_that_we_cannot_make_is_refused_and_what_a_populator_makes_is_left_to_it() {
    let clone = Source {
        kind: SourceKind::Claim,
        ..snapshot()
    };
    let rows = [
        ("VolumeSnapshot", Refusal::Source(snapshot())),
        ("PersistentVolumeClaim", Refusal::Source(clone)),
        ("MyPopulator", Refusal::NoSource(NoSource::Populator)),
    ];
    for (kind, expected) in rows {
        let mut world = world();
        world.claim.data_source = Some(source(kind));
        assert_eq!(world.decide(), tell(expected), "{kind}");
    }
}
