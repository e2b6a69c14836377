//! Claims come and go while the process is cut.

use sandbox::{Fault, Harm, driver::Trouble};
use tonic::Code;

use crate::{
    rest::Rest,
    scenario::Scenario,
    sidecar::{CLAIMS, Look, VOLUMES, secs},
};

#[test]
fn a_claim_comes_and_stays() {
    Scenario::new("a claim comes and stays", Rest::volumes(1)).run(async |stage| {
        stage.add_claim("default", "data", "1Gi", |_| {});
        stage.becomes_bound("data").await;
    });
}

#[test]
fn a_claim_comes_and_goes() {
    Scenario::new("a claim comes and goes", Rest::volumes(0)).run(async |stage| {
        stage.add_claim("default", "data", "1Gi", |_| {});
        stage.becomes_bound("data").await;
        stage.api.delete(CLAIMS, "default", "data");
    });
}

#[test]
fn a_claim_is_deleted_while_the_driver_works() {
    Scenario::new("claim deleted while the driver works", Rest::volumes(0)).run(async |stage| {
        stage.driver.upset("CreateVolume", 1, Trouble::Delay(secs(3)));
        stage.add_claim("default", "data", "1Gi", |_| {});
        stage
            .eventually("the driver is asked", |world| {
                world.driver.count("CreateVolume") > 0
            })
            .await;
        stage.api.delete(CLAIMS, "default", "data");
    });
}

#[test]
fn a_claim_is_deleted_before_its_object_is_written() {
    Scenario::new("claim deleted before its object is written", Rest::volumes(0)).run(async |stage| {
        stage
            .api
            .harm(Fault::new(Harm::Status(500)).on("create", VOLUMES).times(3));
        stage.add_claim("default", "data", "1Gi", |_| {});
        stage
            .eventually("it is made", |world| !world.driver.volumes().is_empty())
            .await;
        stage.api.delete(CLAIMS, "default", "data");
    });
}

#[test]
fn a_claim_is_deleted_and_made_again() {
    Scenario::new("claim deleted and made again", Rest::volumes(1)).run(async |stage| {
        stage.driver.upset("CreateVolume", 1, Trouble::Delay(secs(3)));
        stage.add_claim("default", "data", "1Gi", |_| {});
        stage
            .eventually("the driver is asked", |world| {
                world.driver.count("CreateVolume") > 0
            })
            .await;
        stage.api.delete(CLAIMS, "default", "data");
        stage
            .eventually("it is gone", |world| world.api.len(CLAIMS) == 0)
            .await;
        stage.add_claim("default", "data", "2Gi", |_| {});
        stage.becomes_bound("data").await;
    });
}

#[test]
fn the_backend_is_down_after_a_timeout() {
    Scenario::new("backend down after a timeout", Rest::volumes(0)).run(async |stage| {
        stage.driver.upset("CreateVolume", 1, Trouble::LoseReply);
        let down = Trouble::Refuse(Code::Internal, "the backend is down");
        stage.driver.upset("CreateVolume", 4, down);
        stage.add_claim("default", "data", "1Gi", |_| {});
        stage
            .eventually("it is made", |world| !world.driver.volumes().is_empty())
            .await;
        stage.api.delete(CLAIMS, "default", "data");
    });
}
