//! Who leads changes while the process is cut: a second replica, an old leader, one that knows no ledger, none at all.

use sandbox::{Fault, Harm, World};
use tokio::time::sleep;

use crate::{
    rest::Rest,
    scenario::Scenario,
    sidecar::{CLAIMS, Look, VOLUMES, secs, text, world},
    stage::retained,
};

#[test]
fn a_second_replica_takes_over() {
    let scenario = Scenario::new("a second replica takes over", Rest::volumes(0)).second();
    scenario.run(async |stage| {
        stage.slowly_asked(3).await;
        stage.claim_goes().await;
    });
}

#[test]
fn a_call_of_the_old_leader_comes_late() {
    let scenario = Scenario::new("late call of an old leader", Rest::volumes(0)).second();
    scenario.run(async |stage| {
        // Beyond its lease and the timeout of a call.
        stage.slowly_asked(40).await;
        stage.claim_goes().await;
        sleep(secs(40)).await;
    });
}

#[test]
fn the_first_of_two_stops() {
    let scenario = Scenario::new("stopped in the middle, a second one there", Rest::volumes(0))
        .second()
        .twice();
    scenario.run(async |stage| {
        stage.slowly_asked(3).await;
        stage.stop();
        stage.claim_goes().await;
    });
}

#[test]
fn the_only_one_stops() {
    Scenario::new("stopped in the middle", Rest::volumes(0)).run(async |stage| {
        stage.slowly_asked(20).await;
        stage.stop();
        stage.claim_goes().await;
    });
}

#[test]
fn a_leader_hears_and_says_nothing_for_a_minute() {
    let scenario = Scenario::new("leader cut off for a minute", Rest::volumes(1)).second();
    scenario.run(async |stage| {
        stage.slowly_asked(3).await;
        stage.held_up(secs(60)).await;
        stage.becomes_bound("data").await;
    });
}

#[test]
fn without_an_election() {
    let scenario = Scenario::new("without election", Rest::volumes(0)).flags(&["--leader-election=false"]);
    scenario.run(async |stage| {
        stage.slowly_asked(3).await;
        stage.claim_goes().await;
    });
}

#[test]
fn one_that_knows_no_ledger_leads_in_between() {
    Scenario::new("an unknowing leader in between", Rest::volumes(0)).run(async |stage| {
        stage.made_in_doubt().await;
        stage.down();
        let upstream = stage.upstream();
        upstream.lead().await;
        upstream.work();
        stage.becomes_bound("data").await;
        stage.claim_goes().await;
        stage
            .eventually("it is released", |world| {
                world
                    .api
                    .list(VOLUMES)
                    .iter()
                    .all(|pv| pv["status"]["phase"] == "Released")
            })
            .await;
        upstream.work();
        upstream.leave();
        stage.driver.heal();
        stage.up();
    });
}

#[test]
fn one_that_knows_no_ledger_leaves_the_claim_bound() {
    Scenario::new("an unknowing leader finishes it", Rest::volumes(1)).run(async |stage| {
        stage.made_in_doubt().await;
        stage.down();
        let upstream = stage.upstream();
        upstream.seize();
        upstream.work();
        stage.becomes_bound("data").await;
        stage.driver.heal();
        stage.up();
    });
}

#[test]
fn what_is_to_be_retained_is_held_after_one_that_knows_no_ledger() {
    let scenario =
        Scenario::new("unknowing leader, policy Retain", Rest::volumes(0).holds(1)).world(retained);
    scenario.run(async |stage| {
        stage.made_in_doubt().await;
        stage.down();
        stage.claim_goes().await;
        let upstream = stage.upstream();
        upstream.seize();
        upstream.work();
        upstream.leave();
        stage.driver.heal();
        stage.up();
    });
}

#[test]
fn what_is_to_be_retained_gets_its_object() {
    let scenario = Scenario::new("policy Retain", Rest::volumes(1))
        .world(retained)
        .twice();
    scenario.run(async |stage| {
        stage.made_in_doubt().await;
        stage.claim_goes().await;
        sleep(secs(5)).await;
        stage.driver.heal();
    });
}

#[test]
fn the_cluster_is_restored() {
    let scenario = Scenario::new("cluster restored", Rest::volumes(0).holds(1)).world(world);
    scenario.run(async |stage| {
        stage.made_in_doubt().await;
        stage.down();
        stage.claim_goes().await;
        for mut lease in stage.api.list("leases") {
            let place = ["namespace", "name"]
                .map(|key| lease["metadata"][key].as_str().unwrap_or_default().to_owned());
            stage.api.delete("leases", &place[0], &place[1]);
            for key in ["uid", "resourceVersion"] {
                lease["metadata"].as_object_mut().unwrap().remove(key);
            }
            stage.api.create("leases", &place[0], lease);
        }
        stage.driver.heal();
        stage.up();
    });
}

#[test]
fn a_person_settles_what_is_held() {
    Scenario::new("held, then settled by a person", Rest::volumes(0)).run(async |stage| {
        stage.made_in_doubt().await;
        stage.down();
        stage.claim_goes().await;
        // Copied from elsewhere, as far as anybody can tell.
        stage
            .api
            .delete("leases", crate::sidecar::HOME, crate::sidecar::LEASE);
        stage.driver.heal();
        stage.up();
        stage.leads().await;
        sleep(secs(60)).await;
        stage.edit_shards(|shard| {
            let Some(notes) = shard["metadata"]["annotations"].as_object_mut() else {
                return;
            };
            let held: Vec<_> = notes
                .keys()
                .filter_map(|key| key.strip_prefix("held.volwright.dev/"))
                .collect();
            let settled: Vec<_> = held
                .iter()
                .map(|uid| format!("settle.volwright.dev/{uid}"))
                .collect();
            for key in settled {
                notes.insert(key, "".into());
            }
        });
    });
}

#[test]
fn truncated_names_are_held() {
    let scenario = Scenario::new("truncated names", Rest::volumes(0).held(1));
    scenario
        .flags(&["--volume-name-uuid-length=8"])
        .run(async |stage| {
            stage.made_in_doubt().await;
            stage.claim_goes().await;
            sleep(secs(5)).await;
            stage.driver.heal();
        });
}

#[test]
fn truncated_names_are_held_by_the_next_process() {
    let scenario = Scenario::new("truncated names, then another process", Rest::volumes(0).holds(1));
    scenario
        .flags(&["--volume-name-uuid-length=8"])
        .run(async |stage| {
            stage.made_in_doubt().await;
            stage.down();
            stage.claim_goes().await;
            stage.driver.heal();
            stage.up();
        });
}

#[test]
fn a_connection_to_the_driver_takes_longer_than_the_lease() {
    let scenario = Scenario::new("connection slower than the lease", Rest::volumes(1)).second();
    scenario.flags(&["--timeout=120s"]).run(async |stage| {
        let line = stage.line();
        line.dial_slowly(true);
        stage.driver.stop();
        stage.driver.start();
        stage.add_claim("default", "data", "1Gi", |_| {});
        let recorded = |world: &World| {
            let mut claims = world.api.list(CLAIMS).into_iter();
            claims.any(|claim| {
                let key = format!("ledger.volwright.dev/{}", text(&claim, "/metadata/uid"));
                let leases = world.api.filter("leases", |lease| {
                    !lease["metadata"]["annotations"][&key].is_null()
                });
                !leases.is_empty()
            })
        };
        stage
            .eventually("it is recorded", |world| recorded(world) || world.bound("data"))
            .await;
        sleep(secs(1)).await;
        line.part();
        stage.becomes_bound("data").await;
        line.dial_slowly(false);
        sleep(secs(5)).await;
        line.join();
    });
}

#[test]
fn a_write_of_the_old_leader_comes_when_another_has_taken_over() {
    Scenario::new("late write of an old leader", Rest::volumes(0)).run(async |stage| {
        let late = Fault::new(Harm::Late(secs(60)));
        let late = late.on("update", "leases").like("-ledger-").times(1);
        stage.api.harm(late);
        stage.add_claim("default", "data", "1Gi", |_| {});
        sleep(secs(1)).await;
        // Who opens the record is killed, and the next one has taken over when it arrives. Nobody would see it.
        stage.line().cut();
        stage.claim_goes().await;
        sleep(secs(90)).await;
    });
}

#[test]
fn nobody_was_there_for_two_hours() {
    let scenario = Scenario::new("away for two hours", Rest::volumes(0).holds(1));
    scenario.run(async |stage| {
        stage.made_in_doubt().await;
        stage.down();
        stage.claim_goes().await;
        stage.edit_shards(|shard| shard["spec"]["renewTime"] = "2020-01-01T00:00:00.000000Z".into());
        stage.driver.heal();
        stage.up();
    });
}

#[test]
fn a_leader_is_stopped_beyond_its_lease_and_goes_on() {
    Scenario::new("leader stopped for a minute", Rest::volumes(0))
        .stops()
        .run(async |stage| {
            stage.slowly_asked(3).await;
            stage.claim_goes().await;
        });
}

#[test]
fn a_leader_is_stopped_while_it_serves() {
    Scenario::new("leader stopped while it serves", Rest::volumes(1))
        .stops()
        .run(async |stage| {
            stage.add_claim("default", "data", "1Gi", |_| {});
            stage.becomes_bound("data").await;
        });
}

#[test]
fn the_api_server_is_away_in_the_middle() {
    Scenario::new("API server away", Rest::volumes(0)).run(async |stage| {
        stage.slowly_asked(3).await;
        stage.api.outage();
        sleep(secs(40)).await;
        stage.api.heal();
        stage.claim_goes().await;
    });
}

#[test]
fn writes_are_slow() {
    Scenario::new("writes are slow", Rest::volumes(0)).run(async |stage| {
        stage.api.harm(
            Fault::new(Harm::DelayReply(secs(4)))
                .on("update", "leases")
                .like("-ledger-"),
        );
        stage.add_claim("default", "data", "1Gi", |_| {});
        stage.becomes_bound("data").await;
        stage.claim_goes().await;
    });
}
