//! The door of `csi-provisioner`.

fn main() {}
