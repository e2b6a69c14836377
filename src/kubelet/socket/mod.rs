//! The registration socket as a file: made so that only its owner may connect, removed only as long as it is ours.
//!
//! Two registrars of one driver can share a path for a while, when a pod is replaced. The younger one takes over, and
//! the older one, on its way out, must not remove what is no longer its own. So each remembers device and inode, and
//! both look and remove under a lock on the directory. An inode's number is not given to another file while its
//! listener lives.

use std::{
    fmt, fs, io,
    os::{
        fd::OwnedFd,
        unix::{
            fs::{FileTypeExt as _, MetadataExt as _},
            net::UnixListener as StdListener,
        },
    },
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::{
    fs::{FlockOperation, Mode, OFlags, fchmod, flock, open},
    net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with},
};
use tokio::{
    net::{UnixListener, UnixStream},
    time::{Instant, sleep},
};

use super::health::is_absent;

/// Bytes of a socket's path: what `sockaddr_un` has room for.
const LONGEST_PATH: usize = 107;
/// The owner may connect, nobody else.
const MODE: u32 = 0o600;
/// Clients that wait to be accepted.
const BACKLOG: i32 = 128;
/// The lock is held for a few system calls. Who holds it longer has been frozen, and is not waited for.
const LOCK_TIMEOUT: Duration = Duration::from_secs(1);
const LOCK_PAUSE: Duration = Duration::from_millis(5);

/// Why there is no registration socket, and what to do.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "path is the socket's path; the rest is in each text")]
pub enum SocketError {
    #[error("the driver's name {driver:?} cannot name a registration socket: {reason}")]
    Name { driver: String, reason: &'static str },
    #[error(
        "the registration socket {path} has {length} bytes in its path, and {LONGEST_PATH} are allowed: give a shorter \
         --plugin-registration-path, or the driver a shorter name"
    )]
    TooLong { path: String, length: usize },
    #[error(
        "there is no directory {directory} for the registration socket: mount the kubelet's plugins_registry (a hostPath, \
         by default /var/lib/kubelet/plugins_registry) there, or correct --plugin-registration-path"
    )]
    NoDirectory { directory: String },
    #[error(
        "no permission to {action} the registration socket {path}: the registrar must run as root, because the kubelet's \
         directories are root's (runAsUser: 0; on SELinux hosts privileged, too)"
    )]
    Forbidden { path: String, action: Action },
    #[error(
        "cannot {action} the registration socket {path}: the file system is read-only; mount the kubelet's \
         plugins_registry without readOnly"
    )]
    ReadOnly { path: String, action: Action },
    #[error("{path} is {found} and not a socket; it is left alone: remove it, or rename the driver")]
    NotASocket { path: String, found: &'static str },
    #[error(
        "the new registration socket {path} has mode {mode:o} instead of 600: its file system or the umask does not allow that"
    )]
    Mode { path: String, mode: u32 },
    #[error("cannot {action} the registration socket {path}: {source}")]
    Other {
        path: String,
        action: Action,
        source: io::Error,
    },
}

/// What was done to the socket when it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Reading what is there.
    Inspect,
    /// Making it.
    Create,
    /// Removing it, or a stale one.
    Remove,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Inspect => "look at",
            Self::Create => "create",
            Self::Remove => "remove",
        })
    }
}

/// What came of the removal of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removal {
    /// It was ours and is gone.
    Removed,
    /// There was none any more.
    Gone,
    /// Another registrar has put its own there, which stays.
    NotOurs,
}

/// What is at the path of a registration socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SocketFile {
    /// The socket that we listen on.
    Ours,
    /// Nothing, or a socket that nobody listens on.
    Free,
    /// A socket that somebody else listens on.
    Taken,
    /// Something that is no socket, or nobody can tell.
    Unknown,
}

/// A registration socket that listens. Dropping it leaves the file, as a crash does; the next registrar cleans up.
#[derive(Debug)]
pub struct RegistrationSocket {
    path: PathBuf,
    listener: UnixListener,
    identity: (u64, u64),
}

impl RegistrationSocket {
    /// Listens on `<directory>/<driver>-reg.sock`, with mode 0600 from its first moment on and without touching the
    /// umask. A socket that is there is removed, and so is a symlink to one; anything else is left alone.
    ///
    /// # Errors
    /// The name, the path, the directory, or what is already there does not do.
    pub async fn bind(directory: &Path, driver: &str) -> Result<Self, SocketError> {
        let path = path_of(directory, driver)?;
        match fs::metadata(directory) {
            Ok(found) if found.is_dir() => {}
            Err(error) if !is_absent(&error) => return Err(failed(&path, Action::Inspect, error)),
            _ => {
                return Err(SocketError::NoDirectory {
                    directory: directory.display().to_string(),
                });
            }
        }
        let _lock = lock(directory).await;
        clear(&path)?;
        let (listener, identity) = create(&path)?;
        let listener =
            UnixListener::from_std(listener).map_err(|error| failed(&path, Action::Create, error))?;
        Ok(Self {
            path,
            listener,
            identity,
        })
    }

    /// Where the socket is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the file at the path is still the socket that we listen on.
    pub fn is_ours(&self) -> bool {
        self.found().is_ok_and(|found| found == self.identity)
    }

    /// What the file at the path is. Where another registrar is about to make its own, it waits until that is there.
    pub async fn file(&self) -> SocketFile {
        if self.is_ours() {
            return SocketFile::Ours;
        }
        let _lock = self.lock().await;
        match fs::symlink_metadata(&self.path) {
            Ok(found) if (found.dev(), found.ino()) == self.identity => SocketFile::Ours,
            Ok(found) if found.file_type().is_socket() => match UnixStream::connect(&self.path).await {
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => SocketFile::Free,
                _ => SocketFile::Taken,
            },
            Err(error) if is_absent(&error) => SocketFile::Free,
            _ => SocketFile::Unknown,
        }
    }

    /// Removes the file if it is still ours, which tells the kubelet to unregister the driver.
    ///
    /// # Errors
    /// It is ours and cannot be removed, or nobody can tell whose it is.
    pub async fn remove(&self) -> Result<Removal, SocketError> {
        let _lock = self.lock().await;
        match self.found() {
            Ok(found) if found == self.identity => {}
            Ok(_) => return Ok(Removal::NotOurs),
            Err(error) if is_absent(&error) => return Ok(Removal::Gone),
            Err(error) => return Err(failed(&self.path, Action::Inspect, error)),
        }
        match fs::remove_file(&self.path) {
            Ok(()) => Ok(Removal::Removed),
            Err(error) if is_absent(&error) => Ok(Removal::Gone),
            Err(error) => Err(failed(&self.path, Action::Remove, error)),
        }
    }

    pub(super) async fn accept(&self) -> io::Result<UnixStream> {
        Ok(self.listener.accept().await?.0)
    }

    async fn lock(&self) -> Option<OwnedFd> {
        lock(self.path.parent()?).await
    }

    fn found(&self) -> io::Result<(u64, u64)> {
        fs::symlink_metadata(&self.path).map(|found| (found.dev(), found.ino()))
    }
}

fn path_of(directory: &Path, driver: &str) -> Result<PathBuf, SocketError> {
    let reason = match driver {
        "" => Some("it is empty"),
        _ if driver.contains('/') => Some("it contains a slash"),
        _ if driver.contains('\0') => Some("it contains a NUL"),
        _ if driver.starts_with('.') => Some("the kubelet takes no notice of files that begin with a dot"),
        _ => None,
    };
    if let Some(reason) = reason {
        return Err(SocketError::Name {
            driver: driver.to_owned(),
            reason,
        });
    }
    let path = directory.join(format!("{driver}-reg.sock"));
    match path.as_os_str().len() {
        length if length > LONGEST_PATH => Err(SocketError::TooLong {
            path: path.display().to_string(),
            length,
        }),
        _ => Ok(path),
    }
}

/// Makes room at the path. Follows symlinks, as upstream does: one to a socket is removed itself, not what it leads
/// to.
fn clear(path: &Path) -> Result<(), SocketError> {
    let found = match fs::metadata(path) {
        Ok(found) if found.file_type().is_socket() => {
            return match fs::remove_file(path) {
                Err(error) if !is_absent(&error) => Err(failed(path, Action::Remove, error)),
                _ => Ok(()),
            };
        }
        Ok(found) if found.is_dir() => "a directory",
        Ok(found) if found.is_file() => "a regular file",
        Ok(_) => "a device or a pipe",
        // Binding does not follow it, so it is in the way.
        Err(error) if is_absent(&error) && fs::symlink_metadata(path).is_ok() => {
            "a symlink that leads nowhere"
        }
        Err(error) if is_absent(&error) => return Ok(()),
        Err(error) => return Err(failed(path, Action::Inspect, error)),
    };
    Err(SocketError::NotASocket {
        path: path.display().to_string(),
        found,
    })
}

/// The file gets the mode that the socket has before it is bound (Linux), less the umask.
fn create(path: &Path) -> Result<(StdListener, (u64, u64)), SocketError> {
    let created = |error: rustix::io::Errno| failed(path, Action::Create, error.into());
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).map_err(created)?;
    fchmod(&socket, Mode::from_raw_mode(MODE)).map_err(created)?;
    bind(&socket, &SocketAddrUnix::new(path).map_err(created)?).map_err(created)?;
    let found = fs::symlink_metadata(path).map_err(|error| failed(path, Action::Inspect, error))?;
    let mode = found.mode() & 0o777;
    if mode != MODE {
        let _ = fs::remove_file(path);
        return Err(SocketError::Mode {
            path: path.display().to_string(),
            mode,
        });
    }
    listen(&socket, BACKLOG).map_err(created)?;
    Ok((socket.into(), (found.dev(), found.ino())))
}

/// The lock on a directory; it ends with the descriptor. None where it is to be had neither now nor soon: then it is
/// done without, which only matters if another registrar does so at the same moment.
async fn lock(directory: &Path) -> Option<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = open(directory, flags, Mode::empty()).ok()?;
    let until = Instant::now() + LOCK_TIMEOUT;
    loop {
        match flock(&directory, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Some(directory),
            Err(rustix::io::Errno::WOULDBLOCK | rustix::io::Errno::INTR) if Instant::now() < until => {
                sleep(LOCK_PAUSE).await;
            }
            Err(_) => return None,
        }
    }
}

fn failed(path: &Path, action: Action, source: io::Error) -> SocketError {
    let path = path.display().to_string();
    match source.kind() {
        io::ErrorKind::PermissionDenied => SocketError::Forbidden { path, action },
        io::ErrorKind::ReadOnlyFilesystem => SocketError::ReadOnly { path, action },
        _ => SocketError::Other { path, action, source },
    }
}

#[cfg(test)]
mod tests;
