//! A CSI driver with volumes in memory, for developing beside a real cluster: `make dev`.
//!
//! Nothing can mount what it makes. It says each call on standard output and forgets everything when it ends.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use anyhow::{Context, Result};
use clap::{Arg, Command, value_parser};
use sandbox::Driver;
use tokio::signal::unix::{SignalKind, signal};

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

async fn run() -> Result<()> {
    let flags = Command::new("driver")
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
        .get_matches();
    let socket: &PathBuf = flags.get_one("socket").context("--socket is missing")?;
    let name: &String = flags.get_one("name").context("--name is missing")?;

    let (mut term, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let driver = Driver::new(name);
    driver
        .listen(socket)
        .with_context(|| format!("cannot listen on {}", socket.display()))?;
    println!("driver: {name} on {}", socket.display());
    tokio::select! {
        never = say(&driver) => match never {},
        _ = term.recv() => {}
        _ = interrupt.recv() => {}
    }
    std::fs::remove_file(socket).with_context(|| format!("cannot remove {}", socket.display()))
}

/// Says each call once it is answered.
async fn say(driver: &Driver) -> std::convert::Infallible {
    let mut said = 0;
    loop {
        let calls = driver.calls();
        for call in calls.iter().skip(said) {
            let Some(code) = call.code else { break };
            said += 1;
            // The sidecar's way to see whether we still live.
            if call.method != "Probe" {
                println!("driver: {} {} {code:?}", call.method, call.target);
            }
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
