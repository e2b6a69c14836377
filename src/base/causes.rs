//! Pure. An error and what caused it, in one line.

use std::error::Error;

/// The whole chain of causes: the outermost text of a lost connection says next to nothing. What a text repeats of its
/// cause stands there once.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let next = inner.to_string();
        if !text.contains(&next) {
            text = format!("{text}: {next}");
        }
        cause = inner.source();
    }
    text
}
