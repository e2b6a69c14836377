//! Small pure values that every room may use: what Kubernetes and Go write as text, and the names we derive.

pub mod api_error;
pub mod argv;
pub mod backoff;
pub mod causes;
pub mod duration;
pub mod literal;
pub mod names;
pub mod quantity;
pub mod reminder;
pub mod secrets;
