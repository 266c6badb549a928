//! The wire contract of the control plane: messages, services and the JSON form of messages.
//!
//! Everything is generated from `proto/vaylix/admin/v1/*.proto`, which carry the documentation, and from the health
//! protocol of gRPC. Nothing here knows what any of it means.

#![forbid(unsafe_code)]
#![allow(missing_docs, unreachable_pub, clippy::all, reason = "generated; the .proto files are the source")]

/// Messages and services of Vaylix.
pub mod v1 {
    tonic::include_proto!("vaylix.admin.v1");
    include!(concat!(env!("OUT_DIR"), "/vaylix.admin.v1.serde.rs"));
}

/// The health protocol of gRPC.
pub mod health {
    tonic::include_proto!("grpc.health.v1");
}

/// Every file as a serialized `google.protobuf.FileDescriptorSet`, for reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
