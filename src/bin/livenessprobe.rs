//! The `livenessprobe` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    volwright::app::liveness::main()
}
