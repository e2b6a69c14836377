//! Pure. An error and what caused it, in one line.

use std::error::Error;

/// The whole chain of causes: the outermost text of a lost connection says next to nothing. What a text repeats of its
/// cause is not said twice.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let said = inner.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        cause = inner.source();
    }
    text
}
