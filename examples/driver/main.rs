//! A CSI driver with volumes in memory, for developing beside a real cluster: `make dev`. csi-sanity passes against it.
//!
//! Nothing can mount what it makes: what it publishes on a node is an empty directory or file. It says each call on
//! standard output and forgets everything when it ends.

mod controller;
mod identity;
mod node;
mod snapshots;
mod volumes;

use std::{collections::BTreeMap, path::PathBuf, process::ExitCode, sync::Arc};

use anyhow::{Context, Result};
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use parking_lot::Mutex;
use sandbox::driver::proto::{
    controller_server::ControllerServer, identity_server::IdentityServer, node_server::NodeServer,
};
use tokio::{
    net::UnixListener,
    signal::unix::{SignalKind, signal},
};
use tonic::{Code, Response, Status, transport::Server};

use node::Paths;
use volumes::{Segment, Volumes};

/// Keys and values of a segment.
type Labels = BTreeMap<String, String>;

/// All three services. Clones share the same volumes.
#[derive(Clone)]
struct Driver {
    name: String,
    node: String,
    volumes: Arc<Mutex<Volumes>>,
    paths: Arc<Mutex<Paths>>,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("driver: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn flags() -> ArgMatches {
    Command::new("driver")
        .arg(
            Arg::new("socket")
                .long("socket")
                .required(true)
                .value_parser(value_parser!(PathBuf))
                .help("where the unix socket is made"),
        )
        .arg(
            Arg::new("name")
                .long("name")
                .default_value("demo.csi.example.com")
                .help("what StorageClasses call the driver"),
        )
        .arg(
            Arg::new("node")
                .long("node")
                .default_value("node-1")
                .help("the node that this driver is on"),
        )
        .arg(
            Arg::new("segment")
                .long("segment")
                .action(ArgAction::Append)
                .value_parser(segment)
                .help("where volumes can be and room in bytes, such as zone=a,rack=1:1073741824; once for each; the first is the node's own"),
        )
        .get_matches()
}

/// Labels, and after a colon the room.
fn segment(text: &str) -> Result<Segment, String> {
    let (labels, room) = match text.split_once(':') {
        Some((labels, room)) => (labels, room.parse().map_err(|error| format!("{room}: {error}"))?),
        None => (text, volumes::ROOM),
    };
    let pair = |pair: &str| {
        let (key, value) = pair.split_once('=').ok_or(format!("no = in {pair}"))?;
        Ok((key.to_owned(), value.to_owned()))
    };
    let labels = labels.split(',').map(pair).collect::<Result<Labels, String>>()?;
    Ok(Segment { labels, room })
}

async fn run() -> Result<()> {
    let flags = flags();
    let socket: &PathBuf = flags.get_one("socket").context("--socket is missing")?;
    let text = |flag: &str| flags.get_one::<String>(flag).cloned().unwrap_or_default();
    let segments: Vec<Segment> = flags.get_many("segment").unwrap_or_default().cloned().collect();
    let driver = Driver {
        name: text("name"),
        node: text("node"),
        volumes: Arc::new(Mutex::new(Volumes::new(segments))),
        paths: Arc::default(),
    };

    let (mut term, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let listener =
        UnixListener::bind(socket).with_context(|| format!("cannot listen on {}", socket.display()))?;
    println!("driver: {} on {}", driver.name, socket.display());
    let connections = futures::stream::unfold(listener, async |listener| {
        let next = listener.accept().await.map(|(connection, _)| connection);
        Some((next, listener))
    });
    let server = Server::builder()
        .add_service(IdentityServer::new(driver.clone()))
        .add_service(ControllerServer::new(driver.clone()))
        .add_service(NodeServer::new(driver))
        .serve_with_incoming(connections);
    tokio::select! {
        ended = server => ended?,
        _ = term.recv() => {}
        _ = interrupt.recv() => {}
    }
    std::fs::remove_file(socket).with_context(|| format!("cannot remove {}", socket.display()))
}

/// Says a call, with the name or id that it is about, as it is answered.
fn answer<T>(method: &str, about: &str, result: Result<T, Status>) -> Result<Response<T>, Status> {
    let code = result.as_ref().err().map_or(Code::Ok, Status::code);
    println!("driver: {method} {about} {code:?}");
    result.map(Response::new)
}

/// Refuses a request whose field is empty.
fn given(field: &str, value: &str) -> Result<(), Status> {
    match value {
        "" => Err(Status::invalid_argument(format!("{field} is empty"))),
        _ => Ok(()),
    }
}

/// Refuses a request without capabilities.
fn some<T>(field: &str, values: impl IntoIterator<Item = T>) -> Result<(), Status> {
    match values.into_iter().next() {
        None => Err(Status::invalid_argument(format!("{field} is missing"))),
        Some(_) => Ok(()),
    }
}
