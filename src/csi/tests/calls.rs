//! One call: the driver's answer, a missing answer, and a driver that comes back.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_good_driver_is_identified_and_makes_a_volume() {
    let socket = Socket::default();
    socket.listen(good("d.io"));
    let driver = socket.driver();
    driver.wait_until_ready().await.unwrap();
    let driver_info = driver.identify().await.unwrap();
    assert_eq!(
        (
            driver_info.name.as_str(),
            driver_info.create_delete_volume,
            driver_info.topology
        ),
        ("d.io", true, false)
    );
    assert_eq!(create(&driver).await.unwrap().volume.unwrap().volume_id, "vol-1");
    assert!(matches!(&*driver.driver_state().borrow(), DriverState::Ready(known) if **known == driver_info));

    let unknown = || "unknown-driver".to_owned();
    assert_eq!(
        socket.seen(),
        [
            (unknown(), "/csi.v1.Identity/Probe", Code::Ok),
            (unknown(), "/csi.v1.Identity/GetPluginInfo", Code::Ok),
            ("d.io".into(), "/csi.v1.Identity/GetPluginCapabilities", Code::Ok),
            (
                "d.io".into(),
                "/csi.v1.Controller/ControllerGetCapabilities",
                Code::Ok
            ),
            ("d.io".into(), CREATE, Code::Ok),
        ]
    );
    assert!(
        socket
            .authorities
            .lock()
            .unwrap()
            .iter()
            .all(|authority| authority == "localhost")
    );
}

#[tokio::test(start_paused = true)]
async fn the_drivers_own_code_and_text_come_through_for_every_code() {
    let socket = Socket::default();
    let driver = socket.driver();
    for (number, code) in (1..).zip(Code::ALL.into_iter().skip(1)) {
        socket.kill();
        socket.listen([(CREATE, Reply::Refuse(number, "because".into()))].into());
        // The first call after a restart may still meet the old connection's end.
        let _ = driver.probe().await;
        let rpc_error = create(&driver).await.unwrap_err();
        assert_eq!(
            rpc_error,
            RpcError {
                method: CREATE,
                code,
                message: "because".into()
            }
        );
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_driver_did_not_send_is_unavailable_and_never_final() {
    let mut truncated = frame(&[0; 100]).to_vec();
    truncated.truncate(50);
    let rows = [
        (
            "a message over 4 MiB",
            Reply::Message(vec![0; (4 << 20) + 1]),
            "length too large",
        ),
        (
            "bytes that are no message",
            Reply::Message(vec![0xff; 40]),
            "cannot be read",
        ),
        ("a cut message", Reply::Bytes(truncated), "cannot be read"),
        (
            "success without a message",
            Reply::Bytes(Vec::new()),
            "cannot be read",
        ),
        ("no status at the end", Reply::NoTrailers, "cannot be read"),
        ("HTTP 404", Reply::Http(404), "404"),
        ("HTTP 200 that is no gRPC", Reply::Http(200), "cannot be read"),
    ];
    for (row, reply, text) in rows {
        let socket = Socket::default();
        socket.listen([(CREATE, reply)].into());
        let rpc_error = create(&socket.driver()).await.unwrap_err();
        assert_eq!(rpc_error.code, Code::Unavailable, "{row}: {rpc_error}");
        assert!(rpc_error.message.contains(text), "{row}: {rpc_error}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_without_a_volume_is_an_answer() {
    let socket = Socket::default();
    socket.listen([(CREATE, message(&CreateVolumeResponse::default()))].into());
    assert_eq!(
        create(&socket.driver()).await,
        Ok(CreateVolumeResponse { volume: None })
    );
}

#[tokio::test(start_paused = true)]
async fn a_call_ends_at_its_deadline_as_deadline_exceeded() {
    let socket = Socket::default();
    socket.listen([(CREATE, Reply::Hang)].into());
    let driver = socket.driver();
    for deadline in [TIMEOUT, Duration::from_millis(1500)] {
        let started = Instant::now();
        let rpc_error = create(&driver.within(deadline)).await.unwrap_err();
        assert_eq!(
            rpc_error.to_string(),
            "rpc error: code = DeadlineExceeded desc = context deadline exceeded"
        );
        let took = started.elapsed();
        assert!(
            took >= deadline && took < deadline + Duration::from_millis(10),
            "{took:?}"
        );
        assert_eq!(
            socket.calls.lock().unwrap().last().unwrap().code,
            Code::DeadlineExceeded
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_breaks_during_a_call_leaves_the_outcome_open() {
    let socket = Socket::default();
    socket.listen([(CREATE, Reply::Hang)].into());
    let driver = socket.driver();
    let calling = tokio::spawn(async move { create(&driver).await });
    while socket.authorities.lock().unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    socket.kill();
    let rpc_error = calling.await.unwrap().unwrap_err();
    assert_eq!(rpc_error.code, Code::Unavailable);
    assert!(rpc_error.message.contains("broke during the call"), "{rpc_error}");
}

#[tokio::test(start_paused = true)]
async fn a_restarted_driver_is_found_again_by_the_same_handle() {
    let socket = Socket::default();
    socket.listen(good("d.io"));
    let driver = socket.driver();
    create(&driver).await.unwrap();
    socket.kill();
    // Until the loss is seen a call may still meet the dying connection; then it names the missing socket.
    while let Err(rpc_error) = create(&driver).await
        && !rpc_error.message.contains("no socket at")
    {}
    let rpc_error = create(&driver).await.unwrap_err();
    assert_eq!(rpc_error.code, Code::Unavailable);
    assert!(
        rpc_error.message.starts_with("no socket at /csi/csi.sock"),
        "{rpc_error}"
    );
    socket.listen(good("d.io"));
    assert_eq!(create(&driver).await.unwrap().volume.unwrap().volume_id, "vol-1");
}

#[tokio::test(start_paused = true)]
async fn a_driver_without_a_usable_name_is_refused() {
    for (name, expected) in [
        ("", UnsupportedDriver::NoName),
        ("d io", UnsupportedDriver::OddName { name: "d io".into() }),
    ] {
        let socket = Socket::default();
        socket.listen(good(name));
        assert_eq!(socket.driver().identify().await, Err(expected.into()));
    }
}

#[tokio::test(start_paused = true)]
async fn a_driver_that_lacks_a_capability_is_known_without_it() {
    let rows = [
        ("/csi.v1.Identity/GetPluginCapabilities", (false, true)),
        ("/csi.v1.Controller/ControllerGetCapabilities", (true, false)),
    ];
    for (path, expected) in rows {
        let socket = Socket::default();
        let mut script = good("d.io");
        script.insert(path, Reply::Message(Vec::new()));
        socket.listen(script);
        let driver_info = socket.driver().identify().await.unwrap();
        let found = (driver_info.controller_service, driver_info.create_delete_volume);
        assert_eq!(found, expected, "{path}");
    }
}

#[tokio::test]
async fn over_a_real_socket_a_restart_needs_no_new_handle() {
    let path = std::env::temp_dir().join(format!("volwright-driver-{}.sock", std::process::id()));
    let _ = std::fs::remove_file(&path);
    let address: Address = format!("unix://{}", path.display()).parse().unwrap();
    let driver = Driver::new(
        &Dialer::to(address),
        Duration::from_secs(10),
        Needs::default(),
        Arc::new(|_| {}),
    );
    assert!(
        create(&driver)
            .await
            .unwrap_err()
            .message
            .starts_with("no socket at")
    );

    for generation in 1..=2 {
        let listener = tokio::net::UnixListener::bind(&path).unwrap();
        let router = axum::Router::new()
            .fallback(async |request: http::Request<Body>| answer(good("d.io"), request.uri().path()).await);
        let incoming = stream::unfold(listener, |listener| async {
            let accepted = listener.accept().await.map(|(pipe, _)| pipe);
            Some((accepted, listener))
        });
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let server = tonic::transport::Server::builder()
            .add_routes(tonic::service::Routes::from(router))
            .serve_with_incoming_shutdown(incoming.boxed(), stopped.map(drop));
        let server = tokio::spawn(server);
        // A graceful stop may still be on its way to us.
        let made = timeout(Duration::from_secs(10), async {
            loop {
                if let Ok(made) = create(&driver).await {
                    return made;
                }
                tokio::task::yield_now().await;
            }
        });
        assert!(made.await.unwrap().volume.is_some(), "generation {generation}");
        drop(stop);
        server.await.unwrap().unwrap();
        std::fs::remove_file(&path).unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_long_text_does_not_hide_the_drivers_code() {
    let text = "because ".repeat(30_000);
    let socket = Socket::default();
    socket.listen([(CREATE, Reply::Refuse(8, text.clone()))].into());
    let rpc_error = create(&socket.driver()).await.unwrap_err();
    assert_eq!(
        (rpc_error.code, rpc_error.message.len()),
        (Code::ResourceExhausted, text.len())
    );
}

#[tokio::test(start_paused = true)]
async fn a_deadline_beyond_all_reason_is_no_panic() {
    let socket = Socket::default();
    socket.listen(good("d.io"));
    create(&socket.driver().within(Duration::MAX)).await.unwrap();
    let rpc_error = create(&socket.driver().within(Duration::ZERO)).await.unwrap_err();
    assert_eq!(rpc_error.code, Code::DeadlineExceeded);
}
