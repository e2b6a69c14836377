//! Volumes of ours that have no CSI source of this driver.

use super::*;

#[test]
fn b3_a_volume_that_we_cannot_delete_is_never_held_by_us() {
    // As above: neither, deleting, protected, protected and deleting.
    const NOTHING: [&str; 4] = ["-"; 4];
    const KEPT: [&str; 4] = ["-", "-", "unprotect", "unprotect"];
    let rows = [
        ("Delete", "Available", NOTHING),
        ("Delete", "Bound", NOTHING),
        ("Delete", "Released", ["tell", "-", "tell", "tell"]),
        ("Delete", "Failed", NOTHING),
        ("Retain", "Bound", KEPT),
        ("Retain", "Released", KEPT),
    ];
    let others = || CsiSource {
        driver: "other".into(),
        handle: "vol-1".into(),
    };
    for (source, csi) in [("in-tree", None), ("another driver", Some(others()))] {
        for (policy, phase, expected) in &rows {
            for (case, expected) in expected.iter().enumerate() {
                let mut world = world();
                world.volume.csi.clone_from(&csi);
                world.volume.reclaim_policy = (*policy).into();
                world.volume.phase = (*phase).into();
                world.volume.deleting = case & 1 != 0;
                if case & 2 == 0 {
                    world.volume.finalizers.pop();
                }
                let decision = match *expected {
                    "tell" => Decision::Tell(Refusal::OtherSource),
                    "unprotect" => Decision::Unprotect,
                    _ => Decision::Leave,
                };
                let row = format!("{source} {policy} {phase} {case}");
                assert_eq!(world.decide(), decision, "{row}");
                assert_eq!(
                    concerns(&world.volume, DRIVER),
                    decision != Decision::Leave,
                    "{row}"
                );
            }
        }
    }
}
