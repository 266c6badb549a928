//! The one table of operations. The gRPC services, the JSON routes and the OpenAPI document are made from it, so none of
//! them can know an operation that the others do not, or handle it differently.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::LazyLock;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, RawPathParams, RawQuery, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, get, on};
use http::{HeaderMap, Method, Request, StatusCode, header};
use http_body_util::BodyExt as _;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use tokio_stream::{Stream, StreamExt as _};
use tonic::service::Routes;
use tonic::{Request as GrpcRequest, Response as GrpcResponse, Status, Streaming};
use vaylix_access::Download;
use vaylix_admin_proto::DESCRIPTORS;
use vaylix_admin_proto::health::health_server::HealthServer;
use vaylix_admin_proto::v1::access_service_server::{AccessService, AccessServiceServer};
use vaylix_admin_proto::v1::audit_service_server::{AuditService, AuditServiceServer};
use vaylix_admin_proto::v1::backup_service_server::{BackupService, BackupServiceServer};
use vaylix_admin_proto::v1::cluster_service_server::{ClusterService, ClusterServiceServer};
use vaylix_admin_proto::v1::key_service_server::{KeyService, KeyServiceServer};
use vaylix_admin_proto::v1::maintenance_service_server::{MaintenanceService, MaintenanceServiceServer};
use vaylix_admin_proto::v1::*;
use vaylix_proto::{Code, Command};

use crate::caller::Origin;
use crate::caps::{ANSWER_BYTES_MAX, BODY_BYTES_MAX, VALUE_BODY_BYTES_MAX, WATCH_EVERY};
use crate::fault::Fault;
use crate::listener::Scope;
use crate::service::{access, audit, backup, cluster, keys, maintenance};
use crate::stage::Stage;
use crate::{console, events, health, metrics, openapi, probes};

/// One operation, as JSON speaks it.
pub(crate) struct Operation {
    pub(crate) service: &'static str,
    pub(crate) method: Method,
    /// With the names of parameters in braces.
    pub(crate) path: &'static str,
    pub(crate) request: &'static str,
    pub(crate) response: &'static str,
    pub(crate) rpc: &'static str,
}

/// The services of this release in gRPC, without the streams.
struct Api(Stage);

macro_rules! operations {
    ($(
        service $Service:ident {
            $($verb:ident $path:literal => $rpc:ident($Request:ident) -> $Response:ident = $handler:path;)+
            $(@stream { $($stream:tt)+ })?
        }
    )+) => {
        $(
            #[tonic::async_trait]
            impl $Service for Api {
                $(
                    async fn $rpc(&self, request: GrpcRequest<$Request>) -> Result<GrpcResponse<$Response>, Status> {
                        let origin = origin(&request)?;
                        Ok(GrpcResponse::new($handler(origin, request.into_inner()).await?))
                    }
                )+
                $($($stream)+)?
            }
        )+

        /// Every operation, in the order of the table.
        pub(crate) fn table() -> Vec<Operation> {
            vec![$($(Operation {
                service: stringify!($Service),
                method: Method::$verb,
                path: $path,
                request: stringify!($Request),
                response: stringify!($Response),
                rpc: stringify!($rpc),
            },)+)+]
        }

        fn json_routes() -> Router<Stage> {
            let router = Router::new();
            $($(
                let router = router.route($path, on(
                    MethodFilter::$verb,
                    |path: RawPathParams,
                     query: RawQuery,
                     origin: axum::Extension<Origin>,
                     request: Request<Body>| {
                        json::<$Request, $Response, _>(path, query, origin, request, $handler)
                    },
                ));
            )+)+
            router
        }
    };
}

operations! {
    service ClusterService {
        GET "/v1/cluster/status" => get_status(GetStatusRequest) -> GetStatusResponse = cluster::get_status;
        GET "/v1/cluster/members" => list_members(ListMembersRequest) -> ListMembersResponse = cluster::list_members;
        POST "/v1/cluster/members" => add_member(AddMemberRequest) -> AddMemberResponse = cluster::add_member;
        DELETE "/v1/cluster/members/{name}" =>
            remove_member(RemoveMemberRequest) -> RemoveMemberResponse = cluster::remove_member;
        POST "/v1/cluster/leader" =>
            transfer_leadership(TransferLeadershipRequest) -> TransferLeadershipResponse = cluster::transfer_leadership;
        @stream {
            type WatchStatusStream = Pin<Box<dyn Stream<Item = Result<WatchStatusResponse, Status>> + Send>>;

            async fn watch_status(
                &self,
                request: GrpcRequest<WatchStatusRequest>,
            ) -> Result<GrpcResponse<Self::WatchStatusStream>, Status> {
                watch_status(&self.0, origin(&request)?).await
            }
        }
    }
    service MaintenanceService {
        GET "/v1/maintenance" =>
            get_maintenance_mode(GetMaintenanceModeRequest) -> GetMaintenanceModeResponse = maintenance::get_mode;
        PUT "/v1/maintenance" =>
            set_maintenance_mode(SetMaintenanceModeRequest) -> SetMaintenanceModeResponse = maintenance::set_mode;
        POST "/v1/snapshots" => take_snapshot(TakeSnapshotRequest) -> TakeSnapshotResponse = maintenance::take_snapshot;
        POST "/v1/storage-keys" =>
            rotate_storage_key(RotateStorageKeyRequest) -> RotateStorageKeyResponse = maintenance::rotate_storage_key;
        PUT "/v1/drain" => drain(DrainRequest) -> DrainResponse = maintenance::drain;
        GET "/v1/settings" =>
            list_settings(ListSettingsRequest) -> ListSettingsResponse = maintenance::list_settings;
        @stream {
            type VerifyStorageStream = maintenance::VerifyStream;

            async fn verify_storage(
                &self,
                request: GrpcRequest<VerifyStorageRequest>,
            ) -> Result<GrpcResponse<Self::VerifyStorageStream>, Status> {
                let origin = origin(&request)?;
                Ok(GrpcResponse::new(maintenance::verify_storage(origin, self.0.changes(), request.into_inner()).await?))
            }
        }
    }
    service BackupService {
        GET "/v1/backups" => list_backups(ListBackupsRequest) -> ListBackupsResponse = backup::list;
        POST "/v1/backups" => create_backup(CreateBackupRequest) -> CreateBackupResponse = backup::create;
        POST "/v1/backups/{name}/verify" =>
            verify_backup(VerifyBackupRequest) -> VerifyBackupResponse = backup::verify;
        POST "/v1/backups/{name}/restore" =>
            restore_backup(RestoreBackupRequest) -> RestoreBackupResponse = backup::restore;
        DELETE "/v1/backups/{name}" =>
            delete_backup(DeleteBackupRequest) -> DeleteBackupResponse = backup::delete;
        @stream {
            type DownloadBackupStream = backup::DownloadStream;

            async fn download_backup(
                &self,
                request: GrpcRequest<DownloadBackupRequest>,
            ) -> Result<GrpcResponse<Self::DownloadBackupStream>, Status> {
                let origin = origin(&request)?;
                Ok(GrpcResponse::new(backup::download(origin, request.into_inner()).await?))
            }

            async fn upload_backup(
                &self,
                request: GrpcRequest<Streaming<UploadBackupRequest>>,
            ) -> Result<GrpcResponse<UploadBackupResponse>, Status> {
                let origin = origin(&request)?;
                Ok(GrpcResponse::new(backup::upload(origin, request.into_inner()).await?))
            }
        }
    }
    service AuditService {
        POST "/v1/audit/events" => read_events(ReadEventsRequest) -> ReadEventsResponse = audit::read;
        POST "/v1/audit/verify" => verify_audit(VerifyAuditRequest) -> VerifyAuditResponse = audit::verify;
        @stream {
            type TailEventsStream = audit::TailStream;

            async fn tail_events(
                &self,
                request: GrpcRequest<TailEventsRequest>,
            ) -> Result<GrpcResponse<Self::TailEventsStream>, Status> {
                let origin = origin(&request)?;
                let tail = audit::tail(origin, self.0.changes(), request.into_inner()).await?;
                Ok(GrpcResponse::new(tail))
            }
        }
    }
    service KeyService {
        GET "/v1/keys" => list_keys(ListKeysRequest) -> ListKeysResponse = keys::list;
        GET "/v1/keys/{key}" => get_key(GetKeyRequest) -> GetKeyResponse = keys::get;
        PUT "/v1/keys/{key}" => put_key(PutKeyRequest) -> PutKeyResponse = keys::put;
        DELETE "/v1/keys/{key}" => delete_key(DeleteKeyRequest) -> DeleteKeyResponse = keys::delete;
        PUT "/v1/keys/{key}/expiry" => set_expiry(SetExpiryRequest) -> SetExpiryResponse = keys::set_expiry;
    }
    service AccessService {
        POST "/v1/login" => login(LoginRequest) -> LoginResponse = access::login;
        POST "/v1/logout" => logout(LogoutRequest) -> LogoutResponse = access::logout;
        GET "/v1/whoami" => who_am_i(WhoAmIRequest) -> WhoAmIResponse = access::who_am_i;
        GET "/v1/session" => get_session(GetSessionRequest) -> GetSessionResponse = access::get_session;
        POST "/v1/session/renew" =>
            renew_session(RenewSessionRequest) -> RenewSessionResponse = access::renew_session;
        GET "/v1/users" => list_users(ListUsersRequest) -> ListUsersResponse = access::list_users;
        POST "/v1/users" => create_user(CreateUserRequest) -> CreateUserResponse = access::create_user;
        PUT "/v1/users/{name}/password" =>
            set_password(SetPasswordRequest) -> SetPasswordResponse = access::set_password;
        GET "/v1/sessions" => list_sessions(ListSessionsRequest) -> ListSessionsResponse = access::list_sessions;
        POST "/v1/sessions/end" => end_sessions(EndSessionsRequest) -> EndSessionsResponse = access::end_sessions;
        DELETE "/v1/users/{name}" => drop_user(DropUserRequest) -> DropUserResponse = access::drop_user;
        GET "/v1/users/{name}/rights" => get_rights(GetRightsRequest) -> GetRightsResponse = access::get_rights;
        PUT "/v1/users/{user}/roles/{role}" => grant_role(GrantRoleRequest) -> GrantRoleResponse = access::grant_role;
        DELETE "/v1/users/{user}/roles/{role}" =>
            revoke_role(RevokeRoleRequest) -> RevokeRoleResponse = access::revoke_role;
        GET "/v1/roles" => list_roles(ListRolesRequest) -> ListRolesResponse = access::list_roles;
        POST "/v1/roles" => create_role(CreateRoleRequest) -> CreateRoleResponse = access::create_role;
        DELETE "/v1/roles/{name}" => drop_role(DropRoleRequest) -> DropRoleResponse = access::drop_role;
        POST "/v1/roles/{role}/grants" =>
            grant_permission(GrantPermissionRequest) -> GrantPermissionResponse = access::grant_permission;
        POST "/v1/roles/{role}/grants/revoke" =>
            revoke_permission(RevokePermissionRequest) -> RevokePermissionResponse = access::revoke_permission;
    }
}

/// What is no operation of the table: the bytes of backups, and what goes on until somebody ends it.
pub(crate) const BACKUP_CONTENT: &str = "/v1/backups/{name}/content";
pub(crate) const EVENTS: &str = "/v1/events";
pub(crate) const AUDIT_EVENTS: &str = "/v1/audit/tail";

/// Whether what is at this path looks at nothing that a request brings to prove who it is from: a login has its own password, and
/// a browser may have a cookie left whose session is over.
pub(crate) fn takes_no_proof(path: &str) -> bool {
    path == "/v1/login"
}

/// Whom a path is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Audience {
    /// Those who ask how the server is: never made to wait.
    Probes,
    /// Anybody.
    Strangers,
    /// Those who log in.
    Users,
}

pub(crate) fn audience(path: &str) -> Audience {
    const HEALTH: &str = "/grpc.health.v1.Health/";
    match path.strip_prefix(HEALTH) {
        Some("Check" | "List") => Audience::Probes,
        Some(_) => Audience::Strangers,
        None if probes::PATHS.contains(&path) => Audience::Probes,
        None if path.starts_with("/grpc.reflection.") || console::is_its(path) => Audience::Strangers,
        None => Audience::Users,
    }
}

/// What a path is a case of, without what its client put in; empty for one that is not in the table.
pub(crate) fn route(path: &str) -> &'static str {
    static ROUTES: LazyLock<Vec<String>> = LazyLock::new(|| {
        let rpcs = table().into_iter().flat_map(|operation| {
            let rpc = operation.request.trim_end_matches("Request");
            [format!("/vaylix.admin.v1.{}/{rpc}", operation.service), operation.path.to_owned()]
        });
        let others =
            ["/", "/console/{file}", "/metrics", "/v1/openapi.json", BACKUP_CONTENT, EVENTS, AUDIT_EVENTS];
        rpcs.chain(others.map(str::to_owned)).collect()
    });
    let is_case = |route: &&String| {
        let (mut parts, mut given) = (route.split('/'), path.split('/'));
        parts.by_ref().zip(given.by_ref()).all(|(part, given)| part.starts_with('{') || part == given)
            && route.split('/').count() == path.split('/').count()
    };
    // A name may be what another route has there: what has no names comes first.
    let exact = ROUTES.iter().find(|route| *route == path);
    exact.or_else(|| ROUTES.iter().find(is_case)).map_or("", String::as_str)
}

/// A path as logs may have it: keys are nobody's business there.
pub(crate) fn shown(path: &str) -> &str {
    if path.starts_with("/v1/keys/") { route(path) } else { path }
}

/// The method of a request among those that are known.
pub(crate) fn method_name(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "OPTIONS" => "OPTIONS",
        "POST" => "POST",
        "PUT" => "PUT",
        "DELETE" => "DELETE",
        "PATCH" => "PATCH",
        _ => "_OTHER",
    }
}

/// Whether what is done at this path may take long: a new member has to catch up, an old one hands its office over.
pub(crate) fn is_long(path: &str) -> bool {
    const METHODS: [&str; 10] = [
        ".ClusterService/AddMember",
        ".ClusterService/RemoveMember",
        ".ClusterService/TransferLeadership",
        ".MaintenanceService/TakeSnapshot",
        ".MaintenanceService/RotateStorageKey",
        ".BackupService/CreateBackup",
        ".BackupService/VerifyBackup",
        ".BackupService/RestoreBackup",
        ".BackupService/UploadBackup",
        ".AuditService/VerifyAudit",
    ];
    const PATHS: [&str; 6] = [
        "/v1/cluster/members",
        "/v1/cluster/leader",
        "/v1/snapshots",
        "/v1/storage-keys",
        "/v1/backups",
        "/v1/audit",
    ];
    METHODS.iter().any(|method| path.ends_with(method)) || PATHS.iter().any(|known| path.starts_with(known))
}

/// Whether a request at this path brings a backup, whose length has no bound of its own. It is never in memory as a whole.
pub(crate) fn is_upload(path: &str) -> bool {
    path.ends_with(".BackupService/UploadBackup")
        || (path.starts_with("/v1/backups/") && path.ends_with("/content"))
}

/// The longest body at this path that is no backup.
pub(crate) fn body_bytes_max(path: &str) -> usize {
    let has_value = path.starts_with("/v1/keys/") || path.starts_with("/vaylix.admin.v1.KeyService/");
    if has_value { VALUE_BODY_BYTES_MAX } else { BODY_BYTES_MAX }
}

/// Everything that a listener answers.
pub(crate) fn router(scope: Scope, stage: &Stage) -> Router {
    let http = match scope {
        Scope::Everything { console } => probes::router()
            .route("/metrics", get(metrics_of_users))
            .route("/v1/openapi.json", get(|| async { openapi_document() }))
            .route(BACKUP_CONTENT, get(content_out).put(content_in))
            .route(EVENTS, get(status_events))
            .route(AUDIT_EVENTS, get(audit_events))
            .merge(json_routes())
            .merge(if console { console::router() } else { Router::new() }),
        Scope::Watching => probes::router().route("/metrics", get(metrics_of_collectors)),
    };
    let http = http.with_state(stage.clone());
    let router = match scope {
        Scope::Everything { .. } => grpc(stage).merge(http),
        Scope::Watching => Router::new().merge(http),
    };
    router
        .fallback(|request: Request<Body>| async move { refused(&request, Fault::no_such_path()) })
        .method_not_allowed_fallback(|request: Request<Body>| async move {
            refused(&request, Fault::no_such_method())
        })
}

fn grpc(stage: &Stage) -> Router {
    let reflection =
        || tonic_reflection::server::Builder::configure().register_encoded_file_descriptor_set(DESCRIPTORS);
    let bounded = BODY_BYTES_MAX;
    let mut routes =
        Routes::new(HealthServer::new(health::Service(stage.clone())).max_decoding_message_size(bounded));
    macro_rules! offer {
        ($($Server:ident)+) => {
            $(routes = routes.add_service(
                $Server::new(Api(stage.clone()))
                    .max_decoding_message_size(bounded)
                    .max_encoding_message_size(ANSWER_BYTES_MAX),
            );)+
        };
    }
    offer!(ClusterServiceServer MaintenanceServiceServer BackupServiceServer AuditServiceServer AccessServiceServer);
    routes = routes.add_service(
        KeyServiceServer::new(Api(stage.clone()))
            .max_decoding_message_size(VALUE_BODY_BYTES_MAX)
            .max_encoding_message_size(ANSWER_BYTES_MAX),
    );
    let built = "the descriptors were encoded by the same build";
    routes = routes.add_service(reflection().build_v1().expect(built).max_decoding_message_size(bounded));
    routes =
        routes.add_service(reflection().build_v1alpha().expect(built).max_decoding_message_size(bounded));
    routes.into_axum_router()
}

/// Where a request comes from. It is put there before any handler.
fn origin<T>(request: &GrpcRequest<T>) -> Result<Origin, Status> {
    request.extensions().get::<Origin>().cloned().ok_or_else(|| Status::internal("the request has no origin"))
}

fn refused(request: &Request<Body>, fault: Fault) -> Response {
    match metrics::Surface::of(request) {
        metrics::Surface::Grpc => fault.into_grpc(),
        metrics::Surface::Http | metrics::Surface::Probe => fault.into_http(None),
    }
}

/// The status now, and again each time that something of it changes that an operator would look at. Who asks must have the
/// right to it at each look.
async fn watch_status(
    stage: &Stage,
    origin: Origin,
) -> Result<GrpcResponse<<Api as ClusterService>::WatchStatusStream>, Status> {
    let caller = origin.identify().await?;
    let caller = std::sync::Arc::new(tokio::sync::Mutex::new(caller));
    let look = move || -> health::Look<Seen> {
        let caller = caller.clone();
        Box::pin(async move {
            let mut caller = caller.lock().await;
            caller.check_token()?;
            let overview = cluster::overview(&mut caller).await?;
            Ok(Seen(WatchStatusResponse {
                header: caller.header(),
                status: Some(cluster::status(&overview)),
            }))
        })
    };
    let stream = health::watch(stage.changes(), WATCH_EVERY, look, |seen: &Seen| seen.0.clone());
    Ok(GrpcResponse::new(Box::pin(stream)))
}

/// A status, equal to another one when nothing differs that is worth telling.
struct Seen(WatchStatusResponse);

impl PartialEq for Seen {
    fn eq(&self, other: &Self) -> bool {
        let key = |seen: &Self| {
            let status = seen.0.status.clone().unwrap_or_default();
            let members: Vec<_> = status
                .members
                .into_iter()
                .map(|member| (member.node_id, member.name, member.address, member.voter))
                .collect();
            (
                status.role,
                status.ready,
                status.reason,
                status.maintenance_mode,
                status.term,
                status.leader,
                members,
            )
        };
        key(self) == key(other)
    }
}

/// An operation in JSON: the request is made of the body, the parameters of the path and those behind the `?`.
async fn json<Q, A, F>(
    path: RawPathParams,
    RawQuery(query): RawQuery,
    axum::Extension(origin): axum::Extension<Origin>,
    request: Request<Body>,
    handler: impl FnOnce(Origin, Q) -> F,
) -> Response
where
    Q: DeserializeOwned,
    A: Serialize,
    F: Future<Output = Result<A, Fault>>,
{
    let target = request.uri().path_and_query().map_or_else(String::new, ToString::to_string);
    let outcome = match read(path, query.as_deref(), request).await {
        Ok(message) => handler(origin.clone(), message).await,
        Err(fault) => Err(fault),
    };
    match outcome {
        Ok(answer) => written(&answer),
        Err(fault) => {
            // Cookies do not go along: a page has to be told, rather than its browser.
            let leader = fault.leader_admin_address().filter(|_| !origin.is_by_cookie());
            let location = leader.map(|leader| format!("{}://{leader}{target}", origin.scheme()));
            fault.into_http(location)
        }
    }
}

/// An answer in JSON.
fn written(answer: &impl Serialize) -> Response {
    match serde_json::to_vec(answer) {
        Ok(body) => {
            (StatusCode::OK, [(header::CONTENT_TYPE, "application/json")], Body::from(body)).into_response()
        }
        Err(error) => {
            Fault::new(Code::CorruptedPayload, format!("corrupted payload: {error}")).into_http(None)
        }
    }
}

async fn read<Q: DeserializeOwned>(
    path: RawPathParams,
    query: Option<&str>,
    request: Request<Body>,
) -> Result<Q, Fault> {
    let has_body = !matches!(*request.method(), Method::GET | Method::HEAD | Method::DELETE);
    let bytes_max = body_bytes_max(request.uri().path());
    let body = match request.into_body().collect().await {
        Ok(body) => body.to_bytes(),
        // The only failure that is not the end of the connection.
        Err(_) => return Err(Fault::too_large(bytes_max)),
    };
    let mut fields = match (has_body, body.is_empty()) {
        (_, true) => Map::new(),
        (true, false) => match serde_json::from_slice::<Value>(&body) {
            Ok(Value::Object(fields)) => fields,
            Ok(_) => return Err(Fault::field("body", "it is a JSON object")),
            Err(error) => return Err(Fault::field("body", format!("it is no JSON: {error}"))),
        },
        (false, false) => return Err(Fault::field("body", "this method takes none")),
    };
    let source = if has_body { "body" } else { "query" };
    for (name, value) in parameters(query)? {
        match name.as_str() {
            // What has a body says everything there.
            _ if has_body => {
                let problem = format!("{name:?} is not taken here: this method takes its fields in the body");
                return Err(Fault::field("query", problem));
            }
            "pageSize" | "pageToken" => {
                let page = fields.entry("page").or_insert_with(|| Value::Object(Map::new()));
                let part = if name == "pageSize" { "size" } else { "token" };
                if part == "size" {
                    number::<u32>("pageSize", &value)?;
                }
                if let Value::Object(page) = page {
                    page.insert(part.to_owned(), Value::String(value));
                }
            }
            "validateOnly" => {
                let is_so = match value.as_str() {
                    "" | "true" => true,
                    "false" => false,
                    // Taken for no, it would carry out what was only to be looked at.
                    _ => return Err(Fault::field("validateOnly", "it is true or false")),
                };
                fields.insert(name, Value::Bool(is_so));
            }
            "expectedConfigVersion" | "expectedVersion" => {
                let field =
                    if name == "expectedVersion" { "expectedVersion" } else { "expectedConfigVersion" };
                number::<u64>(field, &value)?;
                fields.insert(name, Value::String(value));
            }
            // Fields of messages that are texts.
            "prefix" | "glob" | "permission" | "key" => {
                fields.insert(name, Value::String(value));
            }
            _ => return Err(Fault::field("query", format!("there is no parameter {name:?}"))),
        }
    }
    for (name, value) in &path {
        fields.insert(name.to_owned(), Value::String(value.to_owned()));
    }
    serde_json::from_value(Value::Object(fields)).map_err(|error| Fault::field(source, error))
}

/// Makes sure that a parameter is a number.
fn number<N: std::str::FromStr<Err: std::fmt::Display>>(
    field: &'static str,
    text: &str,
) -> Result<(), Fault> {
    match text.parse::<N>() {
        Ok(_) => Ok(()),
        Err(error) => Err(Fault::field(field, format!("{text:?}: {error}"))),
    }
}

/// What the node does, as it does it.
async fn status_events(
    State(stage): State<Stage>,
    axum::Extension(origin): axum::Extension<Origin>,
) -> Response {
    events::status(stage, origin).await.unwrap_or_else(|fault| fault.into_http(None))
}

/// The events of the audit log as they come.
async fn audit_events(
    State(stage): State<Stage>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    axum::Extension(origin): axum::Extension<Origin>,
) -> Response {
    let opened = async {
        let mut request = tail_request(parameters(query.as_deref())?)?;
        if let Some(last) = headers.get("last-event-id").and_then(|value| value.to_str().ok()) {
            let number = last.parse().map_err(|_| Fault::field("last-event-id", "it is a number"))?;
            request.after_sequence = number;
        }
        events::audit(stage, origin, request).await
    };
    opened.await.unwrap_or_else(|fault| fault.into_http(None))
}

/// What the parameters behind the `?` choose of the audit log.
fn tail_request(parameters: BTreeMap<String, String>) -> Result<TailEventsRequest, Fault> {
    let mut request = TailEventsRequest::default();
    let mut filter = AuditFilter::default();
    for (name, value) in parameters {
        match name.as_str() {
            "user" => filter.user = value,
            "eventType" => filter.event_type = value,
            "status" => filter.status = value,
            "last" => {
                request.last = value.parse().map_err(|_| Fault::field("last", "it is a number of events"))?;
            }
            _ => return Err(Fault::field("query", format!("there is no parameter {name:?}"))),
        }
    }
    request.filter = Some(filter);
    Ok(request)
}

/// The bytes of a backup.
async fn content_out(axum::Extension(origin): axum::Extension<Origin>, Path(name): Path<String>) -> Response {
    match backup::begin_download(origin, name).await {
        Ok((_, Download { size_bytes, chunks })) => {
            let chunks = tokio_stream::wrappers::ReceiverStream::new(chunks);
            let headers = [
                (header::CONTENT_TYPE, "application/json".to_owned()),
                (header::CONTENT_LENGTH, size_bytes.to_string()),
            ];
            let chunks =
                chunks.map(|chunk| chunk.map_err(|refusal| std::io::Error::other(refusal.to_string())));
            (StatusCode::OK, headers, Body::from_stream(chunks)).into_response()
        }
        Err(fault) => fault.into_http(None),
    }
}

/// Takes the bytes of a backup in.
async fn content_in(
    axum::Extension(origin): axum::Extension<Origin>,
    Path(name): Path<String>,
    body: Body,
) -> Response {
    let taken = async {
        let (caller, upload) = backup::begin_upload(origin, name).await?;
        let mut body = body.into_data_stream();
        while let Some(chunk) = body.next().await {
            let chunk = chunk.map_err(|error| Fault::field("body", error))?;
            // Nobody takes them any more when something has failed: then the end says what.
            if upload.chunks.send(chunk.to_vec()).await.is_err() {
                break;
            }
        }
        backup::finish_upload(&caller, upload).await
    };
    match taken.await {
        Ok(answer) => written(&answer),
        Err(fault) => fault.into_http(None),
    }
}

/// The parameters behind the `?`, decoded.
fn parameters(query: Option<&str>) -> Result<BTreeMap<String, String>, Fault> {
    let mut parameters = BTreeMap::new();
    for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = decode(value).ok_or_else(|| Fault::field("query", "it is not percent-encoded UTF-8"))?;
        if parameters.insert(name.to_owned(), value).is_some() {
            return Err(Fault::field("query", format!("the parameter {name:?} is there twice")));
        }
    }
    Ok(parameters)
}

/// Undoes percent-encoding, and `+` for a blank.
fn decode(text: &str) -> Option<String> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digits = [bytes.next()?, bytes.next()?];
                u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
            }
            other => other,
        });
    }
    String::from_utf8(decoded).ok()
}

/// `/metrics` for whoever has the right to METRICS.
async fn metrics_of_users(
    State(stage): State<Stage>,
    axum::Extension(origin): axum::Extension<Origin>,
) -> Response {
    let figures = async {
        let mut caller = origin.identify().await?;
        let admitted = caller.admit(Command::MetricsProm).await?;
        Ok::<_, Fault>(caller.door().figures(admitted)?)
    };
    metrics_page(figures.await, &stage)
}

/// `/metrics` on a listener that the operator opened for it.
async fn metrics_of_collectors(State(stage): State<Stage>) -> Response {
    let figures = match stage.door() {
        Some(door) => door.figures_for_collectors().map_err(Fault::from),
        None => Err(Fault::starting()),
    };
    metrics_page(figures, &stage)
}

fn metrics_page(figures: Result<vaylix_access::Figures, Fault>, stage: &Stage) -> Response {
    match figures {
        Ok(figures) => {
            let page = metrics::page(&figures, stage.traffic());
            ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], page).into_response()
        }
        Err(fault) => fault.into_http(None),
    }
}

fn openapi_document() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], openapi::document().to_string()).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_say_nothing_of_what_clients_put_in() {
        let rpc = "/vaylix.admin.v1.ClusterService/GetStatus";
        assert_eq!(route(rpc), rpc);
        assert_eq!(route("/v1/cluster/members/secret"), "/v1/cluster/members/{name}");
        assert_eq!(route("/v1/backups/secret/verify"), "/v1/backups/{name}/verify");
        assert_eq!(route("/v1/backups"), "/v1/backups");
        assert_eq!(route("/v1/keys/secret/expiry"), "/v1/keys/{key}/expiry");
        assert_eq!((shown("/v1/keys/secret"), shown("/v1/users/al")), ("/v1/keys/{key}", "/v1/users/al"));
        assert_eq!(route("/console/app.js"), "/console/{file}");
        assert_eq!(route("/"), "/");
        for path in [
            "",
            "//",
            "/v1/secret",
            "/v1/backups/secret/verify/more",
            "/vaylix.admin.v1.ClusterService/Secret",
        ] {
            assert_eq!(route(path), "", "{path}");
        }
    }

    #[test]
    fn what_is_asked_with_get_is_named_so_that_it_changes_nothing() {
        for operation in table().iter().filter(|operation| operation.method == Method::GET) {
            let starts = ["get_", "list_", "who_am_i"];
            assert!(starts.iter().any(|start| operation.rpc.starts_with(start)), "{}", operation.rpc);
        }
    }

    #[test]
    fn parameters_are_decoded() {
        let found = parameters(Some("pageSize=5&pageToken=a%20b+c&x")).unwrap_or_default();
        assert_eq!(found["pageSize"], "5");
        assert_eq!(found["pageToken"], "a b c");
        assert_eq!(found["x"], "");
        for wrong in ["x=%", "x=%4", "x=%zz", "x=%ff"] {
            assert!(parameters(Some(wrong)).is_err(), "{wrong}");
        }
    }
}
