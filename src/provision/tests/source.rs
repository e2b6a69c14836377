//! Where the content of a claim is to come from.

use super::{
    super::refusal::Refusal,
    decide::{source, tell},
    *,
};

#[test]
fn content_that_we_cannot_make_is_refused_and_what_a_populator_makes_is_left_to_it() {
    let snapshot = || tell(Refusal::Source("VolumeSnapshot origin".into()));
    let clone = || tell(Refusal::Source("PersistentVolumeClaim origin".into()));
    let populator = || tell(Refusal::Populator);
    // The API group is not even read: the kind alone decides, as upstream reads it.
    let rows = [
        ("snapshot", "VolumeSnapshot", snapshot()),
        ("claim", "PersistentVolumeClaim", clone()),
        ("anything else", "MyPopulator", populator()),
        (
            "kinds are told apart by case",
            "persistentvolumeclaim",
            populator(),
        ),
    ];
    for (name, kind, expected) in rows {
        for source_is_ref in [false, true] {
            let mut world = world();
            let source = Some(source(kind));
            if source_is_ref {
                world.claim.data_source_ref = source;
            } else {
                world.claim.data_source = source;
            }
            assert_eq!(
                world.decide(),
                expected,
                "{name}, in dataSourceRef: {source_is_ref}"
            );
        }
    }
    let mut both = world();
    both.claim.data_source = Some(source("PersistentVolumeClaim"));
    both.claim.data_source_ref = Some(source("MyPopulator"));
    assert_eq!(both.decide(), clone(), "dataSource wins");
}
