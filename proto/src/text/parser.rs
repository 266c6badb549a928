//! Words into commands.
//!
//! Command, sub-command and option words are compared without regard to ASCII case; all other words are data. The
//! number of words is judged first, then the words from left to right, and the first mistake is reported.

use std::str::FromStr;

use bytes::Bytes;

use super::{Line, TextError, usage};
use crate::command::{Command, Condition, Dump, Expiration, SetOptions, Text};

/// Reads the words of one line.
pub(super) fn parse(words: Vec<String>) -> Result<Line, TextError> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let [first, args @ ..] = words.as_slice() else { return Err(TextError::Empty) };
    let name = first.to_ascii_lowercase();
    let command = match name.as_str() {
        "help" => return no_arguments(args, "help", Line::Help),
        "exit" | "quit" => return no_arguments(args, "exit", Line::Exit),
        "auth" => match args {
            [user, password] => Command::Auth { user: text(user), password: text(password) },
            _ => return Err(TextError::Arity(usage::AUTH)),
        },
        "ping" => match args {
            [] => Command::Ping { message: None },
            [message] => Command::Ping { message: Some(text(message)) },
            _ => return Err(TextError::Arity(usage::PING)),
        },
        "get" => Command::Get { key: one(args, usage::GET)? },
        "exists" => Command::Exists { key: one(args, usage::EXISTS)? },
        "incr" => Command::Incr { key: one(args, usage::INCR)? },
        "decr" => Command::Decr { key: one(args, usage::DECR)? },
        "ttl" => Command::Ttl { key: one(args, usage::TTL)? },
        "persist" => Command::Persist { key: one(args, usage::PERSIST)? },
        "getdel" => Command::GetDel { key: one(args, usage::GETDEL)? },
        "set" => set(args)?,
        "setnx" => {
            let [key, value] = two(args, usage::SETNX)?;
            Command::SetNx { key: text(key), value: bytes(value) }
        }
        "getex" => getex(args)?,
        "mget" => Command::MGet { keys: some(args, usage::MGET)? },
        "del" | "delete" => Command::Del { keys: some(args, usage::DEL)? },
        "mset" => mset(args)?,
        "expire" => {
            let [key, seconds] = two(args, usage::EXPIRE)?;
            Command::Expire { key: text(key), seconds: integer("seconds", seconds)? }
        }
        "rename" => {
            let [source, destination] = two(args, usage::RENAME)?;
            Command::Rename { source: text(source), destination: text(destination) }
        }
        "renamenx" => {
            let [source, destination] = two(args, usage::RENAMENX)?;
            Command::RenameNx { source: text(source), destination: text(destination) }
        }
        "scan" => scan(args)?,
        "dbsize" => no_arguments(args, "dbsize", Command::DbSize)?,
        "count" => no_arguments(args, "count", Command::Count)?,
        "info" => no_arguments(args, "info", Command::Info)?,
        "list" => no_arguments(args, "list", Command::List)?,
        "whoami" => no_arguments(args, "whoami", Command::WhoAmI)?,
        "health" => no_arguments(args, "health", Command::Health)?,
        "multi" => no_arguments(args, "multi", Command::Multi)?,
        "exec" => no_arguments(args, "exec", Command::Exec)?,
        "discard" => no_arguments(args, "discard", Command::Discard)?,
        "clear" => no_arguments(args, "clear", Command::Clear)?,
        "flushdb" => no_arguments(args, "flushdb", Command::Clear)?,
        "save" => no_arguments(args, "save", Command::Save)?,
        "snapshot" => no_arguments(args, "snapshot", Command::Snapshot)?,
        "metrics" => match args {
            [] => Command::Metrics,
            [prom] if is(prom, "prom") => Command::MetricsProm,
            _ => return Err(TextError::Arity(usage::METRICS)),
        },
        "backup" => backup(args)?,
        "restore" => restore(args)?,
        "create" => create(args)?,
        "alter" => match args {
            [user, name, password, secret] if is(user, "user") && is(password, "password") => {
                Command::AlterUserPassword { user: text(name), password: text(secret) }
            }
            _ => return Err(TextError::Arity(usage::ALTER_USER)),
        },
        "drop" => drop_named(args)?,
        "grant" => grant(args)?,
        "revoke" => revoke(args)?,
        "show" => show(args)?,
        "maintenance" => match args {
            [word] if is(word, "on") => Command::MaintenanceOn,
            [word] if is(word, "off") => Command::MaintenanceOff,
            [word] if is(word, "status") => Command::MaintenanceStatus,
            _ => return Err(TextError::Arity(usage::MAINTENANCE)),
        },
        "cluster" => cluster(args)?,
        "promote" => one_fixed(args, "follower", usage::PROMOTE, Command::PromoteFollower)?,
        "pause" => one_fixed(args, "replication", usage::PAUSE, Command::PauseReplication)?,
        "resume" => one_fixed(args, "replication", usage::RESUME, Command::ResumeReplication)?,
        _ => return Err(TextError::UnknownCommand(name)),
    };
    Ok(Line::Command(command))
}

fn set(args: &[&str]) -> Result<Command, TextError> {
    let [key, value, words @ ..] = args else { return Err(TextError::Arity(usage::SET)) };
    let conflict = |detail| Err(TextError::Conflict { command: "set", detail });
    let mut options = SetOptions::default();
    let mut rest = words;
    while let [word, after @ ..] = rest {
        rest = after;
        match word.to_ascii_lowercase().as_str() {
            condition @ ("nx" | "xx") => {
                if options.condition != Condition::Always {
                    return conflict("only one of NX or XX may be specified");
                }
                if options.if_version.is_some() {
                    return conflict("NX or XX cannot be combined with IF VERSION");
                }
                options.condition =
                    if condition == "nx" { Condition::IfMissing } else { Condition::IfPresent };
            }
            "if" => {
                let version = match after {
                    [fixed, number, after @ ..] if is(fixed, "version") => {
                        rest = after;
                        number
                    }
                    [fixed] if is(fixed, "version") => return Err(TextError::Arity(usage::SET)),
                    _ => return Err(TextError::Option { command: "set", option: (*word).to_owned() }),
                };
                if options.condition != Condition::Always {
                    return conflict("IF VERSION cannot be combined with NX or XX");
                }
                let version = integer("version", version)?;
                if options.if_version.replace(version).is_some() {
                    return conflict("IF VERSION can only be specified once");
                }
            }
            unit @ ("ex" | "px") => {
                let [number, after @ ..] = after else { return Err(TextError::Arity(usage::SET)) };
                rest = after;
                let expiration = expiration(unit, number)?;
                if options.keep_ttl {
                    return conflict("EX or PX cannot be combined with KEEPTTL");
                }
                if options.expiration.replace(expiration).is_some() {
                    return conflict("only one of EX or PX may be specified");
                }
            }
            "keepttl" => {
                if options.expiration.is_some() {
                    return conflict("KEEPTTL cannot be combined with EX or PX");
                }
                if std::mem::replace(&mut options.keep_ttl, true) {
                    return conflict("KEEPTTL can only be specified once");
                }
            }
            "get" => {
                if std::mem::replace(&mut options.return_previous, true) {
                    return conflict("GET can only be specified once");
                }
            }
            _ => return Err(unknown_option("set", word)),
        }
    }
    Ok(Command::Set { key: text(key), value: bytes(value), options })
}

fn getex(args: &[&str]) -> Result<Command, TextError> {
    let conflict = |detail| Err(TextError::Conflict { command: "getex", detail });
    let is_unit = |word: &str| is(word, "ex") || is(word, "px");
    let (key, expiration, persist) = match args {
        [key] => (key, None, false),
        [key, word] if is(word, "persist") => (key, None, true),
        [key, unit, number] if is_unit(unit) => (key, Some(expiration(unit, number)?), false),
        [_, unit] if is_unit(unit) => return Err(TextError::Arity(usage::GETEX)),
        [_, first, second] if is(first, "persist") => {
            return match *second {
                word if is(word, "persist") => conflict("PERSIST can only be specified once"),
                word if is_unit(word) => conflict("PERSIST cannot be combined with EX or PX"),
                word => Err(unknown_option("getex", word)),
            };
        }
        [_, word] | [_, word, _] => return Err(unknown_option("getex", word)),
        _ => return Err(TextError::Arity(usage::GETEX)),
    };
    Ok(Command::GetEx { key: text(key), expiration, persist })
}

fn mset(args: &[&str]) -> Result<Command, TextError> {
    match args.as_chunks::<2>() {
        ([], _) | (_, [_, ..]) => Err(TextError::Arity(usage::MSET)),
        (pairs, []) => {
            let pairs = pairs.iter().map(|[key, value]| (text(key), bytes(value))).collect();
            Ok(Command::MSet { pairs })
        }
    }
}

fn scan(args: &[&str]) -> Result<Command, TextError> {
    let [cursor, words @ ..] = args else { return Err(TextError::Arity(usage::SCAN)) };
    let conflict = |detail| Err(TextError::Conflict { command: "scan", detail });
    let cursor = integer("cursor", cursor)?;
    let (mut pattern, mut count) = (None, None);
    let mut rest = words;
    while let [word, after @ ..] = rest {
        let (is_match, is_count) = (is(word, "match"), is(word, "count"));
        if !is_match && !is_count {
            return Err(unknown_option("scan", word));
        }
        let [operand, after @ ..] = after else { return Err(TextError::Arity(usage::SCAN)) };
        rest = after;
        if is_match && pattern.replace(text(operand)).is_some() {
            return conflict("MATCH can only be specified once");
        }
        if is_count && count.replace(integer("count", operand)?).is_some() {
            return conflict("COUNT can only be specified once");
        }
    }
    Ok(Command::Scan { cursor, pattern, count })
}

fn backup(args: &[&str]) -> Result<Command, TextError> {
    match args {
        [] => Ok(Command::Backup),
        [to, path] if is(to, "to") => Ok(Command::BackupTo { path: text(path) }),
        [verify, from, path] if is(verify, "verify") && is(from, "from") => {
            Ok(Command::BackupVerify(Dump::File(text(path))))
        }
        [verify, dump] if is(verify, "verify") && !is(dump, "from") => {
            Ok(Command::BackupVerify(Dump::Inline(text(dump))))
        }
        _ => Err(TextError::Arity(usage::BACKUP)),
    }
}

fn restore(args: &[&str]) -> Result<Command, TextError> {
    match args {
        [dump] if !is(dump, "from") && !is(dump, "check") => Ok(Command::Restore(Dump::Inline(text(dump)))),
        [from, path] if is(from, "from") => Ok(Command::Restore(Dump::File(text(path)))),
        [check, from, path] if is(check, "check") && is(from, "from") => {
            Ok(Command::RestoreCheck(Dump::File(text(path))))
        }
        [check, dump] if is(check, "check") && !is(dump, "from") => {
            Ok(Command::RestoreCheck(Dump::Inline(text(dump))))
        }
        _ => Err(TextError::Arity(usage::RESTORE)),
    }
}

fn create(args: &[&str]) -> Result<Command, TextError> {
    match args {
        [] | [_] => Err(TextError::Arity(usage::CREATE)),
        [user, words @ ..] if is(user, "user") => match words {
            [name, password, secret] if is(password, "password") => {
                Ok(Command::CreateUser { user: text(name), password: text(secret) })
            }
            _ => Err(TextError::Arity(usage::CREATE_USER)),
        },
        [role, words @ ..] if is(role, "role") => {
            Ok(Command::CreateRole { role: one(words, usage::CREATE_ROLE)? })
        }
        [word, ..] => Err(unknown_option("create", word)),
    }
}

fn drop_named(args: &[&str]) -> Result<Command, TextError> {
    match args {
        [] | [_] => Err(TextError::Arity(usage::DROP)),
        [user, words @ ..] if is(user, "user") => {
            Ok(Command::DropUser { user: one(words, usage::DROP_USER)? })
        }
        [role, words @ ..] if is(role, "role") => {
            Ok(Command::DropRole { role: one(words, usage::DROP_ROLE)? })
        }
        [word, ..] => Err(unknown_option("drop", word)),
    }
}

fn grant(args: &[&str]) -> Result<Command, TextError> {
    match args {
        [what, role, to, user] if is(what, "role") && is(to, "to") => {
            Ok(Command::GrantRole { role: text(role), user: text(user) })
        }
        [what, words @ ..] => match permission_on_role(what, words, "to") {
            Some([permission, pattern, role]) => Ok(Command::GrantPermission { permission, pattern, role }),
            None => Err(misplaced("grant", what, words, usage::GRANT)),
        },
        [] => Err(TextError::Arity(usage::GRANT)),
    }
}

fn revoke(args: &[&str]) -> Result<Command, TextError> {
    match args {
        [what, role, from, user] if is(what, "role") && is(from, "from") => {
            Ok(Command::RevokeRole { role: text(role), user: text(user) })
        }
        [what, words @ ..] => match permission_on_role(what, words, "from") {
            Some([permission, pattern, role]) => Ok(Command::RevokePermission { permission, pattern, role }),
            None => Err(misplaced("revoke", what, words, usage::REVOKE)),
        },
        [] => Err(TextError::Arity(usage::REVOKE)),
    }
}

/// `permission P [on PATTERN] <link> ROLE` as permission, pattern and role.
fn permission_on_role(what: &str, words: &[&str], link: &str) -> Option<[Text; 3]> {
    let (permission, pattern, role) = match words {
        [permission, to, role] if is(to, link) => (permission, "*", role),
        [permission, on, pattern, to, role] if is(on, "on") && is(to, link) => (permission, *pattern, role),
        _ => return None,
    };
    is(what, "permission").then(|| [text(permission), text(pattern), text(role)])
}

/// The mistake in a `grant` or `revoke` that fits no form: its word count, or else a word in it, of which the sub-command is
/// told.
fn misplaced(command: &'static str, what: &str, words: &[&str], usage: &'static str) -> TextError {
    match words.len() {
        3 | 5 => match ["role", "permission"].into_iter().find(|known| is(what, known)) {
            Some(option) => TextError::Form { command, option, usage },
            None => unknown_option(command, what),
        },
        _ => TextError::Arity(usage),
    }
}

fn show(args: &[&str]) -> Result<Command, TextError> {
    match args {
        [word] => match word.to_ascii_lowercase().as_str() {
            "users" => Ok(Command::ShowUsers),
            "roles" => Ok(Command::ShowRoles),
            "grants" => Ok(Command::ShowGrants),
            "replication" => Ok(Command::ShowReplication),
            "cluster" => Ok(Command::ShowCluster),
            _ => Err(unknown_option("show", word)),
        },
        [grants, words @ ..] => match words {
            [link, user, name] if is(grants, "grants") && is(link, "for") && is(user, "user") => {
                Ok(Command::ShowGrantsForUser { user: text(name) })
            }
            [link, role, name] if is(grants, "grants") && is(link, "for") && is(role, "role") => {
                Ok(Command::ShowGrantsForRole { role: text(name) })
            }
            [_, _, _] => Err(unknown_option("show", grants)),
            _ => Err(TextError::Arity(usage::SHOW)),
        },
        [] => Err(TextError::Arity(usage::SHOW)),
    }
}

fn cluster(args: &[&str]) -> Result<Command, TextError> {
    match args {
        [] => Err(TextError::Arity(usage::CLUSTER)),
        [join, words @ ..] if is(join, "join") => {
            let [node, address] = two(words, usage::CLUSTER_JOIN)?;
            Ok(Command::ClusterJoin { node: text(node), address: text(address) })
        }
        [remove, words @ ..] if is(remove, "remove") => {
            Ok(Command::ClusterRemove { node: one(words, usage::CLUSTER_REMOVE)? })
        }
        [word, ..] => Err(unknown_option("cluster", word)),
    }
}

fn no_arguments<T>(args: &[&str], usage: &'static str, value: T) -> Result<T, TextError> {
    if args.is_empty() { Ok(value) } else { Err(TextError::Arity(usage)) }
}

fn one(args: &[&str], usage: &'static str) -> Result<Text, TextError> {
    match args {
        [word] => Ok(text(word)),
        _ => Err(TextError::Arity(usage)),
    }
}

fn two<'a>(args: &[&'a str], usage: &'static str) -> Result<[&'a str; 2], TextError> {
    <[&str; 2]>::try_from(args).map_err(|_| TextError::Arity(usage))
}

fn some(args: &[&str], usage: &'static str) -> Result<Vec<Text>, TextError> {
    if args.is_empty() {
        Err(TextError::Arity(usage))
    } else {
        Ok(args.iter().map(|arg| text(arg)).collect())
    }
}

fn one_fixed(
    args: &[&str],
    fixed: &str,
    usage: &'static str,
    command: Command,
) -> Result<Command, TextError> {
    match args {
        [word] if is(word, fixed) => Ok(command),
        _ => Err(TextError::Arity(usage)),
    }
}

fn is(word: &str, keyword: &str) -> bool {
    word.eq_ignore_ascii_case(keyword)
}

fn unknown_option(command: &'static str, word: &str) -> TextError {
    TextError::Option { command, option: word.to_ascii_lowercase() }
}

fn expiration(unit: &str, number: &str) -> Result<Expiration, TextError> {
    if is(unit, "ex") {
        integer("seconds", number).map(Expiration::Seconds)
    } else {
        integer("milliseconds", number).map(Expiration::Millis)
    }
}

/// Decimal digits with an optional `+`, within the range of `T`.
fn integer<T: FromStr>(field: &'static str, text: &str) -> Result<T, TextError> {
    text.parse().map_err(|_| TextError::Integer { field, text: text.to_owned() })
}

fn text(word: &str) -> Text {
    Text::from(word)
}

fn bytes(word: &str) -> Bytes {
    Bytes::copy_from_slice(word.as_bytes())
}
