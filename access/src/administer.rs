//! Carrying out changes of users, roles and grants.

use std::sync::Arc;

use arc_swap::Guard;
use vaylix_consensus::ProposeError;
use vaylix_proto::{Command, ErrorReply, Reply};

use crate::admission::Pass;
use crate::change::{Change, Edit};
use crate::door::Door;
use crate::execute::refused;
use crate::limits::ADMISSIONS_MAX;
use crate::password;
use crate::policy::Policy;
use crate::record::{self, MAINTENANCE_KEY, Maintenance};
use crate::refusal;
use crate::secret::Secret;

impl Door {
    /// Carries out a change of the access rules. It is in force everywhere on this node when this returns.
    ///
    /// # Errors
    /// What is wrong with the change, or what kept it from becoming durable.
    pub(crate) async fn change(&self, mut pass: Pass) -> Result<Reply, ErrorReply> {
        self.rules()?;
        let password_hash = self.new_password_hash(&pass).await?;
        let change = Change::of(&pass.command, &password_hash).ok_or_else(refusal::unsupported)?;
        let _changing = self.0.changing.lock().await;
        for _ in 0..ADMISSIONS_MAX {
            self.readmit(&mut pass)?;
            let (revision, edits) = {
                let policy = self.rules()?;
                let who = pass.who.as_ref().ok_or_else(refusal::login_required)?;
                (policy.revision(), change.plan(&policy, who.rights())?)
            };
            if revision != pass.revision {
                continue;
            }
            if edits.is_empty() {
                return Ok(Reply::Ok);
            }
            match self.propose_edits(revision, edits).await {
                Err(ProposeError::Stale) => {}
                answer => return answer.map(|()| Reply::Ok).map_err(refused),
            }
        }
        Err(refusal::contended())
    }

    /// MAINTENANCE ON and OFF: a change of the access rules, so nothing that was admitted before it is applied after
    /// it. What is so already stays so.
    pub(crate) async fn set_maintenance(&self, mut pass: Pass, enabled: bool) -> Result<Reply, ErrorReply> {
        let _changing = self.0.changing.lock().await;
        for _ in 0..ADMISSIONS_MAX {
            self.readmit(&mut pass)?;
            let (revision, is_so) = {
                let policy = self.policy()?;
                (policy.revision(), policy.in_maintenance() == enabled)
            };
            if revision != pass.revision {
                continue;
            }
            if is_so {
                return Ok(Reply::Ok);
            }
            let record = record::encode(&Maintenance { enabled })?;
            let edit = Edit { key: MAINTENANCE_KEY.to_owned(), record: Some(record) };
            match self.propose_edits(revision, vec![edit]).await {
                Err(ProposeError::Stale) => {}
                answer => return answer.map(|()| Reply::Ok).map_err(refused),
            }
        }
        Err(refusal::contended())
    }

    /// The hash of the password that the command sets; empty for commands that set none. The cheap refusals
    /// come first, so that a command that cannot succeed costs no hashing.
    async fn new_password_hash(&self, pass: &Pass) -> Result<String, ErrorReply> {
        let (Command::CreateUser { password, .. } | Command::AlterUserPassword { password, .. }) =
            &pass.command
        else {
            return Ok(String::new());
        };
        if let Some(missing) = password::weakness(password) {
            return Err(refusal::weak_password(missing));
        }
        if let (Some(change), Some(who)) = (Change::of(&pass.command, ""), &pass.who) {
            let policy = self.rules()?;
            change.plan(&policy, who.rights())?;
        }
        self.0.hasher.hash(Secret::from(&**password)).await
    }

    /// The access rules, on a server that has any.
    ///
    /// # Errors
    /// `SRV-016` without authentication.
    pub(crate) fn rules(&self) -> Result<Guard<Arc<Policy>>, ErrorReply> {
        if self.0.requires_login { self.policy() } else { Err(refusal::unsupported()) }
    }
}
