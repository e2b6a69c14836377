//! The release binary as a process on a real control plane: kube-apiserver, etcd,
//! kube-controller-manager and kube-scheduler on loopback, a kubelet without containers, a driver that we did not write,
//! the ServiceAccount's own token and the shipped rights (tests/cluster).
//!
//! `TEST_KUBECONFIG` names a throw-away cluster to use instead; `KUBECONFIG` is never looked at. `SIDECAR=upstream`
//! runs upstream's binary where ours would run, which shows that the scenarios are right (on our own control plane).
//! `SIDECARS` names the folder of another build of ours, `FOREIGN` how many claims and volumes of another driver the memory
//! figure is taken with, and `KILLS` how often the kill test kills, upstream's binary too.
//!
//! A harness of its own, because all scenarios share one control plane and most of them only wait: they run side by
//! side, and those that need the machine for themselves one after the other at the end.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "real/access.rs"]
mod access;
#[path = "real/audit.rs"]
mod audit;
#[path = "process/built.rs"]
mod built;
#[path = "real/claims.rs"]
mod claims;
#[path = "real/cluster.rs"]
mod cluster;
#[path = "real/contract.rs"]
mod contract;
#[path = "real/cost.rs"]
mod cost;
#[path = "real/cross_namespace.rs"]
mod cross_namespace;
#[path = "real/driver.rs"]
mod driver;
#[path = "real/figures.rs"]
mod figures;
#[path = "real/kill.rs"]
mod kill;
#[path = "real/kubelet.rs"]
mod kubelet;
#[path = "real/ledger.rs"]
mod ledger;
#[path = "real/manifests.rs"]
mod manifests;
#[path = "real/migration.rs"]
mod migration;
#[path = "real/node_deployment.rs"]
mod node_deployment;
#[path = "real/nodes.rs"]
mod nodes;
#[path = "real/outages.rs"]
mod outages;
#[path = "real/parity.rs"]
mod parity;
#[path = "real/placing.rs"]
mod placing;
#[path = "real/program.rs"]
mod program;
#[path = "real/registrar.rs"]
mod registrar;
#[path = "real/replicas.rs"]
mod replicas;
#[path = "real/requirements.rs"]
mod requirements;
#[path = "real/rest.rs"]
mod rest;
#[path = "real/sanity.rs"]
mod sanity;
#[path = "real/scheduled.rs"]
mod scheduled;
#[path = "real/sidecar.rs"]
mod sidecar;
#[path = "real/supervisor.rs"]
mod supervisor;
#[path = "real/swap.rs"]
mod swap;
#[path = "real/timing.rs"]
mod timing;
#[path = "real/topology.rs"]
mod topology;
#[path = "real/translation.rs"]
mod translation;
#[path = "real/world.rs"]
mod world;

use std::process::ExitCode;

use cluster::Cluster;
use libtest_mimic::{Arguments, Trial};
use tokio::sync::RwLock;

/// Held for reading by scenarios that go together, for writing by one that
/// stops the API server or measures. Fair, so the latter run last.
static MACHINE: RwLock<()> = RwLock::const_new(());

/// The same for what has a control plane of its own, and only the figures mind.
static FIGURES: RwLock<()> = RwLock::const_new(());

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(12);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();

    let together = |name: &str, scenario: fn(&'static Cluster) -> Scenario| {
        trial(&runtime, name, async move |cluster| {
            let _turn = MACHINE.read().await;
            scenario(cluster).await;
        })
    };
    let alone = |name: &str, scenario: fn(&'static Cluster) -> Scenario| {
        trial(&runtime, name, async move |cluster| {
            let _turn = MACHINE.write().await;
            scenario(cluster).await;
        })
    };
    let mut trials = Vec::new();
    // First, because they wait longest.
    if !cluster::is_given() {
        // It has a control plane of its own.
        let handle = runtime.handle().clone();
        trials.push(Trial::test(
            "the contract that the sandbox keeps is the API server's",
            move || {
                handle.block_on(async {
                    let _turn = FIGURES.read().await;
                    contract::holds().await;
                    Ok(())
                })
            },
        ));
        trials.push(together(
            "the contract that the double keeps is a real kubelet's",
            |c| Box::pin(contract::of_kubelet_holds(c)),
        ));
        let handle = runtime.handle().clone();
        trials.push(Trial::test(
            "csi-sanity finds nothing wrong with the example driver",
            move || {
                handle.block_on(async {
                    let _turn = FIGURES.read().await;
                    sanity::passes().await;
                    Ok(())
                })
            },
        ));
        let handle = runtime.handle().clone();
        trials.push(Trial::test(
            "upstream would send the same accessibility requirements",
            move || {
                let _turn = handle.block_on(FIGURES.read());
                requirements::are_the_same();
                Ok(())
            },
        ));
        let handle = runtime.handle().clone();
        trials.push(Trial::test(
            "Kubernetes would say the same of what in-tree plugins left behind",
            move || {
                let _turn = handle.block_on(FIGURES.read());
                translation::is_the_same();
                Ok(())
            },
        ));
        trials.push(Trial::test("parity: what differs is in COMPATIBILITY.md", || {
            parity::differences_are_documented();
            Ok(())
        }));
        trials.push(Trial::test("parity: what is different is found", || {
            parity::samples::are_judged_rightly();
            Ok(())
        }));
        // These run upstream's binary, which is built only with the rest.
        for (name, file) in parity::scenarios() {
            let parity = format!("parity: {name}");
            trials.push(trial(&runtime, &parity, async move |cluster| {
                let _turn = MACHINE.read().await;
                parity::side_by_side(cluster, &name, &file).await;
            }));
        }
        trials.push(together(
            "upstream and ours share one lease and each other's volumes",
            |c| Box::pin(replicas::mixed(c)),
        ));
        trials.push(together(
            "upstream is swapped for ours with claims in flight",
            |c| Box::pin(swap::to_ours(c)),
        ));
        trials.push(together(
            "ours is swapped for upstream with claims in flight, and back",
            |c| Box::pin(swap::to_upstream_and_back(c)),
        ));
    }
    trials.extend([
        together("nothing is lost however often the sidecar is killed", |c| {
            Box::pin(kill::alone(c))
        }),
        together("nothing is lost however often replicas are killed", |c| {
            Box::pin(kill::elected(c))
        }),
        together("a killed leader is followed by the other replica", |c| {
            Box::pin(replicas::killed(c))
        }),
        together("a leader killed in a deletion is followed up", |c| {
            Box::pin(replicas::killed_in_deletion(c))
        }),
        together("KUBECONFIG wins over the flag", |c| Box::pin(access::variable(c))),
        together("a container that restarts leads again at once", |c| {
            Box::pin(replicas::container_restarted(c))
        }),
        together("a terminated leader hands over at once", |c| {
            Box::pin(replicas::terminated(c))
        }),
        together("two hundred claims at once all get their volume", |c| {
            Box::pin(claims::burst(c))
        }),
        together("a driver that goes away and comes back costs nothing", |c| {
            Box::pin(outages::driver(c))
        }),
        together("a claim becomes a volume under our rights", |c| {
            Box::pin(claims::life_under_our_rights(c))
        }),
        together("a claim becomes a volume under upstream's rights", |c| {
            Box::pin(claims::life_under_upstreams_rights(c))
        }),
        together(
            "the driver of the suite places volumes where there is room",
            |c| Box::pin(placing::keeps_its_segments(c)),
        ),
        together("a retained volume stays at the driver", |c| {
            Box::pin(claims::retained(c))
        }),
    ]);
    // What needs a control plane of our own: its processes, its audit log, its etcd, its nodes.
    if !cluster::is_given() {
        trials.push(together(
            "a claim that waits for its first consumer gets its volume when the scheduler has chosen a node",
            |c| Box::pin(scheduled::first_consumer(c)),
        ));
        trials.push(together(
            "the scheduler takes the node whose published capacity is enough",
            |c| Box::pin(scheduled::capacity_decides(c)),
        ));
        trials.push(together(
            "volumes are made where the scheduler puts their Pods",
            |c| Box::pin(topology::follows_the_scheduler(c)),
        ));
        trials.push(together(
            "what the in-tree plugin of EBS left behind is the driver's",
            |c| Box::pin(migration::of_ebs(c)),
        ));
        trials.push(together("the scheduler knows what room the driver has", |c| {
            Box::pin(topology::capacity_is_published(c))
        }));
        trials.push(together(
            "a claim for which there is no room goes to another node",
            |c| Box::pin(topology::exhausted(c)),
        ));
        trials.push(together(
            "a claim whose node is deleted goes to another one",
            |c| Box::pin(topology::node_deleted(c)),
        ));
        trials.push(together("two nodes with a sidecar each share the claims", |c| {
            Box::pin(node_deployment::share_claims(c))
        }));
        trials.push(together(
            "the sidecar of each node tells the scheduler what room is there",
            |c| Box::pin(node_deployment::capacity_is_published(c)),
        ));
        if sidecar::under_test() == sidecar::Binary::Ours {
            trials.push(together("a clone from another namespace needs a grant", |c| {
                Box::pin(cross_namespace::a_clone_needs_a_grant(c))
            }));
        }
        trials.push(together(
            "a real kubelet knows two drivers as long as they have a registrar each, though not the same one",
            |c| Box::pin(registrar::two_drivers(c)),
        ));
        trials.push(together(
            "what a real kubelet has refused is registered by the next start of the registrar",
            |c| Box::pin(registrar::refused(c)),
        ));
        trials.push(together(
            "a real kubelet gets to know that a driver has another name, the registrar stays",
            |c| Box::pin(registrar::renamed(c)),
        ));
        trials.push(together(
            "a real kubelet that restarts finds every driver again",
            |c| Box::pin(registrar::kubelet_restarted(c)),
        ));
        trials.push(together(
            "a Pod on a real kubelet gets the volume of its claim, and gives it back",
            |c| Box::pin(registrar::mounted(c)),
        ));
        trials.push(together("the manifests apply as they are", |c| {
            Box::pin(manifests::apply(c))
        }));
        trials.push(together(
            "a ServiceAccount's files and two flags are enough",
            |c| Box::pin(access::in_cluster(c)),
        ));
        trials.push(together(
            "c19: a proxy is asked for the way to the API server",
            |c| Box::pin(access::c19_proxied(c)),
        ));
        trials.push(together(
            "a released lease is taken at once under our rights",
            |c| Box::pin(replicas::released_under_our_rights(c)),
        ));
        trials.push(together(
            "a released lease is taken at once under upstream's rights",
            |c| Box::pin(replicas::released_under_upstreams_rights(c)),
        ));
        trials.push(alone("an API server that restarts costs nothing", |c| {
            Box::pin(outages::api_server(c))
        }));
        if kill::wanted().is_some() {
            trials.push(alone("kill test beside upstream", |c| {
                Box::pin(kill::beside_upstream(c))
            }));
        }
        trials.push(alone(
            "a leader that stops, dies or hangs is followed within two seconds beyond its lease",
            |c| Box::pin(timing::measured(c)),
        ));
        // Upstream has no ledger.
        if sidecar::under_test() == sidecar::Binary::Ours {
            trials.push(alone("figures of the ledger", |c| {
                Box::pin(cost::of_the_ledger(c))
            }));
        }
        trials.push(alone("figures beside upstream", |c| {
            Box::pin(figures::side_by_side(c))
        }));
    }
    let conclusion = libtest_mimic::run(&arguments, trials);
    cluster::stop();
    conclusion.exit_code()
}

type Scenario = std::pin::Pin<Box<dyn Future<Output = ()>>>;

fn trial<F>(runtime: &tokio::runtime::Runtime, name: &str, scenario: F) -> Trial
where
    F: AsyncFnOnce(&'static Cluster) + Send + 'static,
{
    let handle = runtime.handle().clone();
    Trial::test(name, move || {
        handle.block_on(async {
            scenario(cluster::get()?).await;
            Ok(())
        })
    })
}
