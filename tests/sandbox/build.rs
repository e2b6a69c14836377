//! Compiles the protos of CSI and of plugin registration: the servers, because the sandbox is the driver's side, and
//! clients to try them and for the kubelet.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=../../proto");
    let descriptors = protox::compile(["csi.proto", "pluginregistration.proto"], ["../../proto"])?;
    tonic_prost_build::configure()
        .build_client(true)
        .generate_default_stubs(true)
        .btree_map(".")
        .disable_comments(["."])
        .compile_fds(descriptors)?;
    Ok(())
}
