//! How the registrar makes its driver known to the kubelet: the double of tests/sandbox, on real sockets.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::process::Signal;
use sandbox::{
    Api, Kubelet,
    kubelet::{Authority, Event, Knobs, Options, Seen},
};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::{
    driver::{NAME, Place},
    http::healthz,
    process::{Folder, Sidecar, built, flag},
};

const REGISTRAR: &str = "csi-node-driver-registrar";
/// Where the driver's folder is for the kubelet.
const ON_HOST: &str = "/var/lib/kubelet/plugins/disks";
/// For what takes milliseconds, on a machine that is busy with something else.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
const TICK: Duration = Duration::from_millis(50);

/// A node: its kubelet, a driver, and a folder for the files of both.
pub(crate) struct Scene {
    pub(crate) place: Place,
    pub(crate) api: Api,
    pub(crate) kubelet: Kubelet,
}

impl Scene {
    pub(crate) async fn new() -> Self {
        Self::at(Place::new(), Knobs::default()).await
    }

    pub(crate) async fn at(place: Place, knobs: Knobs) -> Self {
        let api = Api::new();
        let kubelet = kubelet(&api, &place, knobs).await;
        Self { place, api, kubelet }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.socket_of(NAME)
    }

    pub(crate) fn socket_of(&self, driver: &str) -> PathBuf {
        registry(&self.place).join(format!("{driver}-reg.sock"))
    }

    /// The flags without which nothing works.
    pub(crate) fn flags(&self) -> Vec<String> {
        flags(&self.place)
    }

    /// Starts a registrar that serves HTTP, with patience for a machine that is busy.
    pub(crate) fn start(&self) -> Sidecar {
        self.start_with(&["--http-endpoint=127.0.0.1:0", "--timeout=20s"])
    }

    pub(crate) fn start_with(&self, more: &[&str]) -> Sidecar {
        let mut flags = self.flags();
        flags.extend(more.iter().map(ToString::to_string));
        run(&self.place.folder, &flags)
    }

    /// Starts one through another program, which becomes the registrar.
    pub(crate) fn start_through(&self, program: &str, words: &[&str]) -> Sidecar {
        let mut all: Vec<_> = words.iter().map(ToString::to_string).collect();
        all.push(built(REGISTRAR));
        all.extend(self.flags());
        Sidecar::start(program, &self.place.folder, &all)
    }

    /// Waits until the kubelet has seen this so many times.
    pub(crate) async fn sees(&self, times: usize, what: impl Fn(&Event) -> bool) -> Vec<Seen> {
        let enough = |seen: &[Seen]| seen.iter().filter(|it| what(&it.event)).count() >= times;
        self.kubelet
            .wait(PATIENCE, enough)
            .await
            .unwrap_or_else(|why| panic!("{why}"))
    }

    pub(crate) async fn registered(&self, times: usize) -> Vec<Seen> {
        self.sees(times, |event| event.notified(true)).await
    }

    pub(crate) async fn unregistered(&self, times: usize) -> Vec<Seen> {
        self.sees(times, |event| matches!(event, Event::Unregistered(_)))
            .await
    }

    /// What the CSINode says of drivers.
    pub(crate) fn drivers(&self) -> Vec<Value> {
        let csi_node = self.api.get("csinodes", "", "node").expect("a CSINode");
        let drivers = csi_node["spec"]["drivers"].as_array();
        drivers.cloned().unwrap_or_default()
    }

    /// Their names.
    pub(crate) fn names(&self) -> Vec<String> {
        let name = |driver: &Value| driver["name"].as_str().expect("a name").to_owned();
        self.drivers().iter().map(name).collect()
    }
}

/// Starts a kubelet over the folder of this place.
pub(crate) async fn kubelet(api: &Api, place: &Place, knobs: Knobs) -> Kubelet {
    let mut options = Options::new(&registry(place));
    options.tick = TICK;
    options.mapped = Some((ON_HOST.into(), place.folder.at("").into()));
    options.knobs = knobs;
    Kubelet::start(api, options).await.expect("a kubelet")
}

pub(crate) fn registry(place: &Place) -> PathBuf {
    place.folder.at("plugins_registry").into()
}

pub(crate) fn flags(place: &Place) -> Vec<String> {
    vec![
        place.flag(),
        flag("plugin-registration-path", &registry(place).display().to_string()),
        endpoint("csi.sock"),
    ]
}

/// The flag with the path of this socket on the host. The last one of several counts.
pub(crate) fn endpoint(socket: &str) -> String {
    flag("kubelet-registration-path", &format!("{ON_HOST}/{socket}"))
}

pub(crate) fn run(folder: &Folder, flags: &[String]) -> Sidecar {
    Sidecar::start(&built(REGISTRAR), folder, flags)
}

/// Whether anything is at this path.
pub(crate) fn exists(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}

/// Waits for what another process does.
pub(crate) async fn until(what: &str, met: impl Fn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !met() {
        assert!(Instant::now() < end, "never: {what}");
        sleep(Duration::from_millis(1)).await;
    }
}

/// What the kubelet did, in its order.
fn steps(seen: &[Seen]) -> Vec<&'static str> {
    // It gives us a second to answer GetInfo and asks again, and a machine may be that busy.
    let late = |event: &Event| matches!(event, Event::GetInfo(Err(status)) if status.code() == tonic::Code::DeadlineExceeded);
    let step = |it: &Seen| match it.event {
        Event::Created => "created",
        Event::Removed => "removed",
        Event::GetInfo(_) => "GetInfo",
        Event::NodeGetInfo(_) => "NodeGetInfo",
        Event::Registered(_) => "written",
        Event::Notified { registered: true, .. } => "Notify(true)",
        Event::Notified { .. } => "Notify(false)",
        Event::Unregistered(_) => "unregistered",
        Event::Stuck(_) => "stuck",
    };
    let in_time = seen.iter().filter(|it| !late(&it.event));
    in_time.map(step).collect()
}

const ALL: [&str; 5] = ["created", "GetInfo", "NodeGetInfo", "written", "Notify(true)"];

/// The driver is asked for its name every ten seconds; both wait for that at the same time.
#[tokio::test]
async fn a_driver_is_followed_to_another_name_by_the_same_process_and_keeps_its_own_while_it_is_away() {
    tokio::join!(renamed(), away());
}

async fn renamed() {
    let scene = Scene::new().await;
    let sidecar = scene.start();
    scene.registered(1).await;
    let new = "new.disks.example.com";
    scene.place.driver.configure(|driver| driver.name = new.into());
    let seen = scene.registered(2).await;
    assert_eq!(scene.names(), [new]);
    assert!(!exists(&scene.socket()) && exists(&scene.socket_of(new)));
    let gone = |event: &Event| matches!(event, Event::Unregistered(name) if name == NAME);
    assert!(seen.iter().any(|it| gone(&it.event)), "{seen:#?}");
    let log = sidecar.log();
    assert!(log.contains(&format!("{NAME} calls itself {new} now")), "{log}");
    assert_eq!(healthz(sidecar.address().await).await, (200, "ok".into()));
    sidecar.signal(Signal::TERM);
    assert_eq!(sidecar.ended().await.0, 0);
    scene.unregistered(2).await;
    assert_eq!(scene.names(), [""; 0]);
}

async fn away() {
    let scene = Scene::new().await;
    let sidecar = scene.start();
    let before = scene.registered(1).await.len();
    scene.place.driver.stop();
    sidecar.says(1, "the CSI driver stays registered, though: ").await;
    assert_eq!(scene.kubelet.seen().len(), before);
    assert_eq!(scene.names(), [NAME]);
    assert_eq!(healthz(sidecar.address().await).await.0, 200);
}

#[tokio::test]
async fn the_kubelet_registers_the_driver_in_each_form_of_authority_and_writes_what_the_driver_says() {
    for authority in [Authority::Encoded, Authority::Raw, Authority::Localhost] {
        let knobs = Knobs {
            authority,
            ..Default::default()
        };
        let scene = Scene::at(Place::new(), knobs).await;
        scene.place.driver.configure(|driver| {
            driver.node_id = "disks-of-node-1".into();
            driver.node_topology = Some(BTreeMap::from([("topology.example.com/zone".into(), "b".into())]));
            driver.max_volumes_per_node = 24;
        });
        let endpoint = "--kubelet-registration-path=/var/lib/kubelet/plugins/./disks//csi.sock";
        let sidecar = scene.start_with(&[endpoint]);
        let seen = scene.registered(1).await;
        assert_eq!(steps(&seen), ALL, "{authority:?}");
        for it in &seen {
            assert_eq!(it.socket, scene.socket(), "{authority:?}");
            match &it.event {
                Event::GetInfo(Ok(info)) => {
                    assert_eq!(info.r#type, "CSIPlugin");
                    assert_eq!(info.name, NAME);
                    assert_eq!(info.endpoint, &endpoint[28..]);
                    assert_eq!(info.supported_versions, ["1.0.0"]);
                }
                Event::Notified { answer, .. } => assert!(answer.is_ok(), "{answer:?}"),
                _ => {}
            }
        }
        let expected = json!({
            "name": NAME, "nodeID": "disks-of-node-1", "topologyKeys": ["topology.example.com/zone"],
            "allocatable": {"count": 24},
        });
        assert_eq!(scene.drivers(), [expected], "{authority:?}");
        let node = scene.api.get("nodes", "", "node").expect("the Node");
        assert_eq!(node["metadata"]["labels"]["topology.example.com/zone"], "b");
        let ids = &node["metadata"]["annotations"]["csi.volume.kubernetes.io/nodeid"];
        assert_eq!(*ids, format!(r#"{{"{NAME}":"disks-of-node-1"}}"#));
        sidecar.says(1, "the kubelet has registered the driver").await;
        // Nothing but its name is asked of the driver by us.
        let asked: Vec<_> = scene.place.driver.calls().iter().map(|it| it.method).collect();
        assert_eq!(asked, ["GetPluginInfo", "NodeGetInfo"]);
    }
}

#[tokio::test]
async fn the_socket_is_for_its_owner_alone_under_any_umask() {
    for umask in ["0", "022", "077"] {
        let scene = Scene::new().await;
        let become_it = format!("umask {umask} && exec \"$0\" \"$@\"");
        let sidecar = scene.start_through("sh", &["-c", &become_it]);
        scene.registered(1).await;
        let socket = fs::symlink_metadata(scene.socket()).expect("the socket");
        assert!(socket.file_type().is_socket());
        assert_eq!(socket.mode() & 0o7777, 0o600, "umask {umask}");
        assert_eq!(socket.uid(), rustix::process::geteuid().as_raw());
        let status = fs::read_to_string(format!("/proc/{}/status", sidecar.id())).expect("its status");
        let still = format!("Umask:\t{umask:0>4}\n");
        assert!(status.contains(&still), "umask {umask}: {status}");
    }
}

#[tokio::test]
async fn a_kubelet_that_comes_later_or_again_registers_the_driver_from_the_socket_that_is_there() {
    let knobs = Knobs {
        idle: true,
        ..Default::default()
    };
    let Scene { place, api, kubelet } = Scene::at(Place::new(), knobs).await;
    let sidecar = run(&place.folder, &flags(&place));
    sidecar.says(1, "waiting for the kubelet").await;
    kubelet.stop().await;
    for round in 1..=3 {
        let kubelet = self::kubelet(&api, &place, Knobs::default()).await;
        let told = |seen: &[Seen]| seen.iter().any(|it| it.event.notified(true));
        let seen = kubelet.wait(PATIENCE, told).await.expect("a registration");
        assert_eq!(steps(&seen), ALL);
        sidecar.says(round, "the kubelet has registered the driver").await;
        kubelet.stop().await;
    }
}

#[tokio::test]
async fn a_kubelet_that_stutters_or_is_slow_registers_the_driver_all_the_same() {
    let twice = Knobs {
        twice: true,
        ..Default::default()
    };
    let slow = Knobs {
        get_info_delay: Duration::from_millis(400),
        ..Default::default()
    };
    for (knobs, times) in [(twice, 2), (slow, 1)] {
        let scene = Scene::at(Place::new(), knobs).await;
        let sidecar = scene.start();
        let seen = scene.registered(times).await;
        let refused = |it: &Seen| matches!(&it.event, Event::Notified { answer: Err(_), .. });
        assert!(!seen.iter().any(refused), "{seen:#?}");
        sidecar.says(times, "the kubelet has registered the driver").await;
        assert_eq!(scene.names(), [NAME]);
    }
}

#[tokio::test]
async fn two_drivers_on_a_node_do_not_know_of_each_other() {
    let scene = Scene::new().await;
    let other = Place::new();
    other
        .driver
        .configure(|driver| driver.name = "tapes.example.com".into());
    let beside = [
        other.flag(),
        flag("kubelet-registration-path", &other.folder.at("csi.sock")),
    ];
    let (one, two) = (
        scene.start(),
        scene.start_with(&beside.each_ref().map(String::as_str)),
    );
    scene.registered(2).await;
    let mut names = scene.names();
    names.sort();
    assert_eq!(names, [NAME, "tapes.example.com"]);
    two.signal(Signal::TERM);
    assert_eq!(two.ended().await.0, 0);
    scene.unregistered(1).await;
    assert_eq!(scene.names(), [NAME]);
    assert!(exists(&scene.socket()), "{}", one.log());
}

#[tokio::test]
async fn the_socket_is_there_soon_after_the_start() {
    let mut best = Duration::MAX;
    for round in 0..20 {
        // A machine that is busy with something else gets more than one chance.
        if round >= 5 && best < Duration::from_secs(1) {
            break;
        }
        let scene = Scene::new().await;
        let began = Instant::now();
        let _sidecar = scene.start();
        until("a socket", || exists(&scene.socket())).await;
        best = best.min(began.elapsed());
    }
    println!("from the start to the socket: {best:?}");
    assert!(best < Duration::from_secs(1), "{best:?}");
}
