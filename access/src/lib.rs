//! The one door: who are you, may you, and what is the answer.
//!
//! Both planes speak to a [`Door`] and to nothing behind it. A session keeps the [`Visitor`] that
//! [`Door::arrival`] gave it, takes a [`Ticket`] for each request, and asks [`Door::admit`] about each command. The
//! answer is an [`Admission`], and only the [`Admitted`] command inside can be carried out: no path can forget login,
//! quota or permission. Whatever comes of it is an [`Answer`], which is written down as it is given: no path can
//! forget the [audit] log either.
//!
//! # The order of checks
//! [`Door::admit`] decides in this order, and the first refusal answers:
//! 1. size limits of the arguments (`SRV-013`),
//! 2. AUTH leaves for [`Door::login`],
//! 3. login (`SRV-007`), which only PING does without; identities follow changed rules here,
//! 4. the life time of an open transaction (`SRV-034`),
//! 5. maintenance mode (`SRV-033`),
//! 6. the leader, where only the leader can do it (`SRV-037`); a state that is right, where it takes one (`SRV-005`),
//! 7. the transaction: full (`SRV-013`), active or missing (`SRV-014`, `SRV-015`), not to be queued (`SRV-016`),
//! 8. permission (`SRV-017`).
//!
//! # Access rules are data
//! Users, roles and grants are records in the system part of the replicated state (see `record`). Their
//! revision travels with every change, and the state refuses a change that was admitted under an older one;
//! the door then admits it anew. So a permission taken away is gone everywhere at once, and rules and keys
//! have one history. Maintenance mode is such a record too: nothing that was admitted before it is applied after it.

mod administer;
mod admission;
pub mod audit;
mod backup;
mod backup_files;
mod bucket;
mod change;
pub mod cluster;
mod counters;
mod door;
mod entries;
mod execute;
mod grant;
mod identity;
mod keys;
mod latency;
mod limits;
mod lockout;
mod overview;
mod password;
pub mod peers;
mod permission;
mod policy;
mod pulse;
mod quota;
mod record;
pub mod refusal;
mod report;
mod rule;
mod scrub;
mod secret;
mod session;
mod settings;
mod show;
mod status;
mod subject;
mod task;
mod ticket;
mod tls;
mod token;
mod turns;
mod vitals;

pub use admission::{Admission, Admitted, Login, Postponed, Queued, Standing, Transaction};
pub use bucket::{Bucket, Rate};
pub use counters::{Counters, Metric};
pub use door::{Door, OpenError};
pub use execute::Pending;
pub use identity::Identity;
pub use keys::{KeyChoice, KeyPage, KeySummary, KeyView};
pub use latency::{RequestClass, RequestTimes};
pub use lockout::Lockout;
pub use overview::{Figures, Overview, RightView, RightsView, RoleView, UserView, WhoView};
pub use permission::{Permission, Permissions};
pub use pulse::{Office, Pulse};
pub use report::Report;
pub use scrub::{Finding, Verification, Verified};
pub use secret::Secret;
pub use session::SessionView;
pub use settings::{Administrator, Authentication, Limits, Settings};
pub use task::{AdmittedTask, Download, Outcome, SessionChoice, Task, Upload};
pub use ticket::{Answer, Ticket, Visitor};
pub use tls::Certificate;
pub use token::{RENEWALS_TIME_MAX, TOKEN_LIFE, Token};
pub use vaylix_consensus::{MemberStatus, Role, Status};
pub use vaylix_engine::backups::BackupFile;
pub use vaylix_engine::dump::Summary as BackupContent;
pub use vaylix_engine::durations::Durations;
pub use vaylix_engine::sizes::Sizes;
pub use vitals::Vitals;
