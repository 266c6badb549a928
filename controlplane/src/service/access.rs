//! Users, roles and what they may do.

use vaylix_access::{Outcome, Permission, RightView, SessionChoice, Task, Token};
use vaylix_admin_proto::v1::*;
use vaylix_proto::Command;

use crate::caller::Origin;
use crate::cookie;
use crate::fault::Fault;
use crate::page::page;

pub(crate) async fn login(origin: Origin, request: LoginRequest) -> Result<LoginResponse, Fault> {
    // Whatever else the request brought to prove who it is from: this password counts.
    let mut caller = origin.nobody()?;
    caller.log_in(&request.user, &request.password).await?;
    let Token { text, ends_at_ms } = caller.token(request.cookie)?;
    let mut response = LoginResponse {
        header: caller.header(),
        token: String::new(),
        expires_at_ms: ends_at_ms,
        csrf_token: String::new(),
    };
    if request.cookie {
        if let Err(fault) = origin.keep(&text) {
            caller.door().end_token(&text);
            return Err(fault);
        }
        response.csrf_token = cookie::confirmation(&text);
    } else {
        response.token = text;
    }
    Ok(response)
}

pub(crate) async fn get_session(origin: Origin, _: GetSessionRequest) -> Result<GetSessionResponse, Fault> {
    let mut caller = origin.identify().await?;
    let admitted = caller.admit(Command::WhoAmI).await?;
    let who = caller.door().who(admitted)?;
    let token = origin.token();
    Ok(GetSessionResponse {
        header: caller.header(),
        user: who.user,
        roles: who.roles,
        permissions: who.permissions,
        rights: who.rights.into_iter().map(right).collect(),
        csrf_token: token.filter(|_| origin.is_by_cookie()).map(cookie::confirmation).unwrap_or_default(),
        expires_at_ms: token.and_then(|token| caller.door().token_ends_at_ms(token)).unwrap_or(0),
    })
}

pub(crate) async fn renew_session(
    origin: Origin,
    _: RenewSessionRequest,
) -> Result<RenewSessionResponse, Fault> {
    let mut caller = origin.identify().await?;
    let admitted = caller.admit(Command::WhoAmI).await?;
    caller.door().who(admitted)?;
    let Some(token) = origin.token() else {
        return Err(Fault::field("authorization", "the request came with no token to renew"));
    };
    let expires_at_ms = caller.door().renew_token(token)?;
    let mut csrf_token = String::new();
    if origin.is_by_cookie() {
        origin.keep(token)?;
        csrf_token = cookie::confirmation(token);
    }
    Ok(RenewSessionResponse { header: caller.header(), expires_at_ms, csrf_token })
}

pub(crate) async fn get_rights(
    origin: Origin,
    request: GetRightsRequest,
) -> Result<GetRightsResponse, Fault> {
    let GetRightsRequest { name, permission, key } = request;
    let asked = match permission.as_str() {
        "" if key.is_empty() => None,
        "" => return Err(Fault::field("permission", "a key without a permission asks for nothing")),
        permission => Some(
            Permission::parse(permission)
                .ok_or_else(|| Fault::field("permission", "there is no such permission"))?,
        ),
    };
    let key = Some(key.as_str()).filter(|key| !key.is_empty());
    let mut caller = origin.identify().await?;
    let admitted = caller.admit(Command::ShowGrantsForUser { user: named("name", name)?.into() }).await?;
    let found = caller.door().rights(admitted, asked.map(|permission| (permission, key)))?;
    Ok(GetRightsResponse {
        header: caller.header(),
        rights: found.rights.into_iter().map(right).collect(),
        allowed: found.allowed,
    })
}

fn right(view: RightView) -> Right {
    Right { permission: view.permission, pattern: view.pattern, roles: view.roles }
}

pub(crate) async fn logout(origin: Origin, _: LogoutRequest) -> Result<LogoutResponse, Fault> {
    // A browser has no use for a token that has ended, either.
    origin.throw_away();
    let caller = origin.identify().await?;
    match origin.token() {
        Some(token) => caller.door().end_token(token),
        None => return Err(Fault::field("authorization", "the request came with no token to end")),
    }
    Ok(LogoutResponse { header: caller.header() })
}

pub(crate) async fn who_am_i(origin: Origin, _: WhoAmIRequest) -> Result<WhoAmIResponse, Fault> {
    let mut caller = origin.identify().await?;
    let admitted = caller.admit(Command::WhoAmI).await?;
    let who = caller.door().who(admitted)?;
    Ok(WhoAmIResponse {
        header: caller.header(),
        user: who.user,
        roles: who.roles,
        permissions: who.permissions,
    })
}

pub(crate) async fn list_users(
    origin: Origin,
    request: ListUsersRequest,
) -> Result<ListUsersResponse, Fault> {
    let mut caller = origin.identify().await?;
    let admitted = caller.admit(Command::ShowUsers).await?;
    let page = page(caller.door().users(admitted)?, |user| &user.name, request.page);
    let users =
        page.items.into_iter().map(|user| User { name: user.name, enabled: user.enabled, roles: user.roles });
    Ok(ListUsersResponse { header: caller.header(), users: users.collect(), next_token: page.next_token })
}

pub(crate) async fn list_sessions(
    origin: Origin,
    request: ListSessionsRequest,
) -> Result<ListSessionsResponse, Fault> {
    let mut caller = origin.identify().await?;
    let Outcome::Sessions(mut sessions) = caller.perform(Task::ListSessions).await? else {
        return Err(Fault::nonsense());
    };
    // Pages go by the id.
    sessions.sort_by(|a, b| a.id.cmp(&b.id));
    let page = page(sessions, |session| &session.id, request.page);
    let sessions = page.items.into_iter().map(|session| Session {
        id: session.id,
        user: session.user.unwrap_or_default(),
        peer: session.peer.map(|peer| peer.to_string()).unwrap_or_default(),
        since_ms: session.since_ms,
        ends_at_ms: session.ends_at_ms.unwrap_or(0),
    });
    Ok(ListSessionsResponse {
        header: caller.header(),
        sessions: sessions.collect(),
        next_token: page.next_token,
    })
}

pub(crate) async fn end_sessions(
    origin: Origin,
    request: EndSessionsRequest,
) -> Result<EndSessionsResponse, Fault> {
    let who = match (request.id, request.user) {
        (id, user) if user.is_empty() && !id.is_empty() => SessionChoice::Id(id),
        (id, user) if id.is_empty() && !user.is_empty() => SessionChoice::User(user),
        _ => return Err(Fault::field("id", "either the id of a session or the name of a user is needed")),
    };
    let mut caller = origin.identify().await?;
    let Outcome::Ended(count) = caller.perform(Task::EndSessions { who }).await? else {
        return Err(Fault::nonsense());
    };
    Ok(EndSessionsResponse { header: caller.header(), ended_count: count as u64 })
}

pub(crate) async fn list_roles(
    origin: Origin,
    request: ListRolesRequest,
) -> Result<ListRolesResponse, Fault> {
    let mut caller = origin.identify().await?;
    let admitted = caller.admit(Command::ShowRoles).await?;
    let page = page(caller.door().roles(admitted)?, |role| &role.name, request.page);
    let roles = page.items.into_iter().map(|role| AccessRole {
        name: role.name,
        grants: role.grants.into_iter().map(|(permission, pattern)| Grant { permission, pattern }).collect(),
    });
    Ok(ListRolesResponse { header: caller.header(), roles: roles.collect(), next_token: page.next_token })
}

/// Handlers that carry out one command and have nothing to say but that it is done.
macro_rules! changes {
    ($($handler:ident($request:ident: $Request:ident) -> $Response:ident = $command:expr;)+) => {$(
        pub(crate) async fn $handler(origin: Origin, $request: $Request) -> Result<$Response, Fault> {
            let mut caller = origin.identify().await?;
            let command = $command;
            caller.run(command).await?;
            Ok($Response { header: caller.header() })
        }
    )+};
}

changes! {
    create_user(request: CreateUserRequest) -> CreateUserResponse = Command::CreateUser {
        user: named("name", request.name)?.into(),
        password: request.password.into(),
    };
    set_password(request: SetPasswordRequest) -> SetPasswordResponse = Command::AlterUserPassword {
        user: named("name", request.name)?.into(),
        password: request.password.into(),
    };
    drop_user(request: DropUserRequest) -> DropUserResponse = Command::DropUser {
        user: named("name", request.name)?.into(),
    };
    create_role(request: CreateRoleRequest) -> CreateRoleResponse = Command::CreateRole {
        role: named("name", request.name)?.into(),
    };
    drop_role(request: DropRoleRequest) -> DropRoleResponse = Command::DropRole {
        role: named("name", request.name)?.into(),
    };
    grant_role(request: GrantRoleRequest) -> GrantRoleResponse = Command::GrantRole {
        role: named("role", request.role)?.into(),
        user: named("user", request.user)?.into(),
    };
    revoke_role(request: RevokeRoleRequest) -> RevokeRoleResponse = Command::RevokeRole {
        role: named("role", request.role)?.into(),
        user: named("user", request.user)?.into(),
    };
    grant_permission(request: GrantPermissionRequest) -> GrantPermissionResponse = {
        let (permission, pattern) = granted(request.grant)?;
        Command::GrantPermission {
            permission: permission.into(),
            pattern: pattern.into(),
            role: named("role", request.role)?.into(),
        }
    };
    revoke_permission(request: RevokePermissionRequest) -> RevokePermissionResponse = {
        let (permission, pattern) = granted(request.grant)?;
        Command::RevokePermission {
            permission: permission.into(),
            pattern: pattern.into(),
            role: named("role", request.role)?.into(),
        }
    };
}

/// A field that names something.
fn named(field: &'static str, text: String) -> Result<String, Fault> {
    if text.is_empty() { Err(Fault::field(field, "it is missing")) } else { Ok(text) }
}

/// Permission and pattern. What is missing is not taken for every key: a variable that is empty by mistake would give all away.
fn granted(grant: Option<Grant>) -> Result<(String, String), Fault> {
    let Grant { permission, pattern } = grant.unwrap_or_default();
    if pattern.is_empty() {
        return Err(Fault::field("grant.pattern", "it is missing; * is every key"));
    }
    Ok((named("grant.permission", permission)?, pattern))
}
