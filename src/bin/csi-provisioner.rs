//! The door of `csi-provisioner`.

use std::process::ExitCode;

fn main() -> ExitCode {
    volwright::app::provisioner::main()
}
