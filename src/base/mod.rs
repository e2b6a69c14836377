//! Small pure values.
