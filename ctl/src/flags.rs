//! The command line of `vaylixctl`.
//!
//! Options that can also come from a context or the environment are `Option`s here: [`settings`](crate::settings) must know
//! whether they were given, so the defaults live there.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

/// Administers a Vaylix server or cluster through its control plane.
#[derive(Debug, Parser)]
#[command(
    name = "vaylixctl",
    version,
    propagate_version = true,
    after_help = "Options win over the context that --context names, that over the environment, the environment \
                  over the current context, and that over the defaults.\n\
                  Exit status: 0 done, 1 refused or failed, 2 wrong usage, 3 no endpoint can be reached, 4 the \
                  outcome is unknown."
)]
pub(crate) struct Flags {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// Options that stand before the verb or behind it.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// Control planes to ask, in this order; the next one is asked when one cannot be reached [default: 127.0.0.1:9174]
    /// [env: VAYLIXCTL_ENDPOINTS]
    #[arg(long, global = true, value_name = "HOST:PORT", value_delimiter = ',')]
    pub(crate) endpoint: Vec<String>,
    /// User to log in as [default: vaylix] [env: VAYLIX_USER]
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) user: Option<String>,
    /// Password; other users of this machine can see it here, prefer the environment, a file or the prompt
    /// [env: VAYLIX_PASSWORD]
    #[arg(long, global = true, value_name = "PASSWORD")]
    pub(crate) password: Option<String>,
    /// File whose first line is the password
    #[arg(long, global = true, value_name = "FILE", conflicts_with = "password")]
    pub(crate) password_file: Option<PathBuf>,
    /// Use TLS
    #[arg(long, global = true)]
    pub(crate) ssl: bool,
    /// PEM bundle of certificate authorities to trust instead of the system's
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) tls_ca_cert: Option<PathBuf>,
    /// PEM client certificate; needs --tls-key
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) tls_cert: Option<PathBuf>,
    /// PEM key of the client certificate
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) tls_key: Option<PathBuf>,
    /// Context to use instead of the current one
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) context: Option<String>,
    /// File with the contexts [default: $XDG_CONFIG_HOME/vaylix/ctl.toml]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// How answers are shown
    #[arg(long, global = true, value_enum, default_value_t)]
    pub(crate) output: Output,
    /// How long an answer is waited for; by default a little longer than servers take at most
    #[arg(long, global = true, value_name = "SECONDS",
          value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(crate) timeout: Option<u64>,
    /// Do not ask before something dangerous
    #[arg(long, global = true)]
    pub(crate) yes: bool,
}

/// How answers are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people
    #[default]
    Table,
    /// The JSON form of the protocol's messages
    Json,
    /// The same as YAML
    Yaml,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// How the node that is asked is doing
    Status {
        /// Say it again each time that role, term, leader, members or readiness change
        #[arg(long)]
        watch: bool,
    },
    /// Whether clients are served; exit status 0 if so, and 1 otherwise. Needs no login
    Health,
    /// The members of the cluster
    Members,
    /// Changes the membership
    #[command(subcommand)]
    Member(MemberVerb),
    /// Decides who leads
    #[command(subcommand)]
    Leader(LeaderVerb),
    /// Whether only what changes nothing is let in
    Maintenance {
        /// What to do
        #[arg(value_enum, default_value_t)]
        action: MaintenanceAction,
    },
    /// Takes a snapshot on the leader
    Snapshot,
    /// Has the node that is asked leave clients and the office to others
    Drain {
        /// Whether it should
        #[arg(value_enum)]
        state: Switch,
    },
    /// Storage keys
    #[command(subcommand)]
    Key(KeyVerb),
    /// What the node that is asked has on disk
    #[command(subcommand)]
    Storage(StorageVerb),
    /// Logical backups in the backup directory of the node that is asked
    #[command(subcommand)]
    Backup(BackupVerb),
    /// Users
    #[command(subcommand)]
    User(UserVerb),
    /// Roles, and who has them
    #[command(subcommand)]
    Role(RoleVerb),
    /// What roles may do
    #[command(subcommand)]
    Grant(GrantVerb),
    /// Who you are, and what you may do
    Whoami,
    /// Who is connected to the node that is asked
    #[command(subcommand)]
    Session(SessionVerb),
    /// The audit log of the node that is asked
    #[command(subcommand)]
    Audit(AuditVerb),
    /// All endpoints at one glance, each second anew
    Top {
        /// Show it once, and end
        #[arg(long)]
        once: bool,
    },
    /// Clusters by name
    #[command(subcommand)]
    Context(ContextVerb),
    /// Prints the completions for a shell
    Completions {
        /// The shell
        #[arg(value_enum)]
        shell: Shell,
    },
    /// Writes the manual pages
    Man {
        /// Directory to write them to
        dir: PathBuf,
    },
}

/// On or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Switch {
    On,
    Off,
}

/// What to do about the maintenance mode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum MaintenanceAction {
    #[default]
    Status,
    On,
    Off,
}

/// Changes of the membership.
#[derive(Debug, Subcommand)]
pub(crate) enum MemberVerb {
    /// Makes a node that runs and waits a member with a vote
    Add {
        /// What its operator calls it (--node-id)
        name: String,
        /// Where it is reached on the data plane, host:port
        address: String,
        /// Show the plan, and change nothing
        #[arg(long)]
        plan: bool,
    },
    /// Takes a member out
    Remove {
        /// The member
        name: String,
        /// Show the plan, and change nothing
        #[arg(long)]
        plan: bool,
    },
}

/// Who leads.
#[derive(Debug, Subcommand)]
pub(crate) enum LeaderVerb {
    /// Has another voter lead
    Transfer {
        /// Who is to lead; the voter that is best prepared, if nobody is named
        name: Option<String>,
    },
}

/// Storage keys.
#[derive(Debug, Subcommand)]
pub(crate) enum KeyVerb {
    /// Has the node that is asked seal what it writes under a new key
    Rotate,
}

/// What a node has on disk.
#[derive(Debug, Subcommand)]
pub(crate) enum StorageVerb {
    /// Reads all of it and says what is not as it was written, while the node goes on
    Verify,
}

/// Backups.
#[derive(Debug, Subcommand)]
pub(crate) enum BackupVerb {
    /// Writes all keys into a backup
    Create {
        /// Its name
        name: String,
    },
    /// The backups
    List,
    /// Reads a backup to its end and compares it with its manifest
    Verify {
        /// Its name
        name: String,
    },
    /// Replaces all keys of the cluster by those of a backup of the leader
    Restore {
        /// Its name
        #[arg(required_unless_present = "file")]
        name: Option<String>,
        /// A backup on this machine, which is uploaded for that and deleted there again
        #[arg(long, value_name = "LOCAL", conflicts_with = "name")]
        file: Option<PathBuf>,
    },
    /// Removes a backup
    Delete {
        /// Its name
        name: String,
    },
    /// Fetches a backup
    Download {
        /// Its name
        name: String,
        /// Where to put it; a file that is there is not replaced
        file: PathBuf,
    },
    /// Hands a backup in
    Upload {
        /// The file
        file: PathBuf,
        /// The name it gets
        name: String,
    },
}

/// Where a new password comes from, if not from a prompt.
#[derive(Debug, Default, Args)]
pub(crate) struct NewPassword {
    /// The new password; other users of this machine can see it here
    #[arg(long, value_name = "PASSWORD", conflicts_with = "new_password_stdin")]
    pub(crate) new_password: Option<String>,
    /// Read the new password from the first line of standard input
    #[arg(long)]
    pub(crate) new_password_stdin: bool,
}

/// Users.
#[derive(Debug, Subcommand)]
pub(crate) enum UserVerb {
    /// The users and their roles
    List,
    /// Creates a user without roles
    Create {
        /// The user
        name: String,
        #[command(flatten)]
        new_password: NewPassword,
    },
    /// Gives a user another password
    Password {
        /// The user
        name: String,
        #[command(flatten)]
        new_password: NewPassword,
    },
    /// Removes a user
    Drop {
        /// The user
        name: String,
    },
}

/// Roles.
#[derive(Debug, Subcommand)]
pub(crate) enum RoleVerb {
    /// The roles and what they may do
    List,
    /// Creates a role that may do nothing
    Create {
        /// The role
        name: String,
    },
    /// Removes a role
    Drop {
        /// The role
        name: String,
    },
    /// Gives a user a role
    Grant {
        /// The user
        #[arg(value_name = "USER")]
        holder: String,
        /// The role
        role: String,
    },
    /// Takes a role from a user
    Revoke {
        /// The user
        #[arg(value_name = "USER")]
        holder: String,
        /// The role
        role: String,
    },
}

/// Permissions of roles.
#[derive(Debug, Subcommand)]
pub(crate) enum GrantVerb {
    /// Lets a role do something
    Add(GrantOf),
    /// No longer lets a role do something
    Remove(GrantOf),
}

/// What a role may do.
#[derive(Debug, Args)]
pub(crate) struct GrantOf {
    /// What: read, write, and so on
    pub(crate) permission: String,
    /// With which keys; * is all of them
    pub(crate) pattern: String,
    /// The role
    pub(crate) role: String,
}

/// Sessions.
#[derive(Debug, Subcommand)]
pub(crate) enum SessionVerb {
    /// The sessions and tokens
    List,
    /// Has sessions log in anew
    End {
        /// The session, as the list names it
        #[arg(required_unless_present = "of_user")]
        id: Option<String>,
        /// All sessions of this user
        #[arg(long, value_name = "NAME", conflicts_with = "id")]
        of_user: Option<String>,
    },
}

/// Which events.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct EventFilter {
    /// Only those of this user
    #[arg(long, value_name = "NAME")]
    pub(crate) of_user: Option<String>,
    /// Only those of this type, such as auth
    #[arg(long = "type", value_name = "TYPE")]
    pub(crate) event_type: Option<String>,
    /// Only those with this status: ok, error or not_found
    #[arg(long, value_name = "STATUS")]
    pub(crate) status: Option<String>,
}

/// The audit log.
#[derive(Debug, Subcommand)]
pub(crate) enum AuditVerb {
    /// The last events
    Tail {
        /// How many of them
        #[arg(short = 'n', long, value_name = "N", default_value_t = 10,
              value_parser = clap::value_parser!(u32).range(0..=1000))]
        lines: u32,
        /// And then each new one
        #[arg(short, long)]
        follow: bool,
        #[command(flatten)]
        filter: EventFilter,
    },
    /// Events from the oldest on
    List {
        /// Behind the event of this number
        #[arg(long, value_name = "SEQUENCE", default_value_t = 0)]
        after: u64,
        /// At most so many
        #[arg(long, value_name = "N", default_value_t = 100)]
        limit: u64,
        /// From this moment on, such as 2026-01-31T08:00:00Z
        #[arg(long, value_name = "TIME", value_parser = crate::render::time::parse)]
        since: Option<u64>,
        /// Before this moment
        #[arg(long, value_name = "TIME", value_parser = crate::render::time::parse)]
        until: Option<u64>,
        #[command(flatten)]
        filter: EventFilter,
    },
    /// Verifies the chain from its first event to its last
    Verify,
}

/// Contexts.
#[derive(Debug, Subcommand)]
pub(crate) enum ContextVerb {
    /// The contexts; the current one has a star
    List,
    /// Makes a context the current one
    Use {
        /// The context
        name: String,
    },
    /// Keeps --endpoint, --user, --password-file, --ssl and --tls-… as a context
    Set {
        /// The context
        name: String,
    },
    /// Removes a context
    Remove {
        /// The context
        name: String,
    },
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;
    use clap::error::ErrorKind;

    use super::*;

    fn parse(line: &str) -> Result<Flags, ErrorKind> {
        Flags::try_parse_from(std::iter::once("vaylixctl").chain(line.split_whitespace()))
            .map_err(|error| error.kind())
    }

    #[test]
    fn the_definition_is_consistent() {
        Flags::command().debug_assert();
    }

    #[test]
    fn global_options_stand_on_either_side() {
        for line in [
            "--endpoint a:1,b:2 --yes member remove n2",
            "member remove n2 --endpoint a:1 --endpoint b:2 --yes",
        ] {
            let flags = parse(line).unwrap();
            assert_eq!(flags.global.endpoint, ["a:1", "b:2"]);
            assert!(flags.global.yes);
        }
    }

    #[test]
    fn filters_do_not_hide_the_login() {
        let flags = parse("--user ops audit tail -n 5 -f --of-user ann --type auth --status ok").unwrap();
        assert_eq!(flags.global.user.as_deref(), Some("ops"));
        let Verb::Audit(AuditVerb::Tail { lines: 5, follow: true, filter }) = flags.verb else { panic!() };
        assert_eq!(filter.of_user.as_deref(), Some("ann"));
    }

    #[test]
    fn what_does_not_fit_together_is_refused() {
        assert_eq!(parse("backup restore").unwrap_err(), ErrorKind::MissingRequiredArgument);
        assert_eq!(parse("backup restore a --file b").unwrap_err(), ErrorKind::ArgumentConflict);
        assert_eq!(parse("session end").unwrap_err(), ErrorKind::MissingRequiredArgument);
        assert_eq!(parse("drain").unwrap_err(), ErrorKind::MissingRequiredArgument);
        assert_eq!(parse("status --timeout 0").unwrap_err(), ErrorKind::ValueValidation);
        assert_eq!(parse("audit list --since yesterday").unwrap_err(), ErrorKind::ValueValidation);
    }

    #[test]
    fn every_command_line_of_the_documentation_parses() {
        let page = include_str!("../../docs/vaylixctl.md");
        let lines = page.lines().filter_map(|line| line.trim().strip_prefix("$ vaylixctl"));
        let mut count = 0;
        for line in lines {
            // What the shell does with the output is not ours.
            let line = line.split([';', '|', '<', '>']).next().unwrap_or_default();
            match Flags::try_parse_from(std::iter::once("vaylixctl").chain(words(line))) {
                Ok(_) => {}
                Err(error) => assert!(
                    matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion),
                    "{line}: {error}"
                ),
            }
            count += 1;
        }
        assert!(count > 30, "only {count} command lines found");
    }

    #[test]
    fn the_documentation_names_every_verb() {
        let page = include_str!("../../docs/vaylixctl.md");
        for verb in Flags::command().get_subcommands() {
            let names: Vec<_> = match verb.get_subcommands().next() {
                None => vec![verb.get_name().to_owned()],
                Some(_) => verb
                    .get_subcommands()
                    .map(|inner| format!("{} {}", verb.get_name(), inner.get_name()))
                    .collect(),
            };
            for name in names {
                assert!(page.contains(&format!("$ vaylixctl {name}")), "{name} has no example");
            }
        }
    }

    fn words(line: &str) -> Vec<&str> {
        line.split_whitespace().map(|word| word.trim_matches('\'')).collect()
    }
}
