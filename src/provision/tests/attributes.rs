//! What a VolumeAttributesClass adds to the request and the object, upstream's cases among it.

use serde_json::{Value, json};

use super::{
    super::{attributes::mutable_parameters, decide::concerns, outcome::outcome_of, refusal::Refusal},
    cases::{answer, lab},
    outcome::made,
    *,
};
use crate::cluster::objects::AttributesClass;

/// The claim names the class `silver`, which says 1000 IOPS.
fn silver(change: Change) -> World {
    let mut world = lab(|w| w.claim.attributes_class = Some("silver".into()));
    change(&mut world);
    world
}

fn of(driver: &str) -> Option<AttributesClass> {
    Some(AttributesClass {
        driver_name: driver.into(),
        parameters: map(&[("iops", "1000")]),
    })
}

/// The parameters in the request, and the name in the object.
fn asked(world: &World, class: Option<AttributesClass>) -> Result<(Value, Value), Refusal> {
    let mut plan = match world.decide() {
        Decision::Provision(plan) => *plan,
        Decision::Tell(refusal) => return Err(refusal),
        other => panic!("neither a plan nor a refusal: {other:?}"),
    };
    if let Some(name) = plan.attributes_class() {
        plan.request.mutable_parameters = mutable_parameters(name, class, DRIVER)?;
    }
    let sent = plan.request_with(BTreeMap::new()).mutable_parameters;
    let pv = json!(made(outcome_of(&plan, Ok(answer(100)))));
    Ok((json!(sent), pv["spec"]["volumeAttributesClassName"].clone()))
}

#[test]
fn the_class_that_a_claim_names_goes_to_the_driver_and_its_name_onto_the_volume() {
    type Asked = Result<(Value, Value), Refusal>;
    let none = || Ok((json!({}), Value::Null));
    let rows: Vec<(&[&str], Change, Option<AttributesClass>, Asked)> = vec![
        (
            &["ctl.Provision.36", "ctl.ShouldProvision.36"],
            |_| {},
            of(DRIVER),
            Ok((json!({"iops": "1000"}), json!("silver"))),
        ),
        (
            &["ctl.Provision.37", "ctl.ShouldProvision.37"],
            |w| w.policy.attributes_classes = false,
            of(DRIVER),
            none(),
        ),
        (
            &["ctl.Provision.38", "ctl.ShouldProvision.38"],
            |w| w.driver.modify_volume = false,
            of(DRIVER),
            Err(Refusal::CannotModify("silver".into())),
        ),
        (
            &["ctl.Provision.39", "ctl.ShouldProvision.39"],
            |_| {},
            None,
            Err(Refusal::NoAttributesClass("silver".into())),
        ),
        (
            &["ctl.Provision.40", "ctl.ShouldProvision.40"],
            |_| {},
            of("other"),
            Err(Refusal::ForeignAttributesClass {
                name: "silver".into(),
                driver: "other".into(),
            }),
        ),
        (
            &["no name, driver applies none"],
            |w| {
                w.claim.attributes_class = None;
                w.driver.modify_volume = false;
            },
            None,
            none(),
        ),
        (
            &["empty name"],
            |w| w.claim.attributes_class = Some(String::new()),
            None,
            none(),
        ),
        (
            &["a class that says nothing"],
            |_| {},
            of(DRIVER).map(|class| AttributesClass {
                parameters: BTreeMap::new(),
                ..class
            }),
            Ok((json!({}), json!("silver"))),
        ),
    ];
    for (ids, change, class, expected) in rows {
        let world = silver(change);
        assert!(concerns(&world.claim, DRIVER), "{ids:?}");
        assert_eq!(asked(&world, class), expected, "{ids:?}");
    }
}
