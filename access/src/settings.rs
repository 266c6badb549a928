//! What the door is told when it opens, as plain data.

use std::time::Duration;

use vaylix_engine::BackupDir;
use vaylix_proto::Text;

use crate::audit;
use crate::bucket::Rate;
use crate::lockout::Lockout;
use crate::report::Report;
use crate::secret::Secret;

/// The size limits of requests. All count bytes or items and are inclusive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Longest key, name, permission name or pattern, in bytes.
    pub key_bytes_max: usize,
    /// Longest value, password, path or address, in bytes.
    pub value_bytes_max: usize,
    /// Most keys of one MGET, DEL or MSET.
    pub batch_keys_max: usize,
    /// Longest request payload, in bytes; also bounds inline dumps.
    pub request_payload_bytes_max: usize,
    /// Commands of one transaction, counting its MULTI.
    pub transaction_commands_max: usize,
    /// How long a transaction may stay open after its MULTI.
    pub transaction_time_max: Duration,
    /// How fast one connection may send requests.
    pub request_rate: Rate,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            key_bytes_max: 1024,
            value_bytes_max: 256 * 1024,
            batch_keys_max: 256,
            request_payload_bytes_max: 1024 * 1024,
            transaction_commands_max: 128,
            transaction_time_max: Duration::from_secs(30),
            request_rate: Rate::default(),
        }
    }
}

/// The name and the password that everybody can read in the documentation.
const WELL_KNOWN: &str = "vaylix";

/// Whether the pair is the documented default.
pub(crate) fn is_well_known(user: &str, password: &str) -> bool {
    user == WELL_KNOWN && password == WELL_KNOWN
}

/// The administrator that the configuration asks for.
#[derive(Clone)]
pub struct Administrator {
    /// User name.
    pub user: Text,
    /// Password; not subject to the password policy.
    pub password: Secret,
    /// Whether an operator set the pair, or it is the built-in default. A default serves the first start
    /// only and never touches existing users.
    pub explicit: bool,
}

impl Administrator {
    /// Whether the pair is the documented default.
    #[must_use]
    pub fn is_well_known(&self) -> bool {
        is_well_known(&self.user, self.password.expose())
    }
}

impl Default for Administrator {
    /// The documented default.
    fn default() -> Self {
        Self { user: Text::from_static(WELL_KNOWN), password: WELL_KNOWN.into(), explicit: false }
    }
}

/// Whether clients must log in.
#[derive(Clone)]
pub enum Authentication {
    /// They must, and permissions are checked.
    Required {
        /// Who exists from the first start on.
        administrator: Administrator,
        /// Whether the documented default pair is let in. Where anybody but this machine can connect, it is only
        /// when an operator configured exactly that.
        accepts_well_known: bool,
    },
    /// They need not; everybody may do everything.
    Disabled,
}

/// Everything the door needs to know besides its node.
#[derive(Clone)]
pub struct Settings {
    /// Who must log in.
    pub authentication: Authentication,
    /// When logins are locked.
    pub lockout: Lockout,
    /// What is too large.
    pub limits: Limits,
    /// How the audit log is kept.
    pub audit: audit::Settings,
    /// Where backup files live.
    pub backups: BackupDir,
    /// Facts of other parts of the server that INFO and the status commands show.
    pub report: Report,
}
