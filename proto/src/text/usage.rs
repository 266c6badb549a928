//! The table of command phrases and their usage.

/// One row of the help table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// The words that name the command.
    pub phrase: &'static str,
    /// How it is written.
    pub usage: &'static str,
}

pub(super) const AUTH: &str = "auth <username> <password>";
pub(super) const PING: &str = "ping [message]";
pub(super) const GET: &str = "get <key>";
pub(super) const SET: &str =
    "set <key> <value> [nx|xx] [if version <version>] [ex <seconds>|px <millis>] [keepttl] [get]";
pub(super) const SETNX: &str = "setnx <key> <value>";
pub(super) const GETDEL: &str = "getdel <key>";
pub(super) const GETEX: &str = "getex <key> [ex <seconds>|px <millis>|persist]";
pub(super) const MGET: &str = "mget <key> [key ...]";
pub(super) const MSET: &str = "mset <key> <value> [key value ...]";
pub(super) const DEL: &str = "del <key> [key ...]";
pub(super) const EXISTS: &str = "exists <key>";
pub(super) const INCR: &str = "incr <key>";
pub(super) const DECR: &str = "decr <key>";
pub(super) const EXPIRE: &str = "expire <key> <seconds>";
pub(super) const TTL: &str = "ttl <key>";
pub(super) const PERSIST: &str = "persist <key>";
pub(super) const RENAME: &str = "rename <source> <destination>";
pub(super) const RENAMENX: &str = "renamenx <source> <destination>";
pub(super) const SCAN: &str = "scan <cursor> [match <pattern>] [count <n>]";
pub(super) const METRICS: &str = "metrics [prom]";
pub(super) const BACKUP: &str =
    "backup [to <path>] | backup verify <logical-dump-json> | backup verify from <path>";
pub(super) const RESTORE: &str = "restore <logical-dump-json> | restore from <path> | restore check <logical-dump-json> | restore check from <path>";
pub(super) const ALTER_USER: &str = "alter user <username> password <password>";
pub(super) const CREATE: &str = "create user <username> password <password> | create role <role>";
pub(super) const CREATE_USER: &str = "create user <username> password <password>";
pub(super) const CREATE_ROLE: &str = "create role <role>";
pub(super) const DROP: &str = "drop user <username> | drop role <role>";
pub(super) const DROP_USER: &str = "drop user <username>";
pub(super) const DROP_ROLE: &str = "drop role <role>";
pub(super) const GRANT: &str =
    "grant role <role> to <username> | grant permission <permission> [on <pattern>] to <role>";
pub(super) const REVOKE: &str =
    "revoke role <role> from <username> | revoke permission <permission> [on <pattern>] from <role>";
pub(super) const SHOW: &str = "show users | show roles | show grants | show grants for user <username> | show grants for role <role> | show replication | show cluster";
pub(super) const MAINTENANCE: &str = "maintenance <on|off|status>";
pub(super) const CLUSTER: &str = "cluster <join|remove> ...";
pub(super) const CLUSTER_JOIN: &str = "cluster join <node-id> <host:port>";
pub(super) const CLUSTER_REMOVE: &str = "cluster remove <node-id>";
pub(super) const PROMOTE: &str = "promote follower";
pub(super) const PAUSE: &str = "pause replication";
pub(super) const RESUME: &str = "resume replication";

const fn row(phrase: &'static str, usage: &'static str) -> Usage {
    Usage { phrase, usage }
}

/// Every phrase a client understands, in the order in which `help` shows them.
pub const USAGES: &[Usage] = &[
    row("auth", AUTH),
    row("ping", PING),
    row("get", GET),
    row("set", SET),
    row("setnx", SETNX),
    row("getdel", GETDEL),
    row("getex", GETEX),
    row("mget", MGET),
    row("mset", MSET),
    row("del", DEL),
    row("delete", "delete <key> [key ...]"),
    row("exists", EXISTS),
    row("incr", INCR),
    row("decr", DECR),
    row("expire", EXPIRE),
    row("ttl", TTL),
    row("persist", PERSIST),
    row("rename", RENAME),
    row("renamenx", RENAMENX),
    row("scan", SCAN),
    row("dbsize", "dbsize"),
    row("count", "count"),
    row("info", "info"),
    row("metrics", "metrics"),
    row("metrics prom", "metrics prom"),
    row("list", "list"),
    row("clear", "clear"),
    row("flushdb", "flushdb"),
    row("save", "save"),
    row("snapshot", "snapshot"),
    row("backup", "backup"),
    row("backup to", "backup to <path>"),
    row("backup verify", "backup verify <logical-dump-json>"),
    row("backup verify from", "backup verify from <path>"),
    row("restore", "restore <logical-dump-json>"),
    row("restore from", "restore from <path>"),
    row("restore check", "restore check <logical-dump-json>"),
    row("restore check from", "restore check from <path>"),
    row("alter user", ALTER_USER),
    row("create user", CREATE_USER),
    row("create role", CREATE_ROLE),
    row("drop user", DROP_USER),
    row("drop role", DROP_ROLE),
    row("grant role", "grant role <role> to <username>"),
    row("grant permission", "grant permission <permission> [on <pattern>] to <role>"),
    row("revoke role", "revoke role <role> from <username>"),
    row("revoke permission", "revoke permission <permission> [on <pattern>] from <role>"),
    row("show users", "show users"),
    row("show roles", "show roles"),
    row("show grants", "show grants"),
    row("show grants for user", "show grants for user <username>"),
    row("show grants for role", "show grants for role <role>"),
    row("whoami", "whoami"),
    row("multi", "multi"),
    row("exec", "exec"),
    row("discard", "discard"),
    row("maintenance on", "maintenance on"),
    row("maintenance off", "maintenance off"),
    row("maintenance status", "maintenance status"),
    row("health", "health"),
    row("show cluster", "show cluster"),
    row("cluster join", CLUSTER_JOIN),
    row("cluster remove", CLUSTER_REMOVE),
    row("show replication", "show replication"),
    row("promote follower", PROMOTE),
    row("pause replication", PAUSE),
    row("resume replication", RESUME),
    row("help", "help"),
    row("exit", "exit"),
    row("quit", "quit"),
];
