//! Pure. The finalizers of an object as it was read.

use serde_json::{Value, json};

/// Whether this finalizer is on it.
pub fn has(object: &Value, finalizer: &str) -> bool {
    let finalizers = object["metadata"]["finalizers"].as_array();
    finalizers.is_some_and(|finalizers| finalizers.iter().any(|it| it == finalizer))
}

/// Puts a finalizer on it, behind those that it has.
pub fn add(object: &mut Value, finalizer: &str) {
    let finalizers = &mut object["metadata"]["finalizers"];
    match finalizers.as_array_mut() {
        Some(finalizers) => finalizers.push(finalizer.into()),
        None => *finalizers = json!([finalizer]),
    }
}

/// Takes a finalizer off it, wherever it stands. The others stay in their order.
pub fn remove(object: &mut Value, finalizer: &str) {
    if let Some(finalizers) = object["metadata"]["finalizers"].as_array_mut() {
        finalizers.retain(|it| it != finalizer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ours_goes_on_and_comes_off_and_the_others_stay() {
        let rows = [
            (json!(null), false, json!(["ours"]), json!(null)),
            (json!([]), false, json!(["ours"]), json!([])),
            (
                json!(["a", "b"]),
                false,
                json!(["a", "b", "ours"]),
                json!(["a", "b"]),
            ),
            (
                json!(["a", "ours", "b"]),
                true,
                json!(["a", "ours", "b", "ours"]),
                json!(["a", "b"]),
            ),
            (
                json!(["ours", "ours"]),
                true,
                json!(["ours", "ours", "ours"]),
                json!([]),
            ),
            (
                json!(["ours.not"]),
                false,
                json!(["ours.not", "ours"]),
                json!(["ours.not"]),
            ),
        ];
        for (finalizers, is_on, added, removed) in rows {
            let object = json!({"metadata": {"finalizers": finalizers, "labels": {"kept": "yes"}}});
            let with = |finalizers: Value| json!({"metadata": {"finalizers": finalizers, "labels": {"kept": "yes"}}});
            assert_eq!(has(&object, "ours"), is_on, "{finalizers}");
            let (mut one, mut other) = (object.clone(), object);
            add(&mut one, "ours");
            remove(&mut other, "ours");
            assert_eq!((one, other), (with(added), with(removed)), "{finalizers}");
        }
    }
}
