//! Pure. The name of the lease and our identity in the election.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::Value;

/// The name of the lease for a driver: upstream's, but in lower case.
///
/// Upstream turns what is no letter, digit or dash into a dash and puts an `X` after a dash at the end. It keeps
/// capitals, with which the API server refuses the object for ever; names that work there are the same here.
pub fn lease_name(driver: &str) -> String {
    let mut name = sanitised(driver).to_ascii_lowercase();
    if name.ends_with('-') {
        name.push('x');
    }
    name
}

fn sanitised(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .collect()
}

/// Our identity in the election: the hostname and the UID of our pod.
///
/// The UID is read from the payload of the service-account token. It survives a restart of the container, so that the
/// same pod leads again at once, and it differs between two replicas on one host's network, which share the hostname.
/// Without such a token `nonce` tells replicas apart.
pub fn identity(hostname: &str, token: Option<&str>, nonce: u64) -> String {
    let host = sanitised(hostname);
    match token.and_then(pod_uid) {
        Some(uid) => format!("{host}_{uid}"),
        None => format!("{host}_{nonce:016x}"),
    }
}

/// `kubernetes.io`.pod.uid of a bound token. The signature is not checked: the token is our own file, and nothing but a
/// name is made of it.
fn pod_uid(token: &str) -> Option<String> {
    let payload = token.trim().split('.').nth(1)?;
    let payload = URL_SAFE_NO_PAD.decode(payload.trim_end_matches('=')).ok()?;
    let payload: Value = serde_json::from_slice(&payload).ok()?;
    let uid = payload.pointer("/kubernetes.io/pod/uid")?.as_str()?;
    // A UID is 36 letters, digits and dashes; anything else would end up in logs and in the lease.
    let fits = (1..=64).contains(&uid.len()) && uid.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    fits.then(|| uid.to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::{prop_assert, prop_assert_eq, proptest};

    use super::*;

    fn token(payload: &str) -> String {
        format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(payload))
    }

    #[test]
    fn lease_names_are_upstreams_in_lower_case() {
        let rows = [
            ("lab.csi.example.com", "lab-csi-example-com"),
            ("a/b_c", "a-b-c"),
            ("Lab.CSI", "lab-csi"),
            ("trailing.", "trailing-x"),
            ("é.x", "--x"),
        ];
        for (driver, wanted) in rows {
            assert_eq!(lease_name(driver), wanted, "D-57: {driver}");
        }
    }

    #[test]
    fn identity_is_the_pod_where_the_token_tells_it_else_random() {
        let uid = "0f6ec0a3-35a3-4b1f-9a1c-6a3b8e1c0001";
        let bound = token(&format!(
            r#"{{"kubernetes.io":{{"pod":{{"name":"p","uid":"{uid}"}}}},"sub":"ü"}}"#
        ));
        let random = "node-1_000000000000002a".to_owned();
        let rows = [
            ("bound token", Some(bound.clone()), format!("node-1_{uid}")),
            (
                "with a newline",
                Some(format!("{bound}\n")),
                format!("node-1_{uid}"),
            ),
            ("no token", None, random.clone()),
            ("token without pod", Some(token("{}")), random.clone()),
            ("no JSON", Some(token("x")), random.clone()),
            ("no token at all", Some("secret".into()), random.clone()),
            ("empty", Some(String::new()), random.clone()),
            ("bad base64", Some("a.!!.c".into()), random.clone()),
            (
                "strange uid",
                Some(token(r#"{"kubernetes.io":{"pod":{"uid":"a\nb"}}}"#)),
                random.clone(),
            ),
            (
                "uid no string",
                Some(token(r#"{"kubernetes.io":{"pod":{"uid":7}}}"#)),
                random,
            ),
        ];
        for (name, token, wanted) in rows {
            assert_eq!(identity("node.1", token.as_deref(), 42), wanted, "D-56: {name}");
        }
    }

    proptest! {
        #[test]
        fn every_driver_name_that_csi_allows_gives_a_valid_lease(
            driver in "[a-zA-Z0-9]([a-zA-Z0-9.-]{0,61}[a-zA-Z0-9])?"
        ) {
            prop_assert_eq!(crate::base::names::check_subdomain(&lease_name(&driver)), Ok(()));
        }

        #[test]
        fn an_odd_driver_name_gives_a_lease_that_does_not_end_in_a_dash(driver in ".{1,40}") {
            prop_assert!(!lease_name(&driver).ends_with('-'));
        }
    }
}
