//! That the double misbehaves as it is told, and writes down what it does.

use std::{fs, path::Path, time::Duration};

use tempfile::TempDir;
use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{Code, Request, Response, Status, transport::Server};

use super::{
    Authority, Event, Kubelet, NODE_ID, Options, Seen, Step,
    proto::{
        InfoRequest, PluginInfo,
        registration_server::{Registration, RegistrationServer},
    },
};
use crate::{
    Api, Driver,
    contract::kubelet::plugin::{Call, Plugin},
    driver::Trouble,
};

const TICK: Duration = Duration::from_millis(20);
const LIMIT: Duration = Duration::from_secs(20);
const ALL: [Call; 3] = [Call::GetInfo, Call::NodeGetInfo, Call::Registered];

struct Scene {
    folder: TempDir,
    api: Api,
    options: Options,
    kubelet: Kubelet,
}

impl Scene {
    async fn new(set: impl FnOnce(&Path, &mut Options)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut options = Options::new(&folder.path().join("registry"));
        options.tick = TICK;
        set(folder.path(), &mut options);
        let api = Api::new();
        let kubelet = Kubelet::start(&api, options.clone()).await.unwrap();
        Self {
            folder,
            api,
            options,
            kubelet,
        }
    }

    fn plugin(&self) -> Plugin {
        let socket = self.options.registry.join("a-reg.sock");
        Plugin::new("a.example.com".into(), socket, self.folder.path().join("a.sock")).unwrap()
    }

    async fn wait(&self, condition: impl Fn(&Event) -> bool) -> Vec<Seen> {
        let any = |seen: &[Seen]| seen.iter().any(|it| condition(&it.event));
        self.kubelet.wait(LIMIT, any).await.unwrap()
    }

    /// The entries of the CSINode.
    fn drivers(&self) -> serde_json::Value {
        let csi_node = self.api.get("csinodes", "", &self.options.node).unwrap();
        csi_node["spec"]["drivers"].clone()
    }
}

async fn registered(plugin: &Plugin) {
    let is = |call: &Call| *call == Call::Registered;
    plugin.wait("registered", LIMIT, 1, is).await.unwrap();
}

/// The calls with the texts of refusals taken out.
fn calls(plugin: &Plugin) -> Vec<Call> {
    let plain = |call| match call {
        Call::Refused(_) => Call::Refused(String::new()),
        other => other,
    };
    plugin.calls().into_iter().map(plain).collect()
}

#[tokio::test]
async fn what_fails_at_a_step_is_tried_again_by_an_older_kubelet_only_before_the_handler() {
    let no = Call::Refused(String::new());
    let refused = [Call::GetInfo, no.clone()];
    let refused_late = [Call::GetInfo, Call::NodeGetInfo, no];
    for (step, times, before, always) in [
        (Step::Dial, 2, &[][..], true),
        (Step::GetInfo, 2, &[], true),
        (Step::Handler, 1, &refused, true),
        (Step::Validate, 1, &refused, true),
        (Step::Node, 3, &[], true),
        (Step::CsiNode, 3, &[], true),
        (Step::NodeGetInfo, 1, &refused, false),
        (Step::Node, 4, &refused_late, false),
        (Step::CsiNode, 4, &refused_late, false),
        (Step::Notify, 1, &[Call::GetInfo, Call::NodeGetInfo], false),
    ] {
        for keeps_failed in [false, true] {
            let what = format!("{step:?}, keeps_failed: {keeps_failed}");
            let scene = Scene::new(|_, options| options.knobs.keeps_failed = keeps_failed).await;
            scene.kubelet.upset(step, times);
            let mut plugin = scene.plugin();
            plugin.open().unwrap();
            if keeps_failed && !always {
                plugin
                    .wait("called", LIMIT, before.len(), |_| true)
                    .await
                    .unwrap();
                tokio::time::sleep(TICK * 10).await;
                assert_eq!(calls(&plugin), before, "{what}");
                let written = step == Step::Notify;
                assert_eq!(scene.drivers().is_array(), written, "{what}");
                plugin.open().unwrap();
            }
            registered(&plugin).await;
            assert_eq!(calls(&plugin), [before, &ALL].concat(), "{what}");
        }
    }
}

#[tokio::test]
async fn an_idle_kubelet_sees_sockets_and_calls_nobody_until_it_is_not() {
    let scene = Scene::new(|_, options| options.knobs.idle = true).await;
    let mut plugin = scene.plugin();
    plugin.open().unwrap();
    scene.wait(|event| matches!(event, Event::Created)).await;
    tokio::time::sleep(TICK * 5).await;
    assert_eq!(plugin.calls(), []);
    scene.kubelet.configure(|knobs| knobs.idle = false);
    registered(&plugin).await;
}

#[tokio::test]
async fn a_kubelet_that_stutters_asks_and_tells_twice() {
    let scene = Scene::new(|_, options| options.knobs.twice = true).await;
    let mut plugin = scene.plugin();
    plugin.open().unwrap();
    scene.wait(|event| event.notified(true)).await;
    plugin.wait("registered twice", LIMIT, 5, |_| true).await.unwrap();
    let [ask, id, told] = ALL;
    assert_eq!(plugin.calls(), [ask.clone(), ask, id, told.clone(), told]);
}

#[tokio::test]
async fn a_slow_kubelet_asks_after_its_delay() {
    let delay = TICK * 10;
    let scene = Scene::new(|_, options| options.knobs.get_info_delay = delay).await;
    let mut plugin = scene.plugin();
    plugin.open().unwrap();
    let seen = scene.wait(|event| matches!(event, Event::GetInfo(_))).await;
    let [created, asked, ..] = &seen[..] else {
        panic!("{seen:#?}")
    };
    assert!(asked.at - created.at >= delay, "{seen:#?}");
}

#[tokio::test]
async fn each_form_of_authority_is_sent_when_it_is_wanted() {
    for (form, prefix) in [
        (Authority::Encoded, "%2F"),
        (Authority::Raw, "/"),
        (Authority::Localhost, "localhost"),
    ] {
        let scene = Scene::new(|_, options| options.knobs.authority = form).await;
        let mut plugin = scene.plugin();
        plugin.open().unwrap();
        registered(&plugin).await;
        let sent = plugin.heard()[0].authority.clone().unwrap();
        assert!(sent.starts_with(prefix), "{form:?}: {sent}");
        let ends = form == Authority::Localhost || sent.ends_with("a-reg.sock");
        assert!(ends, "{form:?}: {sent}");
    }
}

/// A plugin on a stock server, with nothing in front of it.
struct Stock;

#[tonic::async_trait]
impl Registration for Stock {
    async fn get_info(&self, request: Request<InfoRequest>) -> Result<Response<PluginInfo>, Status> {
        assert!(!request.metadata().contains_key(super::ORIGINAL));
        Ok(Response::new(PluginInfo::default()))
    }
}

#[tokio::test]
async fn a_stock_rust_server_resets_the_stream_of_a_kubelet_as_of_a_real_one() {
    for (form, code) in [
        (Authority::Encoded, Some(Code::Internal)),
        (Authority::Raw, Some(Code::Internal)),
        (Authority::Localhost, None),
    ] {
        let scene = Scene::new(|_, options| options.knobs.authority = form).await;
        let listener = UnixListener::bind(scene.options.registry.join("stock-reg.sock")).unwrap();
        let server = Server::builder().add_service(RegistrationServer::new(Stock));
        let serving = tokio::spawn(server.serve_with_incoming(UnixListenerStream::new(listener)));
        let seen = scene.wait(|event| matches!(event, Event::GetInfo(_))).await;
        serving.abort();
        let answer = seen.into_iter().find_map(|it| match it.event {
            Event::GetInfo(answer) => Some(answer),
            _ => None,
        });
        let refused = answer.unwrap().err().map(|status| status.code());
        assert_eq!(refused, code, "{form:?}");
    }
}

#[tokio::test]
async fn an_endpoint_of_the_host_is_dialed_where_the_test_has_it() {
    let host = Path::new("/var/lib/kubelet/plugins");
    let map = |folder: &Path, options: &mut Options| {
        options.mapped = Some((host.into(), folder.into()));
        options.knobs.keeps_failed = true;
    };
    let scene = Scene::new(map).await;
    let driver = Driver::new("a.example.com");
    driver.configure(|identity| identity.max_volumes_per_node = 9);
    driver.upset("NodeGetInfo", 1, Trouble::Refuse(Code::Unavailable, "not yet"));
    let socket = scene.folder.path().join("csi.sock");
    let listening = driver.listen(&socket).unwrap();
    let mut plugin = scene.plugin();
    plugin.script(|script| script.info.endpoint = host.join("csi.sock").to_string_lossy().into());
    plugin.open().unwrap();
    scene.wait(|event| event.notified(false)).await;
    plugin.open().unwrap();
    let seen = scene.wait(|event| event.notified(true)).await;
    let kinds: Vec<_> = seen.iter().map(|it| kind(&it.event)).collect();
    let expected = [
        "created", "info", "no id", "refused", "removed", "created", "gone", "info", "id", "there", "told",
    ];
    assert_eq!(kinds, expected, "{seen:#?}");
    assert!(seen.is_sorted_by_key(|it| it.at), "{seen:#?}");
    assert_eq!(scene.drivers()[0]["allocatable"]["count"], 9);
    assert_eq!(scene.kubelet.drivers()["a.example.com"], host.join("csi.sock"));
    assert_eq!(driver.count("NodeGetInfo"), 2);
    listening.abort();
}

fn kind(event: &Event) -> &'static str {
    match event {
        Event::Created => "created",
        Event::Removed => "removed",
        Event::GetInfo(_) => "info",
        Event::NodeGetInfo(Ok(_)) => "id",
        Event::NodeGetInfo(Err(_)) => "no id",
        Event::Registered(_) => "there",
        Event::Notified { registered: true, .. } => "told",
        Event::Notified { .. } => "refused",
        Event::Unregistered(_) => "gone",
        Event::Stuck(_) => "stuck",
    }
}

#[tokio::test]
async fn a_kubelet_that_has_stopped_calls_nobody_and_leaves_what_it_wrote() {
    let scene = Scene::new(|_, _| ()).await;
    let mut plugin = scene.plugin();
    plugin.open().unwrap();
    registered(&plugin).await;
    scene.wait(|event| event.notified(true)).await;
    let Scene {
        folder: _folder,
        api,
        options,
        kubelet,
    } = scene;
    kubelet.stop().await;
    plugin.close();
    tokio::time::sleep(TICK * 5).await;
    assert_eq!(plugin.calls(), ALL);
    let node = api.get("nodes", "", &options.node).unwrap();
    let ids = &node["metadata"]["annotations"][NODE_ID];
    assert_eq!(*ids, r#"{"a.example.com":"a.example.com-id"}"#);
}

#[tokio::test]
async fn a_label_that_somebody_else_set_is_no_reason_to_change_it() {
    let scene = Scene::new(|_, _| ()).await;
    let (node, zone) = (scene.options.node.clone(), "topology.example.com/zone");
    scene.api.edit("nodes", "", &node, |node| {
        node["metadata"]["labels"] = serde_json::json!({zone: "b"});
    });
    let mut plugin = scene.plugin();
    plugin.topology(&[(zone, "a")]);
    plugin.open().unwrap();
    let seen = scene.wait(|event| event.notified(false)).await;
    let told = seen.iter().find_map(|it| match &it.event {
        Event::Notified { error, .. } => Some(error.clone()),
        _ => None,
    });
    assert!(told.unwrap().contains("topology value collision"), "{seen:#?}");
    let node = scene.api.get("nodes", "", &node).unwrap();
    assert_eq!(node["metadata"]["labels"][zone], "b");
    fs::remove_file(&plugin.socket).unwrap();
    scene.wait(|event| matches!(event, Event::Removed)).await;
}
