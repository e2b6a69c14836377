//! Turns `proto/csi.proto` into messages, and `proto/pluginregistration.proto` into a service, in Rust and without
//! protoc.
//!
//! No gRPC client of CSI is generated: the one way to call the driver is the door in `src/csi/rpc.rs`, and no stub of
//! ours may open a second one. The registration service is served to the kubelet, and called by the self-check.
//!
//! prost drops the option `csi_secret`, the descriptors keep it. Every message that has such a field gets a
//! `Debug` from here that hides its value, so that no log line, now or with a later specification, can show it.

use std::{env, error::Error, fmt::Write, fs, path::Path};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto/csi.proto");
    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler.include_imports(true).open_file("csi.proto")?;

    let pool = compiler.descriptor_pool();
    let secret = pool
        .get_extension_by_name("csi.v1.csi_secret")
        .ok_or("csi.proto does not define csi_secret")?;
    let mut redacted = Vec::new();
    let mut debug = String::new();
    for message in pool.all_messages() {
        let is_secret = |name: &str| {
            message
                .get_field_by_name(name)
                .is_some_and(|field| field.options().get_extension(&secret).as_bool() == Some(true))
        };
        let names: Vec<String> = message.fields().map(|field| field.name().to_owned()).collect();
        if !names.iter().any(|name| is_secret(name)) {
            continue;
        }
        // No such message of CSI is nested or has a oneof; should one come, this has to learn their Rust names.
        if message.parent_message().is_some() || message.oneofs().len() > 0 {
            return Err(format!("build.rs cannot redact {} yet", message.full_name()).into());
        }
        let name = message.name();
        writeln!(debug, "impl std::fmt::Debug for {name} {{")?;
        writeln!(
            debug,
            "    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {{"
        )?;
        writeln!(debug, "        let Self {{ {} }} = self;", names.join(", "))?;
        writeln!(debug, "        let mut out = f.debug_struct(\"{name}\");")?;
        for field in &names {
            let shown = if is_secret(field) {
                format!("stripped({field})")
            } else {
                field.clone()
            };
            writeln!(debug, "        out.field(\"{field}\", {shown});")?;
        }
        writeln!(debug, "        out.finish()\n    }}\n}}")?;
        redacted.push(format!(".{}", message.full_name()));
    }
    fs::write(Path::new(&env::var("OUT_DIR")?).join("redacted.rs"), debug)?;

    prost_build::Config::new()
        .btree_map(["."])
        .disable_comments(["."])
        .skip_debug(redacted)
        .compile_fds(compiler.file_descriptor_set())?;

    println!("cargo:rerun-if-changed=proto/pluginregistration.proto");
    tonic_prost_build::configure()
        // What `connect` would need; the self-check brings a connection of its own.
        .build_transport(false)
        .disable_comments(["."])
        .compile_fds(protox::compile(["pluginregistration.proto"], ["proto"])?)?;
    Ok(())
}
