//! Carrying out changes of users, roles and grants.

use std::sync::Arc;

use arc_swap::Guard;
use vaylix_consensus::ProposeError;
use vaylix_proto::{Command, ErrorReply, Reply};

use crate::admission::Admitted;
use crate::change::Change;
use crate::door::Door;
use crate::execute::refused;
use crate::limits::ADMISSIONS_MAX;
use crate::password;
use crate::policy::Policy;
use crate::refusal;
use crate::secret::Secret;

impl Door {
    /// Carries out a change of the access rules. It is in force everywhere on this node when this returns.
    ///
    /// # Errors
    /// What is wrong with the change, or what kept it from becoming durable.
    pub(crate) async fn change(&self, mut admitted: Admitted) -> Result<Reply, ErrorReply> {
        self.rules()?;
        let password_hash = self.new_password_hash(&admitted).await?;
        let change = Change::of(&admitted.command, &password_hash).ok_or_else(refusal::unsupported)?;
        let _changing = self.0.changing.lock().await;
        for _ in 0..ADMISSIONS_MAX {
            self.readmit(&mut admitted)?;
            let (revision, edits) = {
                let policy = self.rules()?;
                let who = admitted.who.as_ref().ok_or_else(refusal::login_required)?;
                (policy.revision(), change.plan(&policy, who.rights())?)
            };
            if revision != admitted.revision {
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

    /// The hash of the password that the command sets; empty for commands that set none. The cheap refusals
    /// come first, so that a command that cannot succeed costs no hashing.
    async fn new_password_hash(&self, admitted: &Admitted) -> Result<String, ErrorReply> {
        let (Command::CreateUser { password, .. } | Command::AlterUserPassword { password, .. }) =
            &admitted.command
        else {
            return Ok(String::new());
        };
        if !password::is_strong(password) {
            return Err(refusal::weak_password());
        }
        if let (Some(change), Some(who)) = (Change::of(&admitted.command, ""), &admitted.who) {
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
