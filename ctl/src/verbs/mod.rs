//! What can be done, one function for each verb.

mod access;
mod audit;
mod backup;
mod cluster;
mod contexts;
mod maintenance;
mod shell;
mod storage;
mod top;

use std::path::Path;

use crate::connection::Client;
use crate::error::Error;
use crate::flags::{Flags, Verb};
use crate::output::Screen;
use crate::password;
use crate::settings::{self, Settings};

/// What every verb works with.
struct Session {
    client: Client,
    screen: Screen,
}

/// Does what the command line says.
pub(crate) fn run(flags: &Flags) -> Result<(), Error> {
    let variable = |name: &str| std::env::var(name).ok();
    let screen = Screen::new(flags.global.output, flags.global.yes);
    match &flags.verb {
        Verb::Completions { shell } => return shell::completions(*shell),
        Verb::Man { dir } => return shell::man(dir),
        Verb::Context(verb) => {
            let path = settings::config_path(&flags.global, &variable)?;
            return contexts::run(verb, &flags.global, &path, screen);
        }
        verb => check_before(verb, screen)?,
    }
    let settings = Settings::resolve(&flags.global, variable)?;
    let login = match &flags.verb {
        Verb::Health => None,
        _ => settings.login()?,
    };
    let client = Client::new(&settings, login.as_ref())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(carry_out(&flags.verb, Session { client, screen }, login.as_ref()))
}

/// Refuses what could not be finished, before anybody is asked for a password.
fn check_before(verb: &Verb, screen: Screen) -> Result<(), Error> {
    use crate::flags::{BackupVerb, LeaderVerb, MemberVerb, RoleVerb, SessionVerb, Switch, UserVerb};
    match verb {
        Verb::Member(MemberVerb::Remove { plan: false, .. }) => screen.check_can_confirm("member remove"),
        Verb::Leader(LeaderVerb::Transfer { .. }) => screen.check_can_confirm("leader transfer"),
        Verb::Backup(BackupVerb::Restore { file, .. }) => {
            file.as_deref().map_or(Ok(()), check_readable)?;
            screen.check_can_confirm("backup restore")
        }
        Verb::Backup(BackupVerb::Upload { file, .. }) => check_readable(file),
        Verb::Backup(BackupVerb::Delete { .. }) => screen.check_can_confirm("backup delete"),
        Verb::User(UserVerb::Drop { .. }) => screen.check_can_confirm("user drop"),
        Verb::Role(RoleVerb::Drop { .. }) => screen.check_can_confirm("role drop"),
        Verb::Session(SessionVerb::End { .. }) => screen.check_can_confirm("session end"),
        Verb::Drain { state: Switch::On } => screen.check_can_confirm("drain on"),
        _ => Ok(()),
    }
}

fn check_readable(path: &Path) -> Result<(), Error> {
    std::fs::File::open(path).map(drop).map_err(crate::error::unreadable(path))
}

async fn carry_out(verb: &Verb, session: Session, login: Option<&settings::Login>) -> Result<(), Error> {
    use crate::flags::{KeyVerb, LeaderVerb, MemberVerb, StorageVerb, UserVerb};
    match verb {
        Verb::Status { watch: false } => cluster::status(session).await,
        Verb::Status { watch: true } => cluster::watch(session).await,
        Verb::Health => cluster::health(session).await,
        Verb::Members => cluster::members(session).await,
        Verb::Member(MemberVerb::Add { name, address, plan }) => {
            cluster::add(session, name, address, *plan).await
        }
        Verb::Member(MemberVerb::Remove { name, plan }) => cluster::remove(session, name, *plan).await,
        Verb::Leader(LeaderVerb::Transfer { name }) => cluster::transfer(session, name.as_deref()).await,
        Verb::Maintenance { action } => maintenance::mode(session, *action).await,
        Verb::Snapshot => maintenance::snapshot(session).await,
        Verb::Drain { state } => maintenance::drain(session, *state).await,
        Verb::Key(KeyVerb::Rotate) => maintenance::rotate_key(session).await,
        Verb::Storage(StorageVerb::Verify) => storage::verify(session).await,
        Verb::Backup(verb) => backup::run(session, verb).await,
        Verb::User(UserVerb::Create { name, new_password }) => {
            let password = password::new_password(new_password, name)?;
            access::create_user(session, name, password).await
        }
        Verb::User(UserVerb::Password { name, new_password }) => {
            let password = password::new_password(new_password, name)?;
            access::set_password(session, name, password).await
        }
        Verb::User(UserVerb::List) => access::users(session).await,
        Verb::User(UserVerb::Drop { name }) => access::drop_user(session, name).await,
        Verb::Role(verb) => access::role(session, verb).await,
        Verb::Grant(verb) => access::grant(session, verb).await,
        Verb::Whoami => access::whoami(session).await,
        Verb::Session(verb) => access::session(session, verb).await,
        Verb::Audit(verb) => audit::run(session, verb).await,
        Verb::Top { once } => top::run(session, login, *once).await,
        // Done without a server.
        Verb::Completions { .. } | Verb::Man { .. } | Verb::Context(_) => Ok(()),
    }
}
