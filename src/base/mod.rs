//! Small pure values that every module may use: what Kubernetes and Go write as text, and the names we derive.

pub mod api_error;
pub mod backoff;
pub mod causes;
pub mod duration;
pub mod fnv;
pub mod names;
pub mod parameters;
pub mod quantity;
pub mod reminder;
pub mod secrets;
pub mod segment;
