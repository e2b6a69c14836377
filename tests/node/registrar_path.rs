//! The registrar among whatever else is at the path of its socket.

use std::{
    fs,
    os::unix::{
        fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _, symlink},
        net::UnixListener,
    },
    path::Path,
    process::{Command, Stdio},
};

use crate::{
    driver::NAME,
    process::flag,
    registrar::{Scene, exists, registry},
};

type Make = fn(&Path);

#[tokio::test]
async fn what_is_no_socket_ends_it_with_1_and_is_left_alone() {
    let rows: [(&str, Make, &str); 5] = [
        (
            "reg.SocketRegularFile.01",
            |path| fs::write(path, "precious").expect("a file"),
            "is a regular file",
        ),
        (
            "a directory",
            |path| fs::create_dir(path).expect("a folder"),
            "is a directory",
        ),
        (
            "a symlink to a file",
            |path| {
                let file = path.with_extension("file");
                fs::write(&file, "precious").expect("a file");
                symlink(&file, path).expect("a symlink");
            },
            "is a regular file",
        ),
        (
            "a dangling symlink",
            |path| symlink("/nowhere/at/all", path).expect("a symlink"),
            "is a symlink that leads nowhere",
        ),
        (
            "a device",
            |path| symlink("/dev/null", path).expect("a symlink"),
            "is a device or a pipe",
        ),
    ];
    for (name, make, words) in rows {
        let scene = Scene::new().await;
        let socket = scene.socket();
        make(&socket);
        let before = fs::symlink_metadata(&socket).expect("it").ino();
        let (code, log) = scene.start().ended().await;
        assert_eq!(code, 1, "{name}: {log}");
        assert!(
            log.contains(words) && log.contains("remove it, or rename the driver"),
            "{name}: {log}"
        );
        let after = fs::symlink_metadata(&socket).expect("it").ino();
        assert_eq!(before, after, "{name}");
        let target = fs::read_to_string(&socket);
        if words == "is a regular file" {
            assert_eq!(target.expect("text"), "precious", "{name}");
        }
        assert_eq!(scene.names(), [""; 0], "{name}");
    }
}

#[tokio::test]
async fn a_socket_that_is_there_makes_room() {
    let rows: [(&str, Make); 3] = [
        ("reg.SocketFileDoesNotExist.01", |_| ()),
        ("nobody listens on it", |path| {
            drop(UnixListener::bind(path).expect("a socket"));
        }),
        ("a symlink to one", |path| {
            let other = path.with_file_name(".other");
            drop(UnixListener::bind(&other).expect("a socket"));
            symlink(&other, path).expect("a symlink");
        }),
    ];
    for (name, make) in rows {
        let scene = Scene::new().await;
        // It would dial the stale one.
        scene.kubelet.configure(|knobs| knobs.idle = true);
        make(&scene.socket());
        let sidecar = scene.start();
        sidecar.says(1, "waiting for the kubelet").await;
        scene.kubelet.configure(|knobs| knobs.idle = false);
        scene.registered(1).await;
        let file = fs::symlink_metadata(scene.socket()).expect("the socket");
        assert!(file.file_type().is_socket(), "{name}");
        assert_eq!(scene.names(), [NAME], "{name}");
        if name == "a symlink to one" {
            assert!(exists(&registry(&scene.place).join(".other")), "{name}");
        }
    }
}

#[tokio::test]
async fn without_a_folder_or_with_too_long_a_path_it_ends_with_1_and_says_what_to_do() {
    let scene = Scene::new().await;
    let folder = &scene.place.folder;
    fs::write(folder.at("file"), "").expect("a file");
    let long = folder.at(&"x".repeat(80));
    fs::create_dir(&long).expect("a folder");
    let missing = "mount the kubelet's plugins_registry";
    for (name, path, words) in [
        ("reg.SocketPathDoesNotExist.01", folder.at("missing"), missing),
        ("a file", folder.at("file"), missing),
        ("below a file", folder.at("file/below"), missing),
        (
            "too long",
            long.clone(),
            "107 are allowed: give a shorter --plugin-registration-path",
        ),
    ] {
        let (code, log) = scene
            .start_with(&[&flag("plugin-registration-path", &path)])
            .ended()
            .await;
        assert!(code == 1 && log.contains(words), "{name}: {code}: {log}");
        assert!(
            !exists(Path::new(&folder.at("missing"))),
            "{name}: it makes no folder"
        );
    }
    assert_eq!(fs::read_dir(&long).expect("the folder").count(), 0);
}

#[tokio::test]
async fn a_folder_that_it_may_not_write_to_ends_it_with_1_and_asks_for_root() {
    let scene = Scene::new().await;
    let registry = registry(&scene.place);
    fs::set_permissions(&registry, fs::Permissions::from_mode(0o555)).expect("ours");
    // Root may write anywhere while it has its capabilities.
    let without = ["--bounding-set=-all", "--inh-caps=-all", "--"];
    let is_root = rustix::process::geteuid().is_root();
    let sidecar = if is_root {
        scene.start_through("setpriv", &without)
    } else {
        scene.start()
    };
    let (code, log) = sidecar.ended().await;
    assert_eq!(code, 1, "{log}");
    assert!(
        log.contains("no permission to create the registration socket") && log.contains("must run as root"),
        "{log}"
    );
    assert_eq!(fs::read_dir(&registry).expect("the folder").count(), 0);
    fs::set_permissions(&registry, fs::Permissions::from_mode(0o755)).expect("ours");
}

#[tokio::test]
async fn a_folder_that_is_mounted_read_only_ends_it_with_1_and_says_so() {
    let mut probe = Command::new("unshare");
    probe
        .args(["--mount", "true"])
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    if !probe.status().is_ok_and(|it| it.success()) {
        println!(
            "SKIPPED: no mounts of our own here (unshare --mount), so no folder that is read-only for root"
        );
        return;
    }
    let scene = Scene::new().await;
    let script = format!(
        "mount --bind {0} {0} && mount -o remount,bind,ro {0} && exec \"$0\" \"$@\"",
        registry(&scene.place).display()
    );
    let sidecar = scene.start_through("unshare", &["--mount", "sh", "-c", &script]);
    let (code, log) = sidecar.ended().await;
    assert_eq!(code, 1, "{log}");
    assert!(
        log.contains("the file system is read-only; mount the kubelet's plugins_registry without readOnly"),
        "{log}"
    );
}
