//! SIGTERM and SIGINT: the first asks to stop, the second stops.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Cancelled by the first signal. The second one ends the process with code 1, as upstream does.
///
/// # Errors
/// When the signals cannot be heard.
pub(super) fn stop() -> std::io::Result<CancellationToken> {
    let (mut term, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let stop = CancellationToken::new();
    let asked = stop.clone();
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = term.recv() => {}
                _ = interrupt.recv() => {}
            }
            if asked.is_cancelled() {
                tracing::error!("second signal: stopping at once, whatever is under way");
                #[allow(clippy::disallowed_methods, reason = "the second signal asks for just that")]
                std::process::exit(1);
            }
            tracing::info!("stopping: no new work, running calls may finish");
            asked.cancel();
        }
    });
    Ok(stop)
}
