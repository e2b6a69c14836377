//! Headers that no gRPC server sends, and what they cost: one call.

use super::*;

const PROBE: &str = "/csi.v1.Identity/Probe";
const GET_PLUGIN_INFO: &str = "/csi.v1.Identity/GetPluginInfo";

/// What stands at the end of a call, the code that we make of it, and what the text has.
type Row = (&'static str, Fields, Code, &'static str);

fn rows() -> Vec<Row> {
    let row = |name, fields: &[(&'static str, &[u8])], code, words| {
        let fields = fields.iter().map(|(name, value)| (*name, value.to_vec()));
        (name, fields.collect(), code, words)
    };
    let (status, message, details) = ("grpc-status", "grpc-message", "grpc-status-details-bin");
    vec![
        // C1
        row(
            "details that are no base64",
            &[(status, b"8"), (message, b"full"), (details, b"no base64!")],
            Code::ResourceExhausted,
            "full",
        ),
        row(
            "details that are no text",
            &[(status, b"8"), (details, b"\xff\xfe"), (details, b"=")],
            Code::ResourceExhausted,
            "",
        ),
        row(
            "details alone",
            &[(details, b"!")],
            Code::Unavailable,
            "cannot be read",
        ),
        // C20
        row(
            "a message that is no UTF-8",
            &[(status, b"10"), (message, b"%FF%FE pending")],
            Code::Aborted,
            "\u{fffd}\u{fffd} pending",
        ),
        row(
            "a message of raw bytes",
            &[(status, b"14"), (message, b"\xff away")],
            Code::Unavailable,
            "\u{fffd} away",
        ),
        row(
            "raw bytes, and a code after which nothing was made",
            &[(status, b"8"), (message, b"\xff full")],
            Code::ResourceExhausted,
            "\u{fffd} full",
        ),
        row(
            "a message with half an escape",
            &[(status, b"10"), (message, b"100%2")],
            Code::Aborted,
            "100%2",
        ),
        row(
            "a message that is there twice",
            &[(status, b"10"), (message, b"first"), (message, b"second")],
            Code::Aborted,
            "first",
        ),
        row(
            "a status that is no number",
            &[(status, b"busy")],
            Code::Unavailable,
            "grpc-status \"busy\"",
        ),
        row(
            "an empty status",
            &[(status, b"")],
            Code::Unavailable,
            "grpc-status \"\"",
        ),
        row(
            "a negative status",
            &[(status, b"-1")],
            Code::Unavailable,
            "grpc-status \"-1\"",
        ),
        row(
            "a status beyond all numbers",
            &[(status, b"99999999999999999999")],
            Code::Unavailable,
            "grpc-status \"9999",
        ),
        row(
            "a status of raw bytes",
            &[(status, b"\xff")],
            Code::Unavailable,
            "grpc-status",
        ),
        // gRPC wants this.
        row(
            "a number without a meaning",
            &[(status, b"17"), (message, b"new")],
            Code::Unknown,
            "new",
        ),
        row(
            "a number with a zero in front",
            &[(status, b"010")],
            Code::Aborted,
            "",
        ),
        row(
            "the same status twice",
            &[(status, b"10"), (status, b"10")],
            Code::Aborted,
            "",
        ),
        row(
            "two statuses",
            &[(status, b"5"), (status, b"14")],
            Code::Unavailable,
            "grpc-status",
        ),
        row(
            "success and failure",
            &[(status, b"0"), (status, b"5")],
            Code::Unavailable,
            "grpc-status",
        ),
        row(
            "no status",
            &[(message, b"full")],
            Code::Unavailable,
            "cannot be read",
        ),
    ]
}

async fn error_of(driver: &Driver, path: &str) -> RpcError {
    match path {
        PROBE => driver.probe().await.unwrap_err(),
        GET_PLUGIN_INFO => match driver.identify().await.unwrap_err() {
            IdentifyError::RpcError(rpc_error) => rpc_error,
            other => panic!("{other}"),
        },
        _ => create(driver).await.unwrap_err(),
    }
}

#[tokio::test(start_paused = true)]
async fn c1_c20_a_malformed_header_costs_one_call_and_changes_no_code() {
    for path in [PROBE, GET_PLUGIN_INFO, CREATE] {
        for (name, fields, code, words) in rows() {
            for reply in [
                Reply::Headers(fields.clone()),
                Reply::Trailers(Vec::new(), fields.clone()),
            ] {
                let socket = Socket::default();
                socket.listen(good("d.io"));
                let driver = socket.driver();
                driver.probe().await.unwrap();
                let mut script = good("d.io");
                script.insert(path, reply);
                socket.listen(script);
                socket.hang_up();
                // The first call after a restart may still meet the old connection's end.
                let _ = driver
                    .within(TIMEOUT)
                    .delete_volume(DeleteVolumeRequest::default())
                    .await;
                let rpc_error = error_of(&driver, path).await;
                assert_eq!(rpc_error.code, code, "{name} to {path}: {rpc_error}");
                assert!(rpc_error.message.contains(words), "{name} to {path}: {rpc_error}");
                // The connection is as good as before.
                let dialled = socket.wires.lock().unwrap().len();
                if path == CREATE {
                    driver.identify().await.unwrap();
                } else {
                    create(&driver).await.unwrap();
                }
                assert_eq!(socket.wires.lock().unwrap().len(), dialled, "{name} to {path}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn c20_a_status_that_changes_between_headers_and_trailers_is_none() {
    let fields = |status: &str| vec![("grpc-status", status.as_bytes().to_vec())];
    for (first, second) in [("0", "5"), ("0", "busy"), ("0", "14")] {
        let socket = Socket::default();
        let reply = Reply::Trailers(fields(first), fields(second));
        socket.listen([(CREATE, reply)].into());
        let rpc_error = create(&socket.driver()).await.unwrap_err();
        assert_eq!(rpc_error.code, Code::Unavailable, "{first} {second}: {rpc_error}");
    }
    let socket = Socket::default();
    let reply = Reply::Trailers(fields("0"), fields("0"));
    socket.listen([(CREATE, reply)].into());
    create(&socket.driver()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn c1_trailers_without_end_leave_the_outcome_open() {
    let socket = Socket::default();
    let endless = vec![
        ("grpc-status", b"8".to_vec()),
        ("grpc-message", vec![b'x'; 2 << 20]),
    ];
    let mut script = good("d.io");
    script.insert(CREATE, Reply::Trailers(Vec::new(), endless));
    socket.listen(script);
    let driver = socket.driver();
    let rpc_error = create(&driver).await.unwrap_err();
    assert_eq!(rpc_error.code, Code::Unavailable, "{rpc_error}");
    timeout(Duration::from_secs(60), async {
        while driver.probe().await.is_err() {}
    })
    .await
    .unwrap();
}

#[tokio::test(start_paused = true)]
async fn c1_the_watch_of_the_drivers_state_outlives_malformed_headers() {
    let odd = || {
        Reply::Headers(vec![
            ("grpc-status", b"13".to_vec()),
            ("grpc-status-details-bin", b"no base64!".to_vec()),
        ])
    };
    let socket = Socket::default();
    socket.listen(good("d.io"));
    let driver = socket.driver();
    driver.identify().await.unwrap();
    let mut state = driver.driver_state();
    let watch = tokio::spawn(driver.clone().watch_state(Duration::from_secs(10)));
    for path in [PROBE, GET_PLUGIN_INFO] {
        let mut script = good("d.io");
        script.insert(path, odd());
        socket.listen(script);
        socket.hang_up();
        let lost = |state: &DriverState| matches!(state, DriverState::Lost { .. });
        timeout(TIMEOUT, state.wait_for(lost)).await.unwrap().unwrap();
        socket.listen(good("d.io"));
        socket.hang_up();
        let ready = |state: &DriverState| matches!(state, DriverState::Ready(_));
        timeout(TIMEOUT, state.wait_for(ready)).await.unwrap().unwrap();
    }
    assert!(!watch.is_finished());
    watch.abort();
}
