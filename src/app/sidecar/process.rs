//! A sidecar as a process: command line, log, runtime, exit code.

use std::{fmt::Display, process::ExitCode};

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::{
    app::sidecar::flags::Exit,
    telemetry::log::{self, LogSettings},
};

/// Why a sidecar ended by itself.
pub(crate) trait ExitStatus: Display + From<std::io::Error> {
    /// Upstream's exit code for it.
    fn code(&self) -> u8;
}

/// Which runtime carries the work.
#[derive(Clone, Copy)]
pub(crate) enum Threads {
    /// The main thread does everything: such a sidecar waits nearly always.
    Main,
    /// Two workers, whatever the node has: the work is waiting, and each thread costs memory.
    Two,
}

/// Runs `work` with the settings, or says why there are none. `told` finds among them those of the log, and what the
/// operator should know of the command line.
pub(crate) fn run<S, F: ExitStatus>(
    name: &'static str,
    threads: Threads,
    settings: Result<S, Exit>,
    told: impl Fn(&S) -> (&LogSettings, &[String]),
    work: impl AsyncFnOnce(S) -> Result<(), F>,
) -> ExitCode {
    let settings = match settings {
        Ok(settings) => settings,
        Err(exit) => {
            print!("{}", exit.stdout);
            eprint!("{}", exit.stderr);
            return exit.code.into();
        }
    };
    let (logging, warnings) = told(&settings);
    log::init(logging.clone());
    tracing::info!(version = env!("CARGO_PKG_VERSION"), "{name}");
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    let mut runtime = match threads {
        Threads::Main => tokio::runtime::Builder::new_current_thread(),
        Threads::Two => tokio::runtime::Builder::new_multi_thread(),
    };
    // Without effect on a runtime of one thread.
    let runtime = runtime.worker_threads(2).enable_all().build();
    let ended = runtime
        .map_err(F::from)
        .and_then(|runtime| runtime.block_on(work(settings)));
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(fatal) => {
            tracing::error!("{fatal}");
            fatal.code().into()
        }
    }
}

/// Waits for a task to end that should not. The HTTP server ends at a stop, which is well.
pub(crate) async fn unexpected_end(tasks: &mut JoinSet<()>, stop: &CancellationToken) {
    while tasks.join_next().await.is_some() {
        if !stop.is_cancelled() {
            return;
        }
    }
    std::future::pending().await
}
