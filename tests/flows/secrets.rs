//! No byte of a Secret in the log or an event, however much is logged and whatever stands between us and the API
//! server.

use sandbox::{Fault, Harm};
use serde_json::json;

use crate::sidecar::{CLAIMS, HOME, Look, SECRETS, Sidecar, empty_world};

const WORD: &str = "hunter2-s3cr3t";
/// In base64, as the API server sends it.
const ENCODED: &str = "aHVudGVyMi1zM2NyM3Q=";

#[tokio::test(start_paused = true)]
async fn c2_nothing_of_a_secret_is_logged_at_any_verbosity() {
    let world = empty_world()
        .rbac(SECRETS, HOME)
        .class_with("locked", |class| {
            class["parameters"] = json!({
                "csi.storage.k8s.io/provisioner-secret-name": "login",
                "csi.storage.k8s.io/provisioner-secret-namespace": "default",
            });
        })
        .secret("default", "login", &[("password", WORD)]);
    let answers = [
        // No base64, no map, no JSON, an object of another kind, and errors that quote it.
        (
            200,
            format!("{{\"kind\":\"Secret\",\"apiVersion\":\"v1\",\"data\":{{\"password\":\"{WORD}\"}}}}"),
        ),
        (
            200,
            format!("{{\"kind\":\"Secret\",\"apiVersion\":\"v1\",\"data\":\"{ENCODED}\"}}"),
        ),
        (200, format!("password: {WORD}")),
        (
            200,
            format!("{{\"kind\":\"{WORD}\",\"apiVersion\":\"v1\",\"data\":{{\"password\":\"{ENCODED}\"}}}}"),
        ),
        (500, format!("cannot send {{\"password\":\"{WORD}\"}}")),
        (
            404,
            format!("{{\"kind\":\"Secret\",\"apiVersion\":\"v1\",\"data\":{{\"password\":\"{ENCODED}\"}}}}"),
        ),
    ];
    for (code, body) in &answers {
        let harm = Harm::Body(*code, body.clone());
        world.api.harm(Fault::new(harm).on("get", "secrets").times(1));
    }
    let sidecar = Sidecar::with(&world, &["-v=10"]);
    world.add_claim("default", "data", "1Gi", |_| {});
    world.becomes_bound("data").await;
    world.api.delete(CLAIMS, "default", "data");
    world.becomes_clean().await;
    let calls = world.driver.calls();
    let call = calls.iter().find(|call| call.method == "CreateVolume");
    assert_eq!(
        call.expect("the call").secrets["password"],
        WORD,
        "the last answer is good"
    );
    assert!(sidecar.logged(&["TRACE"]), "the log has everything");
    let told = world.api.list("events");
    let told = told.iter().map(ToString::to_string);
    for line in sidecar.log().into_iter().chain(told) {
        assert!(!line.contains(WORD) && !line.contains(ENCODED), "{line}");
    }
    sidecar.end(&world).await;
}
