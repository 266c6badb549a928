//! All endpoints at one glance.

use std::time::Duration;

use serde::Serialize;
use vaylix_admin_proto::v1::access_service_client::AccessServiceClient;
use vaylix_admin_proto::v1::*;

use super::Session;
use super::cluster::{get_status, leader, role};
use crate::connection::{Client, Kind};
use crate::error::Error;
use crate::output::{Screen, draw};
use crate::render::table::table;
use crate::render::{bytes, time, yes};
use crate::settings::Login;

/// How often it is drawn.
const DRAW_EVERY: Duration = Duration::from_secs(1);
/// How long an endpoint may take before it is shown as one that does not answer.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(5);

/// To the upper left corner; and clear what is behind the cursor, of the line and of the screen.
const HOME: &str = "\u{1b}[H";
const CLEAR_LINE: &str = "\u{1b}[K";
const CLEAR_REST: &str = "\u{1b}[J";
const CLEAR_ALL: &str = "\u{1b}[2J";

const HEADS: [&str; 11] =
    ["ENDPOINT", "NODE", "ROLE", "READY", "TERM", "LEADER", "APPLIED", "LAG", "SYNC-P99", "LOG", "NOTE"];

/// An endpoint that is looked at again and again.
struct Watched {
    endpoint: String,
    client: Client,
    has_token: bool,
}

/// What was seen of it.
#[derive(Serialize)]
struct Seen {
    endpoint: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    answer: Option<GetStatusResponse>,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
}

/// One look at everything.
#[derive(Serialize)]
struct Frame {
    endpoints: Vec<Seen>,
}

pub(super) async fn run(session: Session, login: Option<&Login>, once: bool) -> Result<(), Error> {
    let one = |endpoint: &String| Watched {
        endpoint: endpoint.clone(),
        client: session.client.of_one(endpoint),
        has_token: false,
    };
    let mut watched: Vec<_> = session.client.endpoints().iter().map(one).collect();
    let shown = tokio::select! {
        shown = show(&mut watched, session.screen, login, once) => shown,
        stopped = tokio::signal::ctrl_c() => stopped.map_err(Error::from),
    };
    for one in &mut watched {
        one.leave().await;
    }
    shown
}

async fn show(
    watched: &mut [Watched],
    screen: Screen,
    login: Option<&Login>,
    once: bool,
) -> Result<(), Error> {
    if once {
        return screen.show(&look(watched, login).await, drawn);
    }
    if !screen.is_for_people() {
        loop {
            screen.show_next(&look(watched, login).await, drawn)?;
            tokio::time::sleep(DRAW_EVERY).await;
        }
    }
    draw(CLEAR_ALL)?;
    loop {
        let frame = look(watched, login).await;
        let mut text = HOME.to_owned();
        let now = time::moment(time::now_ms());
        for line in [&*now, ""].into_iter().chain(drawn(&frame).lines()) {
            text.extend([line, CLEAR_LINE, "\n"]);
        }
        text.push_str(CLEAR_REST);
        draw(&text)?;
        tokio::time::sleep(DRAW_EVERY).await;
    }
}

/// Asks all endpoints at the same time.
async fn look(watched: &mut [Watched], login: Option<&Login>) -> Frame {
    let mut looks: Vec<_> = watched.iter_mut().map(|one| Box::pin(one.look(login))).collect();
    let mut seen: Vec<Option<Seen>> = looks.iter().map(|_| None).collect();
    // As a join of all of them: each is asked on whenever any of them has something.
    std::future::poll_fn(|context| {
        for (look, seen) in looks.iter_mut().zip(&mut seen) {
            if seen.is_none()
                && let std::task::Poll::Ready(found) = look.as_mut().poll(context)
            {
                *seen = Some(found);
            }
        }
        if seen.iter().all(Option::is_some) { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    Frame { endpoints: seen.into_iter().flatten().collect() }
}

impl Watched {
    async fn look(&mut self, login: Option<&Login>) -> Seen {
        let (answer, problem) = match tokio::time::timeout(ANSWER_TIME_MAX, self.status(login)).await {
            Ok(Ok(answer)) => (Some(answer), None),
            // There is only one that can be missed, and its name is in the row already.
            Ok(Err(Error::Unreachable(misses))) => {
                (None, misses.last().map(|miss| format!("cannot reach it: {}", miss.reason)))
            }
            Ok(Err(error)) => (None, Some(error.to_string())),
            Err(_) => (None, Some("no answer in time".to_owned())),
        };
        if answer.is_none() {
            // The next look begins anew: tokens end with their server.
            self.client.disconnect();
            self.has_token = false;
        }
        Seen { endpoint: self.endpoint.clone(), answer, problem }
    }

    /// Ends the token; it would end by itself, but a user has only so many.
    async fn leave(&mut self) {
        if self.has_token {
            let leaving = self.client.call(Kind::CHANGE, LogoutRequest {}, async |channel, request| {
                AccessServiceClient::new(channel).logout(request).await
            });
            // A server that does not answer has no tokens to be economical with.
            drop(tokio::time::timeout(DRAW_EVERY, leaving).await);
        }
    }

    /// With a token, so that not every look costs a login; a certificate costs nothing.
    async fn status(&mut self, login: Option<&Login>) -> Result<GetStatusResponse, Error> {
        let login = match login {
            Some(login) if !self.has_token => login,
            _ => return get_status(&mut self.client).await,
        };
        let message =
            LoginRequest { user: login.user.clone(), password: login.password.clone(), cookie: false };
        let answer = self
            .client
            .call(Kind::READ, message, async |channel, request| {
                let mut request: tonic::Request<LoginRequest> = request;
                request.metadata_mut().remove("authorization");
                AccessServiceClient::new(channel).login(request).await
            })
            .await?;
        self.client.use_token(&answer.token)?;
        self.has_token = true;
        get_status(&mut self.client).await
    }
}

fn drawn(frame: &Frame) -> String {
    table(&HEADS, &frame.endpoints.iter().map(row).collect::<Vec<_>>())
}

fn row(seen: &Seen) -> Vec<String> {
    let unknown = || "-".to_owned();
    let Some(answer) = &seen.answer else {
        let mut row = vec![seen.endpoint.clone()];
        row.extend(std::iter::repeat_with(unknown).take(HEADS.len() - 2));
        row.push(seen.problem.clone().unwrap_or_default());
        return row;
    };
    let header = answer.header.clone().unwrap_or_default();
    let status = answer.status.clone().unwrap_or_default();
    let wal = status.wal.clone().unwrap_or_default();
    // Only a leader knows how far behind the others are; of itself a node knows what it has not applied.
    let lag = status.last_index.saturating_sub(status.applied_index);
    let mut notes = Vec::new();
    if !status.ready {
        notes.push(status.reason.clone());
    }
    if status.draining {
        notes.push("draining".to_owned());
    }
    if status.maintenance_mode {
        notes.push("maintenance".to_owned());
    }
    vec![
        seen.endpoint.clone(),
        header.node_name,
        role(&status),
        yes(status.ready),
        status.term.to_string(),
        leader(&status),
        status.applied_index.to_string(),
        lag.to_string(),
        format!("{} us", wal.sync_p99_us),
        bytes(wal.size_bytes),
        notes.join(", "),
    ]
}
