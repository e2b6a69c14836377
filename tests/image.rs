//! An image holds what it promises and runs with nothing around it: each archive
//! that `make images` writes is unpacked into an empty root and started there.
#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::mpsc,
    time::{Duration, Instant},
};

use sandbox::{
    Api,
    kubelet::{self, Kubelet, Seen},
};
use serde_json::Value;

/// For setpriv: the kernel kills the process when whoever started it ends, also by a signal. setpriv and the other
/// commands in front of a binary become that binary, so the child's id is its id.
const BOUND: [&str; 3] = ["--pdeathsig", "KILL", "--"];

/// In the root's own /etc/hosts and nowhere else.
const HOST: &str = "api.sandbox.test";

/// A certificate authority that signs nothing. It must be one that can be read.
const AUTHORITY: &str = "\
    LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tCk1JSUJlekNDQVNHZ0F3SUJBZ0lVVCtiU2hmWXBLSXdJZGxZRU4xako5b2RH\
    dXE0d0NnWUlLb1pJemowRUF3SXcKRWpFUU1BNEdBMVVFQXd3SGMyRnVaR0p2ZURBZ0Z3MHlOakV4TWpFd05EVTFNVEJhR0E4\
    eU1USTJNVEF5T0RBMApOVFV4TUZvd0VqRVFNQTRHQTFVRUF3d0hjMkZ1WkdKdmVEQlpNQk1HQnlxR1NNNDlBZ0VHQ0NxR1NN\
    NDlBd0VICkEwSUFCSU9ieFdyNENSWnNVVlhKTFRJRTF3bThweTN3OVlyUDRBM0tyV0VhbE8wOWp4S0VIZTJRYytaMWJseWoK\
    RVFwWWViL0pIWEtIZGxGM0VzMXNRWVRDU09lalV6QlJNQjBHQTFVZERnUVdCQlFWeE9ZQzBhMHFuV1lKL0xYcQpiWHU4Sk5q\
    NnlEQWZCZ05WSFNNRUdEQVdnQlFWeE9ZQzBhMHFuV1lKL0xYcWJYdThKTmo2eURBUEJnTlZIUk1CCkFmOEVCVEFEQVFIL01B\
    b0dDQ3FHU000OUJBTUNBMGdBTUVVQ0lRRDZycExyM0IwbWJIQkRCckxJUnlQamlBMkkKZ21nSmdDZUdxZHRwUHRFQXVBSWdC\
    dmlYWVY5VWowSUNQVS84WnBIYVJpWjlidU9JRHI0MGJPai9SOHJVM3MwPQotLS0tLUVORCBDRVJUSUZJQ0FURS0tLS0tCg==";

#[test]
fn each_image_holds_one_sidecar_that_runs_in_an_empty_root() {
    for archive in make_images() {
        let scratch = Scratch::new();
        let config = unpack(&archive, &scratch.0);
        let name = archive.file_name().and_then(|it| it.to_str()).expect("a name");
        let name = name.strip_suffix(".oci.tar").expect("an archive");
        let entry = &config["config"]["Entrypoint"];
        assert_eq!(*entry, serde_json::json!([format!("/{name}")]));
        assert_eq!(config["config"]["User"], "0", "the user of upstream's image");
        let root = scratch.0.join("root");
        let files: Vec<_> = fs::read_dir(&root)
            .expect("the root")
            .map(|it| it.expect("a file").file_name())
            .collect();
        assert_eq!(files, [name], "nothing else is in the image");

        let help = Running::start(&root, name, &["--help"]).end(Duration::from_secs(10));
        let said = String::from_utf8_lossy(&help.stderr).into_owned();
        assert!(
            help.status.success() && said.contains("--csi-address"),
            "{help:?}"
        );
        match name {
            "csi-provisioner" => finds_the_api_server(&scratch, &root),
            "csi-node-driver-registrar" => registers_with_upstreams_arguments(&scratch, &root),
            "livenessprobe" => probes_with_upstreams_arguments(&scratch, &root),
            other => panic!("nobody tries {other}"),
        }
    }
}

/// As upstream's manifests have it: the driver's folder is mounted at /csi, the kubelet's at /registration.
fn registers_with_upstreams_arguments(scratch: &Scratch, root: &Path) {
    const PLUGIN: &str = "/var/lib/kubelet/plugins/io.kubernetes.storage.mock";
    let (csi, registration) = (root.join("csi"), root.join("registration"));
    fs::create_dir(&csi).expect("csi");
    fs::create_dir(&registration).expect("registration");
    let _driver = driver(
        &csi.join("csi.sock"),
        &scratch.0.join("calls"),
        &["-topology", "zone=a,rack=7", "-attach-limit", "9"],
    );
    let endpoint = format!("--kubelet-registration-path={PLUGIN}/csi.sock");
    let arguments = ["--v=5", "--csi-address=/csi/csi.sock", &endpoint];
    let registrar = Running::start(root, "csi-node-driver-registrar", &arguments);
    let registered = tokio::runtime::Runtime::new()
        .expect("a runtime")
        .block_on(async {
            let options = kubelet::Options {
                mapped: Some((PLUGIN.into(), csi)),
                ..kubelet::Options::new(&registration)
            };
            let api = Api::new();
            let kubelet = Kubelet::start(&api, options).await.expect("a kubelet");
            let registered = |seen: &[Seen]| seen.iter().any(|it| it.event.notified(true));
            kubelet.wait(Duration::from_secs(20), registered).await?;
            Ok::<_, String>(api.get("csinodes", "", "node").expect("a CSINode"))
        });
    let ended = registrar.stop();
    let node = registered.unwrap_or_else(|seen| panic!("{seen}: {ended:?}"));
    let driver = &node["spec"]["drivers"][0];
    assert_eq!(
        driver["topologyKeys"],
        serde_json::json!(["rack", "zone"]),
        "{node}"
    );
    assert_eq!(driver["allocatable"]["count"], 9, "{node}");
}

fn probes_with_upstreams_arguments(scratch: &Scratch, root: &Path) {
    fs::create_dir(root.join("csi")).expect("csi");
    let _driver = driver(
        &root.join("csi/csi.sock"),
        &scratch.0.join("calls"),
        &["-fail", "Probe=Internal:2"],
    );
    // But for the port, which is the system's to choose here.
    let arguments = ["--csi-address=/csi/csi.sock", "--health-port=0"];
    let mut probe = Running::start(root, "livenessprobe", &arguments);
    let said = probe.says("\"serving HTTP\" address=\"", Duration::from_secs(20));
    let port = said.rsplit_once(':').expect("a port").1.trim_end_matches('"');
    let port: u16 = port.parse().expect("a number");
    let answers: Vec<_> = (0..3).map(|_| healthz(port)).collect();
    let ended = probe.stop();
    for (answer, wanted) in answers
        .iter()
        .zip(["HTTP/1.1 500", "HTTP/1.1 500", "HTTP/1.1 200"])
    {
        assert!(answer.starts_with(wanted), "{answers:?}: {ended:?}");
    }
}

fn healthz(port: u16) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
    let request = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    stream.write_all(request).expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

fn finds_the_api_server(scratch: &Scratch, root: &Path) {
    // glibc's static resolver is the part of a static binary that may fail
    // only at run time, so a name is looked up and connected to.
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("its address").port();
    fs::create_dir(root.join("etc")).expect("etc");
    fs::write(root.join("etc/hosts"), format!("127.0.0.1 {HOST}\n")).expect("hosts");
    fs::write(root.join("kubeconfig"), kubeconfig(port)).expect("a kubeconfig");
    // The driver comes first: before it has said its name nothing is asked of the API server.
    let _driver = driver(&root.join("socket"), &scratch.0.join("calls"), &[]);
    let arguments = ["--kubeconfig=/kubeconfig", "--csi-address=/socket"];
    let sidecar = Running::start(root, "csi-provisioner", &arguments);
    let hello = first_words(&listener, Duration::from_secs(20));
    drop(listener);
    let ended = sidecar.stop();
    let hello = hello.unwrap_or_else(|| panic!("nobody connected to {HOST}: {ended:?}"));
    // The name stands in clear in the TLS greeting.
    assert!(
        hello.windows(HOST.len()).any(|it| it == HOST.as_bytes()),
        "no TLS greeting for {HOST}: {ended:?}"
    );
}

/// Asks the Makefile, which knows how images are built, and takes the archives
/// that it names. Nothing is built again that is fresh.
fn make_images() -> Vec<PathBuf> {
    let mut make = Command::new("make");
    // What cargo tells its tests is part of what build scripts are built for:
    // with it nothing would be fresh. The same goes for an outer make.
    for (name, _) in std::env::vars() {
        if name == "OUT_DIR"
            || name.starts_with("MAKE")
            || ["PKG", "MANIFEST", "BIN"]
                .iter()
                .any(|it| name.starts_with(&format!("CARGO_{it}_")))
        {
            make.env_remove(name);
        }
    }
    let made = make
        .args(["--silent", "--no-print-directory", "images"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stderr(Stdio::inherit())
        .output()
        .expect("make");
    assert!(made.status.success(), "make images failed");
    let said = String::from_utf8(made.stdout).expect("paths");
    let base = Path::new(env!("CARGO_MANIFEST_DIR"));
    let archives: Vec<_> = said.lines().map(|path| base.join(path)).collect();
    assert!(!archives.is_empty(), "make images names no archive");
    archives
}

/// The in-memory driver of the real control plane, outside the root.
fn driver(socket: &Path, calls: &Path, flags: &[&str]) -> Running {
    let built = Command::new("tests/cluster/build.sh")
        .arg("small")
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stderr(Stdio::inherit())
        .output()
        .expect("build.sh");
    let folder = String::from_utf8(built.stdout).expect("a path");
    let mut command = Command::new("setpriv");
    command.args(BOUND).arg(Path::new(folder.trim()).join("driver"));
    command
        .arg("-socket")
        .arg(socket)
        .arg("-calls")
        .arg(calls)
        .args(flags);
    let driver = Running::spawn(&mut command);
    let start = Instant::now();
    while !socket.exists() {
        assert!(
            start.elapsed() < Duration::from_secs(20),
            "the driver makes no socket"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
    driver
}

/// Follows the archive from its index to the layers as a runtime does, checks
/// each digest, fills `root` and returns the image's configuration.
fn unpack(archive: &Path, scratch: &Path) -> Value {
    let layout = scratch.join("layout");
    untar(archive, &layout);
    let index = json(&fs::read(layout.join("index.json")).expect("an index"));
    assert_eq!(
        json(&fs::read(layout.join("oci-layout")).expect("a layout"))["imageLayoutVersion"],
        "1.0.0"
    );
    let blob = |descriptor: &Value| {
        let digest = descriptor["digest"]
            .as_str()
            .and_then(|it| it.strip_prefix("sha256:"));
        let path = layout.join("blobs/sha256").join(digest.expect("a digest"));
        let sum = Command::new("sha256sum")
            .arg(&path)
            .output()
            .expect("sha256sum")
            .stdout;
        assert!(
            sum.starts_with(digest.unwrap_or_default().as_bytes()),
            "{} is something else",
            path.display()
        );
        assert_eq!(descriptor["size"], fs::metadata(&path).expect("a blob").len());
        path
    };
    let manifest = json(&fs::read(blob(&index["manifests"][0])).expect("a manifest"));
    let config = json(&fs::read(blob(&manifest["config"])).expect("a configuration"));
    for layer in manifest["layers"].as_array().expect("layers") {
        assert_eq!(
            layer["digest"], config["rootfs"]["diff_ids"][0],
            "an uncompressed layer is its own content"
        );
        untar(&blob(layer), &scratch.join("root"));
    }
    config
}

fn untar(archive: &Path, folder: &Path) {
    fs::create_dir_all(folder).expect("a folder");
    let done = Command::new("tar")
        .arg("-xf")
        .arg(archive)
        .arg("-C")
        .arg(folder)
        .status();
    assert!(done.expect("tar").success(), "{} is no tar", archive.display());
}

fn json(text: &[u8]) -> Value {
    serde_json::from_slice(text).expect("JSON")
}

fn kubeconfig(port: u16) -> String {
    serde_json::json!({
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "it",
        "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
        "users": [{"name": "it", "user": {"token": "none"}}],
        "clusters": [{"name": "it", "cluster": {
            "server": format!("https://{HOST}:{port}"),
            "certificate-authority-data": AUTHORITY,
        }}],
    })
    .to_string()
}

/// What the first guest says on its own.
fn first_words(listener: &TcpListener, limit: Duration) -> Option<Vec<u8>> {
    listener
        .set_nonblocking(true)
        .expect("a listener that does not wait");
    let start = Instant::now();
    while start.elapsed() < limit {
        let Ok((mut guest, _)) = listener.accept() else {
            std::thread::sleep(Duration::from_millis(20));
            continue;
        };
        guest.set_nonblocking(false).expect("a guest that waits");
        guest.set_read_timeout(Some(limit)).expect("a limit");
        let mut words = vec![0; 4096];
        let length = guest.read(&mut words).unwrap_or_default();
        words.truncate(length);
        return Some(words);
    }
    None
}

/// The binary inside the root; killed when the test is done with it.
struct Running(Option<Child>);

impl Running {
    fn start(root: &Path, name: &str, arguments: &[&str]) -> Self {
        let is_root = fs::metadata("/proc/self").expect("/proc").uid() == 0;
        let mut command = Command::new("setpriv");
        command.args(BOUND).args(match is_root {
            true => &["chroot"][..],
            false => &["unshare", "--user", "--map-root-user", "--root"],
        });
        command.arg(root);
        command.arg(format!("/{name}")).args(arguments);
        // An image from scratch sets no variables either; PATH finds chroot.
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        Self::spawn(command.stdin(Stdio::null()))
    }

    fn spawn(command: &mut Command) -> Self {
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        Self(Some(child.unwrap_or_else(|e| panic!("{command:?}: {e}"))))
    }

    /// Reads its log until a line has these words, and gives that line; what comes after it is not read.
    fn says(&mut self, words: &'static str, limit: Duration) -> String {
        let child = self.0.as_mut().expect("it runs");
        let log = BufReader::new(child.stderr.take().expect("its log"));
        let (tell, told) = mpsc::channel();
        std::thread::spawn(move || {
            let mut lines = log.lines().map_while(Result::ok);
            let _ = tell.send(lines.find(|line| line.contains(words)));
        });
        let said = told.recv_timeout(limit).ok().flatten();
        said.unwrap_or_else(|| panic!("{words:?} is not in its log"))
    }

    fn stop(mut self) -> Output {
        let mut child = self.0.take().expect("it runs");
        let _ = child.kill();
        child.wait_with_output().expect("its last words")
    }

    /// Waits for it to end by itself, and ends it when it does not.
    fn end(mut self, limit: Duration) -> Output {
        let start = Instant::now();
        let child = self.0.as_mut().expect("it runs");
        while start.elapsed() < limit && child.try_wait().expect("its state").is_none() {
            std::thread::sleep(Duration::from_millis(10));
        }
        self.stop()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A folder of this process's own, removed at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        let path = std::env::temp_dir().join(format!("volwright-image-{}", std::process::id()));
        fs::create_dir_all(&path).expect("a scratch folder");
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
