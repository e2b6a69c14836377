//! Who is connected to an HTTP listener, and who has to go when there are too many.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{
    sync::Notify,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

/// How many clients are served at once. Two listeners together stay below the 1,024 files that a process may have open
/// where nobody has raised that, or the driver could not be asked for want of one more.
pub(super) const CONNECTIONS: usize = 480;
/// How long a client may be silent, be it new or answered, before it has to go if there are too many. Short, so that
/// those in the queue get their turn within a kubelet's second.
const SILENCE: Duration = Duration::from_millis(250);

/// The clients of one listener. When there are too many, the oldest one that is silent gives way: who only holds
/// connections open cannot keep kubelet out.
#[derive(Default)]
pub(super) struct Clients {
    /// By number, so in the order in which they came.
    connected: Mutex<BTreeMap<u64, Presence>>,
    /// Notified when one has gone.
    changed: Notify,
}

struct Presence {
    /// Since when it has asked nothing; none while it is being answered.
    silent: Option<Instant>,
    leave: CancellationToken,
}

impl Clients {
    /// Waits until there is room for one more.
    pub(super) async fn room(&self) {
        loop {
            {
                let connected = self.connected.lock();
                if connected.len() < CONNECTIONS {
                    return;
                }
                let has_to_go =
                    |presence: &&Presence| presence.silent.is_some_and(|at| at.elapsed() >= SILENCE);
                if let Some(oldest) = connected.values().find(has_to_go) {
                    oldest.leave.cancel();
                }
            }
            // That one has gone, another one has, or one has been silent for long enough.
            let _ = timeout(SILENCE, self.changed.notified()).await;
        }
    }
}

/// One of them, as long as its connection is open.
pub(super) struct Client {
    among: Arc<Clients>,
    number: u64,
    pub(super) leave: CancellationToken,
}

impl Client {
    pub(super) fn enter(among: &Arc<Clients>) -> Self {
        let mut connected = among.connected.lock();
        let number = connected.last_key_value().map_or(0, |(last, _)| last + 1);
        let (silent, leave) = (Some(Instant::now()), CancellationToken::new());
        let presence = Presence {
            silent,
            leave: leave.clone(),
        };
        connected.insert(number, presence);
        Self {
            among: among.clone(),
            number,
            leave,
        }
    }

    pub(super) fn asks(&self, asks: bool) {
        if let Some(presence) = self.among.connected.lock().get_mut(&self.number) {
            presence.silent = (!asks).then(Instant::now);
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.among.connected.lock().remove(&self.number);
        self.among.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::sleep;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_oldest_silent_client_gives_way_to_a_new_one_and_none_that_asks() {
        let clients = Arc::new(Clients::default());
        let mut connected: Vec<_> = (0..CONNECTIONS).map(|_| Client::enter(&clients)).collect();
        for first in &connected[..2] {
            first.asks(true);
        }
        connected[1].asks(false);
        let has_room = || async { timeout(SILENCE / 10, clients.room()).await.is_ok() };
        assert!(!has_room().await, "all have come just now");
        assert!(connected.iter().all(|client| !client.leave.is_cancelled()));

        sleep(SILENCE).await;
        connected[1].asks(true);
        assert!(
            !has_room().await,
            "the one that is asked to leave has not gone yet"
        );
        let left: Vec<_> = (0..CONNECTIONS)
            .filter(|number| connected[*number].leave.is_cancelled())
            .collect();
        assert_eq!(left, [2]);
        drop(connected.remove(2));
        assert!(has_room().await);
        connected.push(Client::enter(&clients));

        for client in &connected {
            client.asks(true);
        }
        sleep(SILENCE * 100).await;
        assert!(!has_room().await, "all ask");
        connected[7].asks(false);
        let waited = Instant::now();
        let gone = async {
            connected[7].leave.cancelled().await;
            drop(connected.remove(7));
        };
        tokio::join!(clients.room(), gone);
        let waited = waited.elapsed();
        assert!(SILENCE <= waited && waited <= SILENCE * 2, "{waited:?}");
    }
}
