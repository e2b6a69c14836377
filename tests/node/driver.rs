//! The driver beside the sidecar: in this process, or as one of its own that can be killed.

use std::{fs, path::PathBuf, process::Stdio};

use sandbox::Driver;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    task::JoinHandle,
};

use crate::process::{Folder, flag};

pub(crate) const NAME: &str = "disks.example.com";

/// A driver and its socket.
pub(crate) struct Place {
    pub(crate) folder: Folder,
    pub(crate) driver: Driver,
    listening: Option<JoinHandle<()>>,
}

impl Place {
    /// Nobody listens yet.
    pub(crate) fn empty() -> Self {
        Self {
            folder: Folder::new(),
            driver: Driver::new(NAME),
            listening: None,
        }
    }

    pub(crate) fn new() -> Self {
        let mut place = Self::empty();
        place.listen();
        place
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.at("csi.sock").into()
    }

    /// The flag that leads to it.
    pub(crate) fn flag(&self) -> String {
        flag("csi-address", &self.folder.at("csi.sock"))
    }

    pub(crate) fn listen(&mut self) {
        let listening = self.driver.listen(&self.socket());
        self.listening = Some(listening.expect("a socket"));
    }

    /// The socket's file goes away. Who listens does not notice, and who is connected stays so.
    pub(crate) fn remove_socket(&self) {
        fs::remove_file(self.socket()).expect("a file");
    }

    /// Nobody listens any more; the socket's file stays.
    pub(crate) async fn close(&mut self) {
        let listening = self.listening.take().expect("it listens");
        listening.abort();
        let _ = listening.await;
    }
}

/// Where a driver in a process of its own listens.
const SOCKET: &str = "VOLWRIGHT_DRIVER_SOCKET";
const LISTENS: &str = "the driver listens";

/// No test: this binary once more, as the driver. See [`as_process`].
#[tokio::test]
async fn serves_as_a_driver_where_it_is_asked_to() {
    let Some(socket) = std::env::var_os(SOCKET) else {
        return;
    };
    let listening = Driver::new(NAME).listen(&PathBuf::from(socket));
    // Alone in its line, whatever the test runner has printed.
    println!("\n{LISTENS}");
    listening
        .expect("a socket")
        .await
        .expect("its end comes by a signal");
}

/// The driver as a process, once it listens.
pub(crate) async fn as_process(place: &Place) -> Child {
    let mut child = Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "--"])
        .arg(std::env::current_exe().expect("this binary"))
        .args(["--exact", "--nocapture"])
        .arg("driver::serves_as_a_driver_where_it_is_asked_to")
        .env(SOCKET, place.socket())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("this binary once more");
    let mut lines = BufReader::new(child.stdout.take().expect("its stdout")).lines();
    while lines.next_line().await.expect("text").expect("no end before") != LISTENS {}
    child
}
