//! The `csi-node-driver-registrar` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    volwright::app::registrar::main()
}
