//! `grpc.health.v1`, for load balancers that speak gRPC. Needs no login, like the probes of HTTP.

use std::collections::HashMap;
use std::pin::Pin;
use std::time::Duration;

use tokio_stream::Stream;
use tonic::{Request, Response, Status};
use vaylix_admin_proto::health::health_check_response::ServingStatus;
use vaylix_admin_proto::health::health_server::Health;
use vaylix_admin_proto::health::{
    HealthCheckRequest, HealthCheckResponse, HealthListRequest, HealthListResponse,
};

use crate::caps::WATCH_EVERY;
use crate::fault::Fault;
use crate::stage::{Changes, Stage};

/// The services that have a state, in the order of the documentation.
const SERVICES: [&str; 4] = ["", "vaylix.data", "vaylix.data.leader", "vaylix.admin"];

/// The state of a service; none for one that is not known.
///
/// A server that is stopping serves nothing: whoever balances load must have gone before the last answers are given.
fn state(stage: &Stage, service: &str) -> Option<ServingStatus> {
    let is_serving = match service {
        "" => true,
        // A node without its cluster's users lets nobody in.
        "vaylix.admin" => stage.vitals().is_some_and(|vitals| vitals.informed),
        "vaylix.data" => stage.vitals().is_some_and(|vitals| vitals.ready && !vitals.draining),
        "vaylix.data.leader" => {
            stage.vitals().is_some_and(|vitals| vitals.ready && vitals.leads && !vitals.draining)
        }
        _ => return None,
    };
    Some(if is_serving && !stage.is_stopping() { ServingStatus::Serving } else { ServingStatus::NotServing })
}

fn response(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status.into() }
}

/// The service.
pub(crate) struct Service(pub(crate) Stage);

#[tonic::async_trait]
impl Health for Service {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        let service = request.into_inner().service;
        match state(&self.0, &service) {
            Some(status) => Ok(Response::new(response(status))),
            None => Err(Status::not_found("no such service")),
        }
    }

    async fn list(&self, _: Request<HealthListRequest>) -> Result<Response<HealthListResponse>, Status> {
        let named = |service: &&str| {
            let status = state(&self.0, service).unwrap_or(ServingStatus::ServiceUnknown);
            ((*service).to_owned(), response(status))
        };
        let statuses: HashMap<_, _> = SERVICES.iter().map(named).collect();
        Ok(Response::new(HealthListResponse { statuses }))
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let (stage, service) = (self.0.clone(), request.into_inner().service);
        let look = move || -> Look<ServingStatus> {
            let status = state(&stage, &service).unwrap_or(ServingStatus::ServiceUnknown);
            Box::pin(std::future::ready(Ok(status)))
        };
        let stream = watch(self.0.changes(), WATCH_EVERY, look, |status: &ServingStatus| response(*status));
        Ok(Response::new(Box::pin(stream)))
    }
}

/// What a look at something comes to.
pub(crate) type Look<T> = Pin<Box<dyn Future<Output = Result<T, Status>> + Send>>;

/// What `look` sees now, and again whenever it sees something else. Looks every so often, and at once when the stage changes.
/// Ends with the first failure, and with `SRV-005` behind the last look when the server stops.
pub(crate) fn watch<T, R>(
    changes: Changes,
    every: Duration,
    look: impl FnMut() -> Look<T> + Send + 'static,
    render: impl Fn(&T) -> R + Send + 'static,
) -> impl Stream<Item = Result<R, Status>> + Send
where
    T: PartialEq + Send + 'static,
    R: Send + 'static,
{
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    tokio::spawn(follow(sender, changes, every, look, render));
    tokio_stream::wrappers::ReceiverStream::new(receiver)
}

async fn follow<T: PartialEq, R>(
    sender: tokio::sync::mpsc::Sender<Result<R, Status>>,
    mut changes: Changes,
    every: Duration,
    mut look: impl FnMut() -> Look<T>,
    render: impl Fn(&T) -> R,
) {
    let mut last = None;
    loop {
        let is_last = changes.are_over();
        match look().await {
            Ok(seen) if last.as_ref() != Some(&seen) => {
                if sender.send(Ok(render(&seen))).await.is_err() {
                    return;
                }
                last = Some(seen);
            }
            Ok(_same) => {}
            Err(status) => {
                // Whoever watched may have gone; then nobody has to be told.
                drop(sender.send(Err(status)).await);
                return;
            }
        }
        if is_last {
            drop(sender.send(Err(Fault::stopping().into())).await);
            return;
        }
        tokio::select! {
            () = sender.closed() => return,
            () = changes.next() => {}
            () = tokio::time::sleep(every) => {}
        }
    }
}
