//! The `csi-provisioner` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    volwright::app::provisioner::main()
}
