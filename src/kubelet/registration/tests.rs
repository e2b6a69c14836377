//! The registration server over real sockets: a gRPC client, and clients made of raw bytes, which may send what tonic
//! cannot.

use std::{
    path::Path,
    sync::{Arc, Mutex},
    time::Instant,
};

use hyper_util::rt::TokioIo;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
    sync::{mpsc, oneshot},
    task::JoinHandle,
};
use tonic::transport::{Channel, Endpoint, Uri};

use super::*;
use crate::kubelet::{
    hpack::{Decoder, write_literal},
    proto::registration_client::RegistrationClient,
    raw::{EMPTY_MESSAGE, GET_INFO, PATIENCE, Raw, call, frame, message},
};

/// A server on a socket in a directory of its own.
struct Stage {
    directory: TempDir,
    calls: mpsc::UnboundedReceiver<KubeletCall>,
    stop: Option<oneshot::Sender<()>>,
    served: JoinHandle<RegistrationSocket>,
}

impl Stage {
    async fn new() -> Self {
        Self::with(|_| {}).await
    }

    async fn with(also: impl Fn(&KubeletCall) + Send + Sync + 'static) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let socket = RegistrationSocket::bind(directory.path(), "csi.example")
            .await
            .unwrap();
        let (tell, calls) = mpsc::unbounded_channel();
        let (stop, stopped) = oneshot::channel();
        let served = tokio::spawn(async move {
            let observe = move |call| {
                also(&call);
                tell.send(call).unwrap();
            };
            serve(&socket, plugin(), observe, async { drop(stopped.await) }).await;
            socket
        });
        Self {
            directory,
            calls,
            stop: Some(stop),
            served,
        }
    }

    fn path(&self) -> std::path::PathBuf {
        self.directory.path().join("csi.example-reg.sock")
    }

    async fn raw(&self) -> Raw {
        Raw::new(UnixStream::connect(self.path()).await.unwrap()).await
    }

    async fn told(&mut self) -> Option<KubeletCall> {
        timeout(PATIENCE, self.calls.recv()).await.unwrap()
    }

    async fn stop(&mut self) -> RegistrationSocket {
        let _ = self.stop.take().unwrap().send(());
        (&mut self.served).await.unwrap()
    }
}

fn plugin() -> PluginInfo {
    PluginInfo {
        name: "csi.example".into(),
        endpoint: "/var/lib/kubelet/plugins/csi.example/csi.sock".into(),
    }
}

async fn client(path: &Path) -> RegistrationClient<Channel> {
    let path = path.to_owned();
    let connector = tower::service_fn(move |_: Uri| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    });
    let channel = Endpoint::from_static("http://localhost")
        .connect_with_connector(connector)
        .await;
    RegistrationClient::new(channel.unwrap())
}

fn status(plugin_registered: bool, error: &str) -> RegistrationStatus {
    RegistrationStatus {
        plugin_registered,
        error: error.into(),
    }
}

fn info() -> Vec<u8> {
    let info = proto::PluginInfo {
        r#type: "CSIPlugin".into(),
        name: "csi.example".into(),
        endpoint: "/var/lib/kubelet/plugins/csi.example/csi.sock".into(),
        supported_versions: vec!["1.0.0".into()],
    };
    message(&info)
}

#[tokio::test]
async fn get_info_is_answered_whatever_the_authority_says() {
    let mut stage = Stage::new().await;
    for authority in [
        "%2Fvar%2Flib%2Fkubelet%2Fplugins_registry%2Fcsi.example-reg.sock",
        "/var/lib/kubelet/plugins_registry/csi.example-reg.sock",
        "localhost",
        "tmp%2Fcsi.example-reg.sock",
        "",
    ] {
        let mut raw = stage.raw().await;
        let frames = [
            frame(1, 0x4, 1, &call(GET_INFO, authority)),
            frame(0, 0x1, 1, &EMPTY_MESSAGE),
        ];
        raw.stream.write_all(&frames.concat()).await.unwrap();
        assert_eq!(raw.answer(1).await, Some((info(), "0".into())), "{authority}");
        assert_eq!(stage.told().await, Some(KubeletCall::GetInfo));
    }
    stage.stop().await;
}

#[tokio::test]
async fn padding_priority_and_continuation_are_taken() {
    let stage = Stage::new().await;
    let block = call(GET_INFO, "%2Fx");
    let (head, tail) = block.split_at(30);
    let padded = [&[7][..], &block, &[0; 7]].concat();
    let prioritised = [&[0, 0, 0, 0, 15][..], head].concat();
    let ways = [
        frame(1, 0x4 | 0x8, 1, &padded),
        [
            frame(1, 0x20, 1, &prioritised),
            frame(9, 0, 1, &[]),
            frame(9, 0x4, 1, tail),
        ]
        .concat(),
    ];
    for headers in ways {
        let mut raw = stage.raw().await;
        let bytes = [headers, frame(0, 0x1, 1, &EMPTY_MESSAGE)].concat();
        // One byte at a time: the kernel hands them over as it likes.
        for byte in bytes {
            raw.stream.write_all(&[byte]).await.unwrap();
        }
        assert_eq!(raw.answer(1).await, Some((info(), "0".into())));
    }
}

#[tokio::test]
async fn two_thousand_calls_on_one_connection_may_index_their_headers() {
    let stage = Stage::new().await;
    let mut raw = stage.raw().await;
    let mut mirror = Decoder::new();
    for at in 0..2_000u32 {
        let stream = 2 * at + 1;
        let mut block = match at % 7 {
            // All by index: what the first call and its like have inserted, the latest first.
            1..=6 => vec![0x83, 0x86, 0xc2, 0xc1, 0xc0, 0xbf, 0xbe],
            _ => {
                let mut block = call(GET_INFO, &format!("%2Fx{at}"));
                let fields = mirror.decode(&block).unwrap();
                block = vec![0x83, 0x86];
                for field in &fields[2..] {
                    let begin = block.len();
                    write_literal(&mut block, &field.name, &field.value);
                    block[begin] = 0x40;
                }
                block
            }
        };
        if at % 10 == 0 {
            // Never indexed, as grpc-go does with long metadata.
            for number in 0..40 {
                let begin = block.len();
                write_literal(&mut block, format!("x-{number}").as_bytes(), &[b'v'; 300]);
                block[begin] = 0x10;
            }
        }
        let frames = [
            frame(1, 0x4, stream, &block),
            frame(0, 0x1, stream, &EMPTY_MESSAGE),
        ];
        raw.stream.write_all(&frames.concat()).await.unwrap();
        assert_eq!(raw.answer(stream).await, Some((info(), "0".into())), "{at}");
    }
}

#[tokio::test]
async fn malformed_bytes_end_their_connection_and_no_other() {
    let stage = Stage::new().await;
    let mut client = client(&stage.path()).await;
    for bytes in [
        frame(1, 0x4, 1, &[0x3f]),
        frame(1, 0x4, 1, &[0xff; 40]),
        vec![0xff; 64],
        [frame(1, 0, 1, &[0x83]), frame(0, 0, 1, &[])].concat(),
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(),
    ] {
        let mut raw = stage.raw().await;
        raw.stream.write_all(&bytes).await.unwrap();
        assert_eq!(raw.answer(1).await, None, "{bytes:x?}");
        client.get_info(InfoRequest {}).await.unwrap();
    }
    let mut stream = UnixStream::connect(stage.path()).await.unwrap();
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await
        .unwrap();
    let mut answer = Vec::new();
    let _ = timeout(PATIENCE, stream.read_to_end(&mut answer)).await.unwrap();
    client.get_info(InfoRequest {}).await.unwrap();
}

#[tokio::test]
async fn what_the_kubelet_does_is_told_in_order() {
    let mut stage = Stage::new().await;
    let mut client = client(&stage.path()).await;
    client.get_info(InfoRequest {}).await.unwrap();
    client.notify_registration_status(status(true, "")).await.unwrap();
    client.get_info(InfoRequest {}).await.unwrap();
    let mut told = Vec::new();
    for _ in 0..3 {
        told.push(stage.told().await.unwrap());
    }
    assert_eq!(
        told,
        [
            KubeletCall::GetInfo,
            KubeletCall::Registered,
            KubeletCall::GetInfo
        ]
    );
    drop(client);
    let socket = stage.stop().await;
    assert!(socket.is_ours(), "the caller removes it");
}

#[tokio::test]
async fn a_failed_registration_is_told_when_its_answer_is_out() {
    // As the registrar does: it stops at the word.
    let (stop, mut stopped) = mpsc::unbounded_channel();
    let directory = tempfile::tempdir().unwrap();
    let socket = RegistrationSocket::bind(directory.path(), "csi.example")
        .await
        .unwrap();
    let mut raw = Raw::new(UnixStream::connect(socket.path()).await.unwrap()).await;
    let message = message(&status(false, "plugin validation failed"));
    let path = "/pluginregistration.Registration/NotifyRegistrationStatus";
    let frames = [frame(1, 0x4, 1, &call(path, "%2Fx")), frame(0, 0x1, 1, &message)];
    raw.stream.write_all(&frames.concat()).await.unwrap();
    let told = Arc::new(Mutex::new(None));
    let heard = told.clone();
    let observe = move |call| {
        *heard.lock().unwrap() = Some(call);
        stop.send(()).unwrap();
    };
    let serving = serve(&socket, plugin(), observe, async {
        stopped.recv().await;
    });
    // The client reads nothing until the server has ended, but for what ends a connection in order.
    let (answer, ()) = tokio::join!(raw.answer(1), serving);
    assert_eq!(answer, Some((vec![0; 5], "0".into())));
    let error = "plugin validation failed".into();
    assert_eq!(*told.lock().unwrap(), Some(KubeletCall::NotRegistered { error }));
}

#[tokio::test]
async fn a_failed_registration_is_told_although_the_client_leaves_without_a_word() {
    let mut stage = Stage::new().await;
    let mut raw = stage.raw().await;
    let message = message(&status(false, "x"));
    let path = "/pluginregistration.Registration/NotifyRegistrationStatus";
    let frames = [
        frame(1, 0x4, 1, &call(path, "localhost")),
        frame(0, 0x1, 1, &message),
    ];
    raw.stream.write_all(&frames.concat()).await.unwrap();
    while !matches!(raw.frame().await.unwrap(), (1, _, 1, _)) {}
    drop(raw);
    assert_eq!(
        stage.told().await,
        Some(KubeletCall::NotRegistered { error: "x".into() })
    );
}

#[tokio::test]
async fn silent_clients_do_not_shut_the_kubelet_out_and_delay_the_end_by_a_second_at_most() {
    let mut stage = Stage::new().await;
    let mut silent = Vec::new();
    for _ in 0..3 * CONNECTIONS {
        silent.push(UnixStream::connect(stage.path()).await.unwrap());
        client(&stage.path())
            .await
            .get_info(InfoRequest {})
            .await
            .unwrap();
    }
    // The oldest ones have been closed.
    let mut rest = Vec::new();
    let _ = timeout(PATIENCE, silent[0].read_to_end(&mut rest)).await.unwrap();
    let begin = Instant::now();
    stage.stop().await;
    assert!(begin.elapsed() < 3 * DRAIN);
}

#[tokio::test]
async fn a_client_that_never_reads_costs_nobody_else_anything() {
    let stage = Stage::new().await;
    let mut raw = stage.raw().await;
    let flood = tokio::spawn(async move {
        for at in 0u32.. {
            let stream = 2 * at + 1;
            let frames = [
                frame(1, 0x4, stream, &call(GET_INFO, "%2Fx")),
                frame(0, 0x1, stream, &EMPTY_MESSAGE),
            ];
            if raw.stream.write_all(&frames.concat()).await.is_err() {
                break;
            }
        }
    });
    let mut client = client(&stage.path()).await;
    for _ in 0..100 {
        client.get_info(InfoRequest {}).await.unwrap();
    }
    flood.abort();
}

#[tokio::test]
async fn a_message_above_the_bound_is_refused_and_other_calls_go_on() {
    let stage = Stage::new().await;
    let mut client = client(&stage.path()).await;
    let error = client
        .notify_registration_status(status(false, &"x".repeat(MESSAGE)))
        .await
        .unwrap_err();
    assert_eq!(error.code(), tonic::Code::OutOfRange);
    client
        .notify_registration_status(status(true, &"x".repeat(MESSAGE / 2)))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_driver_under_another_name_is_served_after_the_first_one_has_ended() {
    let mut stage = Stage::new().await;
    client(&stage.path())
        .await
        .get_info(InfoRequest {})
        .await
        .unwrap();
    let first = stage.stop().await;
    first.remove().await.unwrap();
    let second = RegistrationSocket::bind(stage.directory.path(), "csi.renamed")
        .await
        .unwrap();
    let plugin = PluginInfo {
        name: "csi.renamed".into(),
        ..plugin()
    };
    let (stop, stopped) = oneshot::channel::<()>();
    let asked = async {
        let mut client = client(second.path()).await;
        let info = client.get_info(InfoRequest {}).await.unwrap().into_inner();
        drop(stop);
        info.name
    };
    let (name, ()) = tokio::join!(
        asked,
        serve(&second, plugin, |_| {}, async { drop(stopped.await) })
    );
    assert_eq!(name, "csi.renamed");
    assert_eq!(std::fs::read_dir(stage.directory.path()).unwrap().count(), 1);
}
