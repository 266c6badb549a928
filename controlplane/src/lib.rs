//! The control plane: administration over gRPC and HTTP on one port.
//!
//! It stands beside the data plane on the same door and knows nothing of the other: every request is admitted by
//! [`vaylix_access::Door`] under the rules that hold there too, and every answer is written down by it.
//!
//! | Module | Is |
//! |---|---|
//! | `listener` | the accept loop |
//! | `connection` | one connection from accept to close: TLS, HTTP, who has been silent for too long |
//! | `patient` | a stream that does not wait for ever for the other side to read |
//! | `stage` | how far the server is between its start and its end; there is no door before it is ready |
//! | `frame` | what happens to every request before and after its handler |
//! | `caller` | who asks, and the way through the door |
//! | `cookie` | the cookie of a browser, and what it takes besides it |
//! | `fault` | what a refusal looks like in gRPC and in HTTP |
//! | `service` | the handlers: plain functions on typed messages |
//! | `api` | the one table of operations, from which the gRPC services, the JSON routes and the OpenAPI document come |
//! | `console` | the page for people, and its files |
//! | `events` | event streams over HTTP |
//! | `live` | what is remembered for those who watch |
//! | `settings` | what the server was started with |
//! | `health` | `grpc.health.v1` |
//! | `probes` | `/livez`, `/readyz` and the others |
//! | `metrics` | `/metrics` |
//! | `page` | parts of long lists |
//! | `openapi` | the description of the JSON API |
//! | `caps` | every bound |
//!
//! Absences: nothing here opens a file or reaches the node past the door, and nothing that is asked with GET changes anything.

#![allow(clippy::result_large_err, reason = "a refusal carries all that is told of it, and is rare")]

mod api;
mod caller;
mod caps;
mod connection;
mod console;
mod cookie;
mod events;
mod fault;
mod frame;
mod health;
mod listener;
mod live;
mod metrics;
mod openapi;
mod page;
mod patient;
mod probes;
mod service;
mod settings;
mod stage;

pub use listener::{BindError, Scope, Server, Settings, Socket};
pub use settings::{Setting, SettingSource};
pub use stage::{Replay, Stage};
