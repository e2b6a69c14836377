//! `proto/csi.proto` says what the published CSI says: every field, enum value, method, extension and option.
//!
//! The published file comes from the Go module cache (or proxy); nothing of it is kept here.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{collections::BTreeSet, path::Path, process::Command};

/// The specification that this project speaks.
const SPEC: &str = "github.com/container-storage-interface/spec@v1.13.0";

#[test]
fn our_csi_proto_declares_what_the_published_one_declares() {
    let ours = declarations(&Path::new(env!("CARGO_MANIFEST_DIR")).join("proto"));
    let theirs = declarations(Path::new(&published()));
    assert!(
        theirs.len() > 400,
        "the published file shrank to {} declarations: is this CSI?",
        theirs.len()
    );

    let missing = theirs.difference(&ours).map(|line| format!("- {line}"));
    let invented = ours.difference(&theirs).map(|line| format!("+ {line}"));
    let differences: Vec<String> = missing.chain(invented).collect();
    assert!(
        differences.is_empty(),
        "proto/csi.proto differs from {SPEC} (-: published, +: ours):\n{}",
        differences.join("\n")
    );
}

/// One line for each thing that a proto file declares; a difference is a line that only one side has.
fn declarations(folder: &Path) -> BTreeSet<String> {
    let mut compiler = protox::Compiler::new([folder]).expect("the folder exists");
    compiler
        .include_imports(true)
        .open_file("csi.proto")
        .expect("csi.proto compiles");
    let pool = compiler.descriptor_pool();
    let ours = |package: &str| package == "csi.v1";
    let mut lines = BTreeSet::new();

    for message in pool.all_messages().filter(|message| ours(message.package_name())) {
        let reserved: Vec<_> = message.reserved_ranges().collect();
        lines.insert(format!(
            "message {} {} reserved {reserved:?}",
            message.full_name(),
            message.options()
        ));
        for field in message.fields() {
            lines.insert(format!(
                "field {} = {}: {:?} {:?} in {:?} {}",
                field.full_name(),
                field.number(),
                field.cardinality(),
                field.kind(),
                field.containing_oneof().map(|oneof| oneof.full_name().to_owned()),
                field.options(),
            ));
        }
    }
    for list in pool.all_enums().filter(|list| ours(list.package_name())) {
        let reserved: Vec<_> = list.reserved_ranges().collect();
        lines.insert(format!(
            "enum {} {} reserved {reserved:?}",
            list.full_name(),
            list.options()
        ));
        for value in list.values() {
            lines.insert(format!(
                "value {} = {} {}",
                value.full_name(),
                value.number(),
                value.options()
            ));
        }
    }
    for service in pool.services() {
        lines.insert(format!("service {} {}", service.full_name(), service.options()));
        for method in service.methods() {
            lines.insert(format!(
                "method {}: {} stream {} -> {} stream {} {}",
                method.full_name(),
                method.input().full_name(),
                method.is_client_streaming(),
                method.output().full_name(),
                method.is_server_streaming(),
                method.options(),
            ));
        }
    }
    for extension in pool.all_extensions() {
        lines.insert(format!(
            "extension {} = {}: {:?} of {}",
            extension.full_name(),
            extension.number(),
            extension.kind(),
            extension.containing_message().full_name(),
        ));
    }
    lines
}

/// The folder of the published specification.
fn published() -> String {
    let output = Command::new("go")
        .args(["mod", "download", "-json", SPEC])
        .env("GOFLAGS", "-mod=mod")
        // Outside of any module, so that no go.mod of anybody has a say or is written to.
        .current_dir(std::env::temp_dir())
        .output()
        .expect("go is installed (the tests on the real control plane need it too)");
    let answer = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "go mod download failed: {answer}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let answer: serde_json::Value = serde_json::from_str(&answer).expect("go answers in JSON");
    answer["Dir"].as_str().expect("go tells the folder").to_owned()
}
