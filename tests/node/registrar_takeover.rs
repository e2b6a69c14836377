//! Several registrars on one path, one after the other.

use std::{fs, time::Duration};

use rustix::process::Signal;
use sandbox::kubelet::Event;
use tokio::time::sleep;

use crate::{
    driver::NAME,
    http::healthz,
    process::Sidecar,
    registrar::{Scene, endpoint, exists, until},
};

async fn stop(sidecar: Sidecar) -> String {
    sidecar.signal(Signal::TERM);
    let (code, log) = sidecar.ended().await;
    assert_eq!(code, 0, "{log}");
    log
}

#[tokio::test]
async fn the_younger_of_two_takes_over_and_the_older_leaves_it_alone() {
    let scene = Scene::new().await;
    let older = scene.start();
    scene.registered(1).await;
    let first = inode(&scene);
    let younger = scene.start();
    scene.registered(2).await;
    assert_ne!(inode(&scene), first, "reg.SocketPathSimple.01");
    older.says(1, "another registrar has taken over").await;
    let second = inode(&scene);
    let before = scene.kubelet.seen().len();
    stop(older).await;
    assert_eq!(inode(&scene), second);
    // Time for the kubelet to see what it should not.
    sleep(Duration::from_millis(300)).await;
    let seen = scene.kubelet.seen();
    assert_eq!(seen.len(), before, "{seen:#?}");
    assert_eq!(scene.names(), [NAME]);
    assert_eq!(healthz(younger.address().await).await.0, 200);

    stop(younger).await;
    scene.unregistered(2).await;
    assert!(!exists(&scene.socket()));
}

fn inode(scene: &Scene) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    fs::symlink_metadata(scene.socket()).expect("the socket").ino()
}

#[tokio::test]
async fn after_rounds_of_a_surge_update_the_living_one_is_registered_and_nobody_else() {
    let scene = Scene::new().await;
    let generation = |number: usize| {
        let socket = format!("csi-{number}.sock");
        let link = scene.place.folder.at(&socket);
        std::os::unix::fs::symlink(scene.place.socket(), link).expect("a symlink");
        scene.start_with(&[&endpoint(&socket)])
    };
    let mut older = generation(0);
    scene.registered(1).await;
    const ROUNDS: usize = 12;
    let mut logs = Vec::new();
    for round in 1..=ROUNDS {
        older.says(1, "waiting for the kubelet").await;
        let younger = generation(round);
        // At first both live for a while; then the older one goes at any moment of the younger one's start.
        match round {
            1..4 => drop(scene.registered(round + 1).await),
            4..7 => younger.says(1, "waiting for the kubelet").await,
            _ => sleep(Duration::from_millis(5 * (round as u64 - 7))).await,
        }
        logs.push(stop(older).await);
        older = younger;
    }
    let last = format!("csi-{ROUNDS}.sock");
    let ours = || {
        scene
            .kubelet
            .drivers()
            .get(NAME)
            .is_some_and(|it| it.ends_with(&last))
    };
    until("the last one is registered", || ours() && scene.names() == [NAME]).await;
    older.says(1, "the kubelet has registered the driver").await;
    let balance: i32 = scene
        .kubelet
        .seen()
        .iter()
        .map(|it| match &it.event {
            Event::Registered(_) => 1,
            Event::Unregistered(_) => -1,
            Event::Notified {
                registered: false, ..
            } => panic!("{it:?}"),
            _ => 0,
        })
        .sum();
    assert_eq!(balance, 1, "{:#?}", scene.kubelet.seen());
    logs.push(stop(older).await);
    for log in logs {
        assert!(
            !log.contains("it is made again"),
            "nobody took another's away: {log}"
        );
    }
    assert!(!exists(&scene.socket()));
}

#[tokio::test]
async fn what_a_killed_one_leaves_behind_is_no_obstacle() {
    let scene = Scene::new().await;
    for round in 1..=3 {
        let sidecar = scene.start();
        scene.registered(round).await;
        sidecar.kill().await;
        assert!(exists(&scene.socket()));
        assert_eq!(scene.names(), [NAME], "the kubelet does not notice");
    }
    let last = scene.start();
    scene.registered(4).await;
    stop(last).await;
    scene.unregistered(4).await;
    assert_eq!(scene.names(), [""; 0]);
}

#[tokio::test]
async fn the_older_one_goes_on_when_the_younger_one_has_gone() {
    let scene = Scene::new().await;
    let older = scene.start();
    scene.registered(1).await;
    let younger = scene.start();
    scene.registered(2).await;
    older.says(1, "another registrar has taken over").await;
    stop(younger).await;
    scene.unregistered(2).await;
    older.says(1, "it is made again").await;
    scene.registered(3).await;
    assert_eq!(scene.names(), [NAME]);
    stop(older).await;
    scene.unregistered(3).await;
}

#[tokio::test]
async fn the_older_one_goes_on_when_the_younger_one_was_killed() {
    let scene = Scene::new().await;
    let older = scene.start();
    scene.registered(1).await;
    let younger = scene.start();
    scene.registered(2).await;
    older.says(1, "another registrar has taken over").await;
    younger.kill().await;
    older.says(1, "it is made again").await;
    scene.registered(3).await;
    assert_eq!(scene.names(), [NAME]);
    assert_eq!(healthz(older.address().await).await.0, 200);
    stop(older).await;
    assert!(!exists(&scene.socket()));
}

#[tokio::test]
async fn a_folder_that_somebody_removes_ends_it_with_1_and_the_next_start_takes_the_new_one() {
    let scene = Scene::new().await;
    let registry = crate::registrar::registry(&scene.place);
    let sidecar = scene.start();
    scene.registered(1).await;
    fs::remove_dir_all(&registry).expect("a folder");
    let (code, log) = sidecar.ended().await;
    assert!(
        code == 1 && log.contains("there is no directory"),
        "{code}: {log}"
    );
    fs::create_dir(&registry).expect("a folder");
    let _next = scene.start();
    // The kubelet still watches the old folder.
    until("a socket", || exists(&scene.socket())).await;
}
