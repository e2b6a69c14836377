//! Whether the driver is there: waiting for it, losing it, meeting another one.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_driver_that_starts_late_is_waited_for() {
    let socket = Socket::default();
    let driver = socket.driver();
    let later = socket.clone();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs(3600)).await;
        let not_ready = message(&ProbeResponse { ready: Some(false) });
        later.listen([("/csi.v1.Identity/Probe", not_ready)].into());
        tokio::time::sleep(Duration::from_secs(60)).await;
        later.kill();
        later.listen(good("d.io"));
    });
    let started = Instant::now();
    let mut driver_state = driver.driver_state();
    let (ended, states) = tokio::join!(driver.wait_until_ready(), async {
        let mut states = Vec::new();
        for _ in 0..2 {
            driver_state.changed().await.unwrap();
            states.push(driver_state.borrow_and_update().clone());
        }
        states
    });
    assert_eq!(ended, Ok(()));
    assert!(
        (3660..3665).contains(&started.elapsed().as_secs()),
        "{:?}",
        started.elapsed()
    );
    assert!(
        matches!(&states[0], DriverState::Lost { reason: NotReadyReason::Unreachable(text), .. } if text.contains("no socket"))
    );
    assert!(matches!(
        &states[1],
        DriverState::Lost {
            reason: NotReadyReason::NotReady,
            ..
        }
    ));
}

#[tokio::test(start_paused = true)]
async fn a_driver_that_cannot_be_used_is_waited_for_and_the_state_says_what_is_missing() {
    let absent = Socket::default();
    let silent = Socket::default();
    silent.listen_raw(async |pipe| {
        std::future::pending::<()>().await;
        drop(pipe);
    });
    let closing = Socket::default();
    closing.listen_raw(async |pipe| drop(pipe));
    let web = Socket::default();
    web.listen_raw(async |mut pipe| {
        let _ = pipe.read(&mut [0; 512]).await;
        let _ = pipe
            .write_all(b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n")
            .await;
    });
    let rows = [
        ("no socket", absent, "no socket at /csi/csi.sock"),
        ("accepts and is silent", silent, "does not answer Probe"),
        ("accepts and closes", closing, "cannot be reached"),
        ("speaks HTTP/1", web, "cannot be reached"),
    ];
    for (row, socket, text) in rows {
        let driver = socket.driver();
        let ended = timeout(Duration::from_secs(30), driver.wait_until_ready()).await;
        assert!(ended.is_err(), "{row}: {ended:?}");
        let DriverState::Lost { reason, .. } = driver.driver_state().borrow().clone() else {
            panic!("{row}: ready")
        };
        assert!(reason.to_string().contains(text), "{row}: {reason}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_grpc_server_that_is_no_csi_driver_is_refused_at_once() {
    let socket = Socket::default();
    socket.listen(Script::new());
    let error = socket.driver().wait_until_ready().await.unwrap_err();
    assert!(
        matches!(&error, NotADriver(rpc_error) if rpc_error.code == Code::Unimplemented),
        "{error}"
    );
}

/// Waits, at most a minute of paused time, until the state is as wanted.
async fn until(driver: &Driver, wanted: impl Fn(&DriverState) -> bool) -> DriverState {
    let mut driver_state = driver.driver_state();
    let found = timeout(
        Duration::from_secs(60),
        driver_state.wait_for(|driver_state| wanted(driver_state)),
    )
    .await;
    found
        .unwrap_or_else(|_| panic!("still {:?}", driver.driver_state().borrow()))
        .unwrap()
        .clone()
}

async fn watched(socket: &Socket) -> Driver {
    socket.listen(good("d.io"));
    let driver = socket.driver();
    driver.identify().await.unwrap();
    tokio::spawn(driver.clone().watch_state(Duration::from_secs(10)));
    driver
}

fn is_ready(driver_state: &DriverState) -> bool {
    matches!(driver_state, DriverState::Ready(_))
}

#[tokio::test(start_paused = true)]
async fn a_loss_is_noticed_while_idle_and_keeps_its_first_time() {
    let socket = Socket::default();
    let driver = watched(&socket).await;
    let killed = Instant::now();
    socket.kill();
    let DriverState::Lost { since, .. } = until(&driver, |driver_state| !is_ready(driver_state)).await else {
        panic!()
    };
    assert!(since - killed <= Duration::from_secs(10), "{:?}", since - killed);
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert!(
        matches!(&*driver.driver_state().borrow(), DriverState::Lost { since: still, .. } if *still == since)
    );

    socket.listen(good("d.io"));
    let back = Instant::now();
    until(&driver, is_ready).await;
    assert!(back.elapsed() <= Duration::from_secs(2), "{:?}", back.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_call_that_meets_the_loss_makes_it_known_at_once() {
    let socket = Socket::default();
    let driver = watched(&socket).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    socket.kill();
    let met = Instant::now();
    create(&driver).await.unwrap_err();
    until(&driver, |driver_state| !is_ready(driver_state)).await;
    assert!(met.elapsed() < Duration::from_millis(100), "{:?}", met.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_driver_that_comes_back_with_new_capabilities_is_known_by_them() {
    let socket = Socket::default();
    let driver = watched(&socket).await;
    socket.kill();
    let capabilities = [
        controller_service_capability::rpc::Type::CreateDeleteVolume,
        controller_service_capability::rpc::Type::CloneVolume,
    ];
    let answer = ControllerGetCapabilitiesResponse {
        capabilities: capabilities.map(can).into(),
    };
    let mut script = good("d.io");
    script.insert("/csi.v1.Controller/ControllerGetCapabilities", message(&answer));
    socket.listen(script);
    // The restart falls between two checks: no loss is seen, only the new connection.
    until(
        &driver,
        |driver_state| matches!(driver_state, DriverState::Ready(driver_info) if driver_info.clone),
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_driver_that_comes_back_without_its_capability_is_shown_and_another_one_is_not_used() {
    let socket = Socket::default();
    let driver = watched(&socket).await;

    socket.kill();
    let mut script = good("d.io");
    script.insert(
        "/csi.v1.Controller/ControllerGetCapabilities",
        Reply::Message(Vec::new()),
    );
    socket.listen(script);
    until(
        &driver,
        |driver_state| matches!(driver_state, DriverState::Ready(driver_info) if !driver_info.create_delete_volume),
    )
    .await;

    socket.kill();
    socket.listen(good("other.io"));
    let other = IdentifyError::OtherDriver {
        expected: "d.io".into(),
        found: "other.io".into(),
    };
    until(
        &driver,
        |driver_state| matches!(driver_state, DriverState::Lost { reason: NotReadyReason::NotIdentified(error), .. } if *error == other),
    )
    .await;
    let before = socket.seen().len();
    let rpc_error = create(&driver).await.unwrap_err();
    let delete = driver
        .delete_volume(DeleteVolumeRequest::default())
        .await
        .expect("every call may be sent")
        .unwrap_err();
    assert_eq!(
        (rpc_error.code, delete.code),
        (Code::Unavailable, Code::Unavailable)
    );
    assert!(rpc_error.message.contains("other.io"), "{rpc_error}");
    assert_eq!(socket.seen().len(), before, "another driver was called");

    socket.kill();
    socket.listen(good("d.io"));
    until(&driver, is_ready).await;
    create(&driver).await.unwrap();
}
