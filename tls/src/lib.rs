//! What this node proves its identity with, and how that changes while it runs.
//!
//! | Module | Is |
//! |---|---|
//! | `files` | the files an operator named, read as one |
//! | `certificate` | what a certificate says about itself |
//! | `material` | files that were checked, ready to accept and to open connections with |
//! | `changes` | when files that differ from those in force are worth an attempt |
//! | `expiry` | when somebody has to be told that a certificate ends |
//! | `keeper` | the material in force, and what replaces it |
//! | `user` | which user the certificate of a client stands for |
//! | `error` | why files cannot be used |
//!
//! Certificate, key and client authorities are one thing: they are read together, checked together and come into
//! force together, or not at all. Whoever accepts or opens connections holds a [`Current`] and takes the material of
//! the moment for each of them; connections that exist keep what they began with.
//!
//! The same material serves both directions. [`Material::server_config`] accepts; [`Material::client_config`] opens
//! connections on which this node shows its certificate to another one, which must let it count for client
//! authentication. In a cluster whose certificates come from one authority, [`Material::authorities`] is what
//! either side trusts.
//!
//! # How changes are noticed
//! SIGHUP asks for a reload. Besides, the files are read once a second and compared by content. Watching for events of
//! the file system would be cheaper by a few microseconds a second, and miss what it is there for: a mounted
//! secret changes by a symbolic link two directories up, and network file systems report nothing. Contents that
//! differ are tried when they have been the same twice, so that files which are replaced one after another are seen
//! when all of them are there.

mod certificate;
mod changes;
mod error;
mod expiry;
mod files;
mod keeper;
mod material;
mod user;

pub use error::Error;
pub use files::Files;
pub use keeper::{Current, Keeper};
pub use material::Material;
pub use user::{UserRule, fingerprint};

#[cfg(test)]
mod tests;
