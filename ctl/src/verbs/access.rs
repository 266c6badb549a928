//! Users, roles, what they may do, and who is there.

use vaylix_admin_proto::v1::access_service_client::AccessServiceClient;
use vaylix_admin_proto::v1::*;

use super::Session;
use super::cluster::PAGE_SIZE;
use crate::connection::Kind;
use crate::error::Error;
use crate::flags::{GrantOf, GrantVerb, RoleVerb, SessionVerb};
use crate::output::tell;
use crate::render::table::{fields, table};
use crate::render::{or_none, time, yes};

pub(super) async fn whoami(mut session: Session) -> Result<(), Error> {
    let answer = session
        .client
        .call(Kind::READ, WhoAmIRequest {}, async |channel, request| {
            AccessServiceClient::new(channel).who_am_i(request).await
        })
        .await?;
    session.screen.show(&answer, |answer| {
        fields(&[
            ("User", answer.user.clone()),
            ("Roles", or_none(&answer.roles.join(", "))),
            ("Permissions", or_none(&answer.permissions.join(", "))),
        ])
    })
}

pub(super) async fn users(mut session: Session) -> Result<(), Error> {
    let mut all = ListUsersResponse::default();
    let mut token = String::new();
    loop {
        let message = ListUsersRequest { page: Some(PageRequest { size: PAGE_SIZE, token }) };
        let page = session
            .client
            .call(Kind::READ, message, async |channel, request| {
                AccessServiceClient::new(channel).list_users(request).await
            })
            .await?;
        all.header = page.header;
        all.users.extend(page.users);
        token = page.next_token;
        if token.is_empty() {
            break;
        }
    }
    session.screen.show(&all, |all| {
        let row = |user: &User| vec![user.name.clone(), yes(user.enabled), or_none(&user.roles.join(","))];
        table(&["NAME", "ENABLED", "ROLES"], &all.users.iter().map(row).collect::<Vec<_>>())
    })
}

pub(super) async fn create_user(mut session: Session, name: &str, password: String) -> Result<(), Error> {
    let message = CreateUserRequest { name: name.to_owned(), password };
    let answer = session
        .client
        .call(Kind::CHANGE, message, async |channel, request| {
            AccessServiceClient::new(channel).create_user(request).await
        })
        .await?;
    session.screen.show(&answer, |_| format!("user {name} created"))
}

pub(super) async fn set_password(mut session: Session, name: &str, password: String) -> Result<(), Error> {
    let message = SetPasswordRequest { name: name.to_owned(), password };
    let answer = session
        .client
        .call(Kind::CHANGE, message, async |channel, request| {
            AccessServiceClient::new(channel).set_password(request).await
        })
        .await?;
    session.screen.show(&answer, |_| format!("user {name} has another password"))
}

pub(super) async fn drop_user(mut session: Session, name: &str) -> Result<(), Error> {
    tell(&format!("user {name} is removed, and whoever is logged in as {name} may do nothing any more"))?;
    session.screen.confirm(&format!("Drop user {name}"))?;
    let message = DropUserRequest { name: name.to_owned() };
    let answer = session
        .client
        .call(Kind::CHANGE, message, async |channel, request| {
            AccessServiceClient::new(channel).drop_user(request).await
        })
        .await?;
    session.screen.show(&answer, |_| format!("user {name} dropped"))
}

pub(super) async fn role(mut session: Session, verb: &RoleVerb) -> Result<(), Error> {
    let Session { client, screen } = &mut session;
    match verb {
        RoleVerb::List => roles(session).await,
        RoleVerb::Create { name } => {
            let message = CreateRoleRequest { name: name.clone() };
            let answer = client
                .call(Kind::CHANGE, message, async |channel, request| {
                    AccessServiceClient::new(channel).create_role(request).await
                })
                .await?;
            screen.show(&answer, |_| format!("role {name} created"))
        }
        RoleVerb::Drop { name } => {
            tell(&format!("role {name} is removed, and taken from everybody who has it"))?;
            screen.confirm(&format!("Drop role {name}"))?;
            let message = DropRoleRequest { name: name.clone() };
            let answer = client
                .call(Kind::CHANGE, message, async |channel, request| {
                    AccessServiceClient::new(channel).drop_role(request).await
                })
                .await?;
            screen.show(&answer, |_| format!("role {name} dropped"))
        }
        RoleVerb::Grant { holder, role } => {
            let message = GrantRoleRequest { role: role.clone(), user: holder.clone() };
            let answer = client
                .call(Kind::CHANGE, message, async |channel, request| {
                    AccessServiceClient::new(channel).grant_role(request).await
                })
                .await?;
            screen.show(&answer, |_| format!("user {holder} has role {role}"))
        }
        RoleVerb::Revoke { holder, role } => {
            let message = RevokeRoleRequest { role: role.clone(), user: holder.clone() };
            let answer = client
                .call(Kind::CHANGE, message, async |channel, request| {
                    AccessServiceClient::new(channel).revoke_role(request).await
                })
                .await?;
            screen.show(&answer, |_| format!("user {holder} does not have role {role} any more"))
        }
    }
}

async fn roles(mut session: Session) -> Result<(), Error> {
    let mut all = ListRolesResponse::default();
    let mut token = String::new();
    loop {
        let message = ListRolesRequest { page: Some(PageRequest { size: PAGE_SIZE, token }) };
        let page = session
            .client
            .call(Kind::READ, message, async |channel, request| {
                AccessServiceClient::new(channel).list_roles(request).await
            })
            .await?;
        all.header = page.header;
        all.roles.extend(page.roles);
        token = page.next_token;
        if token.is_empty() {
            break;
        }
    }
    session.screen.show(&all, |all| {
        let rows: Vec<_> = all.roles.iter().flat_map(role_rows).collect();
        table(&["NAME", "PERMISSION", "PATTERN"], &rows)
    })
}

/// A row for each grant; one without any for a role that may do nothing.
fn role_rows(role: &AccessRole) -> Vec<Vec<String>> {
    if role.grants.is_empty() {
        return vec![vec![role.name.clone(), or_none(""), or_none("")]];
    }
    let row = |grant: &Grant| vec![role.name.clone(), grant.permission.clone(), grant.pattern.clone()];
    role.grants.iter().map(row).collect()
}

pub(super) async fn grant(mut session: Session, verb: &GrantVerb) -> Result<(), Error> {
    let parts = |GrantOf { permission, pattern, role }: &GrantOf| {
        (role.clone(), Grant { permission: permission.clone(), pattern: pattern.clone() })
    };
    match verb {
        GrantVerb::Add(of) => {
            let (role, grant) = parts(of);
            let message = GrantPermissionRequest { role, grant: Some(grant) };
            let answer = session
                .client
                .call(Kind::CHANGE, message, async |channel, request| {
                    AccessServiceClient::new(channel).grant_permission(request).await
                })
                .await?;
            session
                .screen
                .show(&answer, |_| format!("role {} has {} on {}", of.role, of.permission, of.pattern))
        }
        GrantVerb::Remove(of) => {
            let (role, grant) = parts(of);
            let message = RevokePermissionRequest { role, grant: Some(grant) };
            let answer = session
                .client
                .call(Kind::CHANGE, message, async |channel, request| {
                    AccessServiceClient::new(channel).revoke_permission(request).await
                })
                .await?;
            session.screen.show(&answer, |_| {
                format!("role {} does not have {} on {} any more", of.role, of.permission, of.pattern)
            })
        }
    }
}

pub(super) async fn session(mut session: Session, verb: &SessionVerb) -> Result<(), Error> {
    let (id, of_user) = match verb {
        SessionVerb::List => return sessions(session).await,
        SessionVerb::End { id, of_user } => {
            (id.clone().unwrap_or_default(), of_user.clone().unwrap_or_default())
        }
    };
    let what =
        if of_user.is_empty() { format!("session {id}") } else { format!("all sessions of {of_user}") };
    tell(&format!("{what} on the node that is asked must log in anew"))?;
    session.screen.confirm(&format!("End {what}"))?;
    let is_one = of_user.is_empty();
    let message = EndSessionsRequest { id, user: of_user };
    let answer = session
        .client
        .call(Kind::CHANGE, message, async |channel, request| {
            AccessServiceClient::new(channel).end_sessions(request).await
        })
        .await?;
    if is_one && answer.ended_count == 0 {
        return Err(Error::Here(format!("there is no {what} on the node that was asked")));
    }
    session.screen.show(&answer, |answer| format!("{} ended", answer.ended_count))
}

async fn sessions(mut session: Session) -> Result<(), Error> {
    let mut all = ListSessionsResponse::default();
    let mut token = String::new();
    loop {
        let message = ListSessionsRequest { page: Some(PageRequest { size: PAGE_SIZE, token }) };
        let page = session
            .client
            .call(Kind::READ, message, async |channel, request| {
                AccessServiceClient::new(channel).list_sessions(request).await
            })
            .await?;
        all.header = page.header;
        all.sessions.extend(page.sessions);
        token = page.next_token;
        if token.is_empty() {
            break;
        }
    }
    session.screen.show(&all, |all| {
        let row = |session: &vaylix_admin_proto::v1::Session| {
            vec![
                session.id.clone(),
                or_none(&session.user),
                or_none(&session.peer),
                time::moment(session.since_ms),
                time::moment(session.ends_at_ms),
            ]
        };
        table(&["ID", "USER", "PEER", "SINCE", "ENDS"], &all.sessions.iter().map(row).collect::<Vec<_>>())
    })
}
