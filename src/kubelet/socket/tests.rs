//! The registration socket among whatever else is at its path.

use std::{
    fs,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _, symlink},
};

use tempfile::TempDir;

use super::*;

fn directory() -> TempDir {
    tempfile::tempdir().unwrap()
}

async fn bound(directory: &TempDir) -> RegistrationSocket {
    RegistrationSocket::bind(directory.path(), "csi.example")
        .await
        .unwrap()
}

async fn refused(directory: &Path, driver: &str) -> String {
    let error = RegistrationSocket::bind(directory, driver).await.unwrap_err();
    error.to_string().replace(&directory.display().to_string(), "DIR")
}

fn at(directory: &TempDir) -> PathBuf {
    directory.path().join("csi.example-reg.sock")
}

fn connects(path: &Path) -> bool {
    std::os::unix::net::UnixStream::connect(path).is_ok()
}

/// A socket file that nobody listens on any more.
fn leave_stale(path: &Path) {
    drop(StdListener::bind(path).unwrap());
}

/// Upstream's `TestSocketFileDoesNotExist`.
#[tokio::test]
async fn where_nothing_is_the_socket_is_made_and_its_removal_when_gone_is_fine() {
    let claims = "reg.SocketFileDoesNotExist.01";
    let directory = directory();
    let socket = bound(&directory).await;
    assert!(socket.is_ours(), "{claims}");
    fs::remove_file(socket.path()).unwrap();
    assert!(!socket.is_ours(), "{claims}");
    assert_eq!(socket.remove().await.unwrap(), Removal::Gone, "{claims}");
}

/// Upstream's `TestSocketPathDoesNotExist`.
#[tokio::test]
async fn where_the_directory_has_gone_nothing_is_ours_and_there_is_nothing_to_remove() {
    let claims = "reg.SocketPathDoesNotExist.01";
    let directory = directory();
    let socket = bound(&directory).await;
    fs::remove_dir_all(directory.path()).unwrap();
    assert!(!socket.is_ours(), "{claims}");
    assert_eq!(socket.remove().await.unwrap(), Removal::Gone, "{claims}");
}

/// Upstream's `TestSocketPathSimple`.
#[tokio::test]
async fn a_socket_that_listens_is_found_and_removed() {
    let claims = "reg.SocketPathSimple.01";
    let directory = directory();
    let socket = bound(&directory).await;
    assert_eq!(socket.path(), at(&directory));
    let found = fs::symlink_metadata(socket.path()).unwrap();
    assert!(found.file_type().is_socket() && socket.is_ours(), "{claims}");
    assert!(connects(socket.path()), "{claims}");
    assert_eq!(socket.remove().await.unwrap(), Removal::Removed, "{claims}");
    assert!(fs::symlink_metadata(socket.path()).is_err(), "{claims}");
    assert_eq!(socket.remove().await.unwrap(), Removal::Gone, "{claims}");
}

/// Upstream's `TestSocketRegularFile`.
#[tokio::test]
async fn a_regular_file_is_an_error_and_left_alone() {
    let claims = "reg.SocketRegularFile.01";
    let directory = directory();
    fs::write(at(&directory), "precious").unwrap();
    assert_eq!(
        refused(directory.path(), "csi.example").await,
        "DIR/csi.example-reg.sock is a regular file and not a socket; it is left alone: remove it, or rename the driver",
        "{claims}"
    );
    assert_eq!(
        fs::read_to_string(at(&directory)).unwrap(),
        "precious",
        "{claims}"
    );

    fs::remove_file(at(&directory)).unwrap();
    let socket = bound(&directory).await;
    fs::remove_file(at(&directory)).unwrap();
    fs::write(at(&directory), "precious").unwrap();
    assert_eq!(socket.remove().await.unwrap(), Removal::NotOurs, "{claims}");
    assert_eq!(
        fs::read_to_string(at(&directory)).unwrap(),
        "precious",
        "{claims}"
    );
}

#[tokio::test]
async fn only_the_owner_may_connect_whatever_the_umask_is() {
    let before = umask();
    let directory = directory();
    let socket = bound(&directory).await;
    assert_eq!(
        fs::symlink_metadata(socket.path()).unwrap().mode() & 0o7777,
        0o600
    );
    assert_eq!(umask(), before);
}

fn umask() -> String {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    status
        .lines()
        .find(|line| line.starts_with("Umask:"))
        .unwrap()
        .to_owned()
}

#[tokio::test]
async fn a_stale_socket_makes_room() {
    let directory = directory();
    leave_stale(&at(&directory));
    let socket = bound(&directory).await;
    assert!(socket.is_ours() && connects(socket.path()));
}

#[tokio::test]
async fn a_symlink_to_a_socket_is_removed_and_what_it_leads_to_stays() {
    let directory = directory();
    let other = directory.path().join("other.sock");
    leave_stale(&other);
    symlink(&other, at(&directory)).unwrap();
    let socket = bound(&directory).await;
    assert!(socket.is_ours());
    assert!(
        fs::symlink_metadata(at(&directory))
            .unwrap()
            .file_type()
            .is_socket()
    );
    assert!(fs::symlink_metadata(&other).unwrap().file_type().is_socket());
}

#[tokio::test]
async fn what_is_no_socket_is_named_and_left_alone() {
    for (make, found) in [
        ((|path| fs::create_dir(path).unwrap()) as fn(&Path), "a directory"),
        (
            |path| symlink("/nowhere/at/all", path).unwrap(),
            "a symlink that leads nowhere",
        ),
        (
            |path| symlink("/proc/self/status", path).unwrap(),
            "a regular file",
        ),
        (|path| symlink("/proc", path).unwrap(), "a directory"),
        (|path| symlink("/dev/null", path).unwrap(), "a device or a pipe"),
    ] {
        let directory = directory();
        make(&at(&directory));
        let before = fs::symlink_metadata(at(&directory)).unwrap().ino();
        let error = refused(directory.path(), "csi.example").await;
        assert!(
            error.starts_with(&format!("DIR/csi.example-reg.sock is {found} and not a socket")),
            "{error}"
        );
        assert_eq!(fs::symlink_metadata(at(&directory)).unwrap().ino(), before);
    }
}

#[tokio::test]
async fn the_older_of_two_registrars_leaves_the_socket_of_the_younger_one() {
    let directory = directory();
    let older = bound(&directory).await;
    let younger = bound(&directory).await;
    assert!(!older.is_ours() && younger.is_ours());
    assert_eq!(older.remove().await.unwrap(), Removal::NotOurs);
    drop(older);
    assert!(younger.is_ours() && connects(younger.path()));
    assert_eq!(younger.remove().await.unwrap(), Removal::Removed);
}

#[tokio::test]
async fn a_removal_waits_for_a_takeover_that_has_begun() {
    let directory = directory();
    let older = bound(&directory).await;
    let younger_holds = lock(directory.path()).await.unwrap();
    let mut removal = std::pin::pin!(older.remove());
    assert!(futures::poll!(removal.as_mut()).is_pending());
    clear(&at(&directory)).unwrap();
    let (_younger, identity) = create(&at(&directory)).unwrap();
    drop(younger_holds);
    assert_eq!(removal.await.unwrap(), Removal::NotOurs);
    let found = fs::symlink_metadata(at(&directory)).unwrap();
    assert_eq!((found.dev(), found.ino()), identity);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_removal_and_a_takeover_at_the_same_moment_leave_the_younger_socket_in_place() {
    let directory = directory();
    let mut older = bound(&directory).await;
    for _ in 0..300 {
        let path = directory.path().to_owned();
        let younger =
            tokio::spawn(async move { RegistrationSocket::bind(&path, "csi.example").await.unwrap() });
        let removal = tokio::spawn(async move { older.remove().await.map(|it| (it, older)).unwrap() });
        let ((removal, _older), younger) = (removal.await.unwrap(), younger.await.unwrap());
        assert_ne!(removal, Removal::Gone);
        assert!(younger.is_ours() && connects(younger.path()));
        older = younger;
    }
}

#[tokio::test]
async fn a_lock_that_is_held_delays_a_registrar_and_does_not_stop_it() {
    let directory = directory();
    let held = lock(directory.path()).await.unwrap();
    tokio::time::pause();
    let begin = Instant::now();
    let socket = bound(&directory).await;
    assert!(socket.is_ours() && begin.elapsed() >= LOCK_TIMEOUT);
    drop(held);
    let begin = Instant::now();
    assert_eq!(socket.remove().await.unwrap(), Removal::Removed);
    assert_eq!(begin.elapsed(), Duration::ZERO);
}

#[tokio::test]
async fn a_directory_that_is_not_there_is_named_with_the_mount_that_makes_it() {
    let directory = directory();
    fs::write(directory.path().join("file"), "").unwrap();
    for name in ["missing", "file", "file/below"] {
        let below = directory.path().join(name);
        assert_eq!(
            refused(&below, "csi.example").await,
            "there is no directory DIR for the registration socket: mount the kubelet's plugins_registry (a hostPath, by \
             default /var/lib/kubelet/plugins_registry) there, or correct --plugin-registration-path"
        );
        assert!(!below.join("csi.example-reg.sock").exists());
    }
}

#[test]
fn system_errors_say_what_to_do() {
    let told = |errno: rustix::io::Errno, action| {
        failed(Path::new("/r/x-reg.sock"), action, errno.into()).to_string()
    };
    assert_eq!(
        told(rustix::io::Errno::ACCESS, Action::Create),
        "no permission to create the registration socket /r/x-reg.sock: the registrar must run as root, because the \
         kubelet's directories are root's (runAsUser: 0; on SELinux hosts privileged, too)"
    );
    assert_eq!(
        told(rustix::io::Errno::ROFS, Action::Remove),
        "cannot remove the registration socket /r/x-reg.sock: the file system is read-only; mount the kubelet's \
         plugins_registry without readOnly"
    );
    assert_eq!(
        told(rustix::io::Errno::IO, Action::Inspect),
        "cannot look at the registration socket /r/x-reg.sock: Input/output error (os error 5)"
    );
    let mode = SocketError::Mode {
        path: "/r/x-reg.sock".into(),
        mode: 0o755,
    }
    .to_string();
    assert_eq!(
        mode,
        "the new registration socket /r/x-reg.sock has mode 755 instead of 600: its file system or the umask does not \
         allow that"
    );
}

#[tokio::test]
async fn a_directory_that_may_not_be_written_to_asks_for_root() {
    let directory = directory();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o555)).unwrap();
    let probe = directory.path().join("probe");
    if fs::write(&probe, "").is_ok() {
        // Root may write anywhere; /proc refuses even root, in words of its own.
        let error = RegistrationSocket::bind(Path::new("/proc/self"), "csi.example")
            .await
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("create the registration socket /proc/self/csi.example-reg.sock"),
            "{error}"
        );
        return;
    }
    let error = refused(directory.path(), "csi.example").await;
    assert!(
        error.starts_with("no permission to create the registration socket DIR/csi.example-reg.sock"),
        "{error}"
    );
}

#[tokio::test]
async fn a_path_of_107_bytes_is_the_longest() {
    let directory = directory();
    let fixed = at(&directory).as_os_str().len() - "csi.example".len();
    let fits = "d".repeat(LONGEST_PATH - fixed);
    let socket = RegistrationSocket::bind(directory.path(), &fits).await.unwrap();
    assert!(socket.path().as_os_str().len() == 107 && connects(socket.path()));
    let error = refused(directory.path(), &format!("{fits}d")).await;
    assert_eq!(
        error,
        format!(
            "the registration socket DIR/{fits}d-reg.sock has 108 bytes in its path, and 107 are allowed: give a shorter \
             --plugin-registration-path, or the driver a shorter name"
        )
    );
}

#[tokio::test]
async fn a_name_that_cannot_be_the_name_of_a_file_is_refused() {
    let directory = directory();
    for (driver, reason) in [
        ("", "it is empty"),
        ("a/b", "it contains a slash"),
        ("../up", "it contains a slash"),
        ("a\0b", "it contains a NUL"),
        (
            ".hidden",
            "the kubelet takes no notice of files that begin with a dot",
        ),
    ] {
        assert_eq!(
            refused(directory.path(), driver).await,
            format!("the driver's name {driver:?} cannot name a registration socket: {reason}")
        );
    }
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
}
