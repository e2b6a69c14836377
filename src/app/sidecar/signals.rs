//! SIGTERM and SIGINT: the first signal asks to stop, the second one stops.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Cancelled by the first signal. The second one ends the process with code 1, as upstream does.
///
/// # Errors
/// The operating system refuses to register a signal handler.
pub(crate) fn stop() -> std::io::Result<CancellationToken> {
    let (mut term, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let stop = CancellationToken::new();
    let stopping = stop.clone();
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = term.recv() => {}
                _ = interrupt.recv() => {}
            }
            if stopping.is_cancelled() {
                tracing::error!("second signal: stopping at once, whatever is under way");
                #[allow(clippy::disallowed_methods, reason = "the second signal asks for just that")]
                std::process::exit(1);
            }
            tracing::info!("stopping: no new work, running calls may finish");
            stopping.cancel();
        }
    });
    Ok(stop)
}
