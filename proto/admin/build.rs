//! Generates messages, services and the JSON form of messages from the `.proto` files, without `protoc`.

use std::error::Error;
use std::path::{Path, PathBuf};

use prost::Message as _;

const FOLDER: &str = "..";
const FILES: &[&str] = &[
    "grpc/health/v1/health.proto",
    "vaylix/admin/v1/access.proto",
    "vaylix/admin/v1/audit.proto",
    "vaylix/admin/v1/backup.proto",
    "vaylix/admin/v1/cluster.proto",
    "vaylix/admin/v1/keys.proto",
    "vaylix/admin/v1/live.proto",
    "vaylix/admin/v1/maintenance.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed={FOLDER}/grpc");
    println!("cargo::rerun-if-changed={FOLDER}/vaylix");
    let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("no OUT_DIR")?);
    let descriptors = protox::compile(FILES, [Path::new(FOLDER)])?;
    let encoded = descriptors.encode_to_vec();
    std::fs::write(out.join("descriptors.bin"), &encoded)?;
    tonic_prost_build::configure()
        .build_transport(false)
        .emit_rerun_if_changed(false)
        .compile_fds(descriptors)?;
    pbjson_build::Builder::new().register_descriptors(&encoded)?.build(&[".vaylix"])?;
    Ok(())
}
