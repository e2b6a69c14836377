//! What the driver calls itself.

use super::*;

const GET_PLUGIN_INFO: &str = "/csi.v1.Identity/GetPluginInfo";

fn named(name: &str) -> Script {
    let mut script = good(name);
    let info = GetPluginInfoResponse {
        name: name.into(),
        vendor_version: "0.2.0".into(),
        ..Default::default()
    };
    script.insert(GET_PLUGIN_INFO, message(&info));
    script
}

#[tokio::test(start_paused = true)]
async fn a_driver_has_the_name_that_it_answers_or_none() {
    let mut broken = named("csi.example.com");
    broken.insert(GET_PLUGIN_INFO, Reply::Refuse(13, "expected error".into()));
    let refused = RpcError {
        method: GET_PLUGIN_INFO,
        code: Code::Internal,
        message: "expected error".into(),
    };
    let rows = [
        (
            "ctl.GetDriverName.01",
            named("csi.example.com"),
            Ok("csi.example.com".to_owned()),
        ),
        (
            "ctl.GetDriverName.02",
            broken,
            Err(IdentifyError::RpcError(refused)),
        ),
        (
            "ctl.GetDriverName.03",
            named(""),
            Err(UnsupportedDriver::NoName.into()),
        ),
    ];
    for (id, script, expected) in rows {
        let socket = Socket::default();
        socket.listen(script);
        let found = socket.driver().identify().await;
        assert_eq!(found.map(|driver_info| driver_info.name), expected, "{id}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_driver_is_asked_each_time_and_keeps_the_name_of_the_first() {
    let id = "ctl.GetPluginName.01: a driver that comes back under another name is not called";
    let socket = Socket::default();
    socket.listen(named("csi.example.com"));
    let driver = socket.driver();
    let first = driver.identify().await.unwrap();
    assert_eq!(first.name, "csi.example.com", "{id}");
    socket.kill();
    socket.listen(named("other.example.com"));
    // The first call after a restart may still meet the old connection's end.
    let _ = driver.probe().await;
    let other = IdentifyError::OtherDriver {
        expected: "csi.example.com".into(),
        found: "other.example.com".into(),
    };
    assert_eq!(driver.identify().await, Err(other), "{id}");
}
