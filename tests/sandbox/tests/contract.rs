//! The contract suite against the sandbox, and that it covers every route.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
};

use sandbox::{ADMIN, Api, KINDS, Verb, contract};

const NOBODY_IN_PARTICULAR: &str = "
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: stranger}
roleRef: {kind: ClusterRole, name: absent, apiGroup: rbac.authorization.k8s.io}
subjects: [{kind: ServiceAccount, name: stranger, namespace: default}]
";
const STRANGER: &str = "system:serviceaccount:default:stranger";

#[tokio::test(start_paused = true)]
async fn the_sandbox_keeps_the_contract_and_serves_no_route_without_a_case() {
    let api = Api::new();
    api.load_rbac(NOBODY_IN_PARTICULAR, "default").unwrap();
    // The last case forgets history; what comes after it only cleans up.
    let asked = Arc::new(Mutex::new(Vec::new()));
    let custom = || KINDS.iter().filter(|kind| kind.custom);
    custom().for_each(|kind| api.hide(kind.plural));
    let bare = api.clone();
    let (forgetful, before) = (api.clone(), asked.clone());
    let target = contract::Target {
        admin: api.client(ADMIN),
        stranger: api.client(STRANGER),
        stranger_name: STRANGER.into(),
        nobody: api.client("nobody"),
        expire: Some(Box::new(move || {
            *before.lock().unwrap() = forgetful.requests();
            forgetful.expire();
            Box::pin(async {})
        })),
        install: Some(Box::new(move || {
            custom().for_each(|kind| bare.reveal(kind.plural));
            Box::pin(async {})
        })),
        patient: true,
    };
    let (ran, failed) = contract::run(target).await;
    let failed: Vec<_> = failed
        .iter()
        .map(|(name, why)| format!("{name}:\n    {why}"))
        .collect();
    assert!(
        failed.is_empty(),
        "{} of {ran} cases failed:\n{}",
        failed.len(),
        failed.join("\n")
    );

    let covered: BTreeSet<_> = std::mem::take(&mut *asked.lock().unwrap())
        .into_iter()
        .filter(|request| request.code / 100 == 2)
        .map(|request| (request.resource, request.verb))
        .collect();
    let mut uncovered = Vec::new();
    for kind in KINDS {
        for verb in Verb::ALL {
            if kind.serves(verb, false) && !covered.contains(&(kind.plural.to_owned(), verb)) {
                uncovered.push(format!("{verb:?} {}", kind.plural));
            }
            let status = format!("{}/status", kind.plural);
            if kind.serves(verb, true) && !covered.contains(&(status.clone(), verb)) {
                uncovered.push(format!("{verb:?} {status}"));
            }
        }
    }
    assert!(uncovered.is_empty(), "routes without a case: {uncovered:?}");
}
