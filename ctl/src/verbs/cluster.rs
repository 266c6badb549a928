//! The cluster: how it is, who belongs to it and who leads.

use std::collections::BTreeMap;

use serde::Serialize;
use vaylix_admin_proto::health::HealthListRequest;
use vaylix_admin_proto::health::health_check_response::ServingStatus;
use vaylix_admin_proto::health::health_client::HealthClient;
use vaylix_admin_proto::v1::cluster_service_client::ClusterServiceClient;
use vaylix_admin_proto::v1::*;

use super::Session;
use crate::connection::{Client, Kind};
use crate::error::{Effect, Error};
use crate::output::tell;
use crate::render::table::{fields, line, table};
use crate::render::{bytes, or_none, time, yes};

/// The most items that a page holds.
pub(super) const PAGE_SIZE: u32 = 1000;

/// What clients ask about when they want to know whether they are served.
const DATA_SERVICE: &str = "vaylix.data";

/// Heads and widths of what `status --watch` shows.
const WATCH_HEADS: [&str; 8] = ["TIME", "NODE", "ROLE", "TERM", "LEADER", "READY", "VOTERS", "REASON"];
const WATCH_WIDTHS: [usize; 8] = [20, 8, 9, 6, 8, 5, 6, 0];

pub(super) async fn status(mut session: Session) -> Result<(), Error> {
    let answer = get_status(&mut session.client).await?;
    session.screen.show(&answer, |answer| {
        let (header, status) = parts(answer.header.as_ref(), answer.status.as_ref());
        format!("{}\n\n{}", described(&header, &status), members_table(&status.members))
    })
}

pub(super) async fn get_status(client: &mut Client) -> Result<GetStatusResponse, Error> {
    client
        .call(Kind::READ, GetStatusRequest {}, async |channel, request| {
            ClusterServiceClient::new(channel).get_status(request).await
        })
        .await
}

fn parts(header: Option<&ResponseHeader>, status: Option<&NodeStatus>) -> (ResponseHeader, NodeStatus) {
    (header.cloned().unwrap_or_default(), status.cloned().unwrap_or_default())
}

fn described(header: &ResponseHeader, status: &NodeStatus) -> String {
    let wal = status.wal.clone().unwrap_or_default();
    let snapshot = status.snapshot.unwrap_or_default();
    let key = status.storage_key.clone().unwrap_or_default();
    let recovery = status.recovery.unwrap_or_default();
    let mut rows = vec![
        ("Node", format!("{} ({})", or_none(&header.node_name), header.node_id)),
        ("Cluster", header.cluster_id.clone()),
        ("Release", format!("{} ({})", status.version, or_none(&status.git_sha))),
        ("Role", role(status)),
        ("Leader", leader(status)),
        ("Ready", readiness(status)),
        ("Draining", yes(status.draining)),
        ("Maintenance", yes(status.maintenance_mode)),
        ("Term", status.term.to_string()),
        (
            "Voters",
            format!(
                "{} (majority {}, {} more may fail)",
                status.voter_count, status.quorum_size, status.failure_tolerance
            ),
        ),
        ("Config version", status.config_version.to_string()),
        (
            "Log",
            format!(
                "last {}, durable {}, committed {}, applied {}",
                status.last_index, status.durable_index, status.committed_index, status.applied_index
            ),
        ),
        (
            "Log files",
            format!("{}, {}, from entry {}", wal.segment_count, bytes(wal.size_bytes), wal.oldest_index),
        ),
        (
            "Log syncs",
            format!(
                "{} ({}), mean {} us, p99 {} us, slowest {} us",
                wal.sync_count, wal.sync_policy, wal.sync_mean_us, wal.sync_p99_us, wal.sync_max_us
            ),
        ),
        ("Snapshot", shown_snapshot(&snapshot)),
        ("Last backup", time::moment(status.last_backup_at_ms)),
        ("Disk verified", verification(status.last_verification.as_ref())),
        (
            "Storage key",
            format!(
                "{} since {}, {} in all{}",
                key.active_id,
                time::moment(key.created_at_ms),
                key.count,
                if key.wrapped { ", wrapped" } else { "" }
            ),
        ),
        (
            "Recovery",
            format!(
                "{} ms, snapshot at {}, {} entries behind it",
                recovery.duration_ms, recovery.snapshot_index, recovery.replayed_entries
            ),
        ),
    ];
    if let Some(certificate) = &status.certificate {
        let shown = format!(
            "{} until {} ({} days)",
            certificate.subject,
            time::moment(certificate.not_after_ms),
            certificate.days_remaining
        );
        rows.push(("Certificate", shown));
    }
    fields(&rows)
}

fn shown_snapshot(snapshot: &SnapshotStatus) -> String {
    let failed = match snapshot.failed_count {
        0 => String::new(),
        count => format!(", {count} failed since the start"),
    };
    if snapshot.index == 0 {
        return format!("none{failed}");
    }
    let (size, taken) = (bytes(snapshot.size_bytes), time::moment(snapshot.taken_at_ms));
    format!(
        "at entry {}, {size}, taken {taken}, {} of log since{failed}",
        snapshot.index,
        bytes(snapshot.log_bytes_since)
    )
}

/// The role in a word.
pub(super) fn role(status: &NodeStatus) -> String {
    match status.role() {
        Role::Unspecified => "unknown",
        Role::Leader => "leader",
        Role::Candidate => "candidate",
        Role::Follower => "follower",
        Role::Learner => "learner",
        Role::Stopped => "stopped",
    }
    .to_owned()
}

/// Who leads, by name.
pub(super) fn leader(status: &NodeStatus) -> String {
    status.leader.as_ref().map_or_else(|| "-".to_owned(), |leader| or_none(&leader.name))
}

fn readiness(status: &NodeStatus) -> String {
    if status.ready { "yes".to_owned() } else { format!("no ({})", status.reason) }
}

fn members_table(members: &[Member]) -> String {
    let known = |number: Option<u64>| number.map_or_else(|| "-".to_owned(), |number| number.to_string());
    let rows: Vec<_> = members
        .iter()
        .map(|member| {
            let role = match (member.leader, member.voter) {
                (true, _) => "leader",
                (false, true) => "voter",
                (false, false) => "learner",
            };
            vec![
                or_none(&member.name),
                role.to_owned(),
                or_none(&member.address),
                known(member.match_index),
                known(member.lag_entries),
                known(member.silence_ms),
                member.node_id.clone(),
            ]
        })
        .collect();
    table(&["NAME", "ROLE", "ADDRESS", "MATCH", "LAG", "SILENCE-MS", "ID"], &rows)
}

pub(super) async fn watch(mut session: Session) -> Result<(), Error> {
    let answer = async |channel, request| ClusterServiceClient::new(channel).watch_status(request).await;
    // The head of the answer comes at once; what follows has no end.
    let mut stream = session.client.call(Kind::READ, WatchStatusRequest {}, answer).await?;
    let place = session.client.place().await?;
    if session.screen.is_for_people() {
        crate::output::print(&line(&WATCH_WIDTHS, WATCH_HEADS.into_iter()))?;
    }
    while let Some(told) = next(&mut stream, &place.address).await? {
        session.screen.show_next(&told, |told| {
            let (header, status) = parts(told.header.as_ref(), told.status.as_ref());
            let cells = [
                time::moment(time::now_ms()),
                header.node_name,
                role(&status),
                status.term.to_string(),
                leader(&status),
                yes(status.ready),
                status.voter_count.to_string(),
                status.reason,
            ];
            line(&WATCH_WIDTHS, cells.iter().map(String::as_str))
        })?;
    }
    Ok(())
}

/// The next message of a stream; none when the server ended it.
pub(super) async fn next<T>(stream: &mut tonic::Streaming<T>, address: &str) -> Result<Option<T>, Error> {
    stream.message().await.map_err(|status| Client::judge(address, &status, Effect::Nothing))
}

/// The state of each service, as programs see it.
#[derive(Serialize)]
struct Health {
    serving: bool,
    services: BTreeMap<String, &'static str>,
}

pub(super) async fn health(mut session: Session) -> Result<(), Error> {
    let answer = session
        .client
        .call(Kind::READ, HealthListRequest {}, async |channel, request| {
            HealthClient::new(channel).list(request).await
        })
        .await?;
    let state = |status: ServingStatus| match status {
        ServingStatus::Serving => "SERVING",
        ServingStatus::NotServing => "NOT_SERVING",
        ServingStatus::Unknown | ServingStatus::ServiceUnknown => "UNKNOWN",
    };
    let services: BTreeMap<_, _> =
        answer.statuses.into_iter().map(|(name, answer)| (name, state(answer.status()))).collect();
    let serving = services.get(DATA_SERVICE).is_some_and(|state| *state == "SERVING");
    session.screen.show(&Health { serving, services }, |health| {
        let named = |name: &str| if name.is_empty() { "(process)".to_owned() } else { name.to_owned() };
        let rows: Vec<_> =
            health.services.iter().map(|(name, state)| vec![named(name), (*state).to_owned()]).collect();
        table(&["SERVICE", "STATE"], &rows)
    })?;
    if serving { Ok(()) } else { Err(Error::Negative) }
}

pub(super) async fn members(mut session: Session) -> Result<(), Error> {
    let mut all = ListMembersResponse::default();
    let mut token = String::new();
    loop {
        let message = ListMembersRequest { page: Some(PageRequest { size: PAGE_SIZE, token }) };
        let page = session
            .client
            .call(Kind::READ, message, async |channel, request| {
                ClusterServiceClient::new(channel).list_members(request).await
            })
            .await?;
        all.header = page.header;
        all.config_version = page.config_version;
        all.members.extend(page.members);
        token = page.next_token;
        if token.is_empty() {
            break;
        }
    }
    session.screen.show(&all, |all| members_table(&all.members))
}

/// What a change does to the majority.
fn planned(what: &str, plan: &MembershipPlan) -> String {
    let row = |name: &str, view: Option<QuorumView>| {
        let view = view.unwrap_or_default();
        let numbers = [view.voter_count, view.quorum_size, view.failure_tolerance];
        std::iter::once(name.to_owned()).chain(numbers.map(|number| number.to_string())).collect::<Vec<_>>()
    };
    let rows = [row("before", plan.before), row("during", plan.during), row("after", plan.after)];
    let mut text = format!("{what} (config version {}):\n", plan.config_version);
    text.push_str(&table(&["", "VOTERS", "MAJORITY", "MAY-FAIL"], &rows));
    for warning in &plan.warnings {
        text.push_str("\nwarning: ");
        text.push_str(warning);
    }
    text
}

pub(super) async fn add(
    mut session: Session,
    name: &str,
    address: &str,
    only_plan: bool,
) -> Result<(), Error> {
    let method = async |channel, request| ClusterServiceClient::new(channel).add_member(request).await;
    let mut message = AddMemberRequest {
        name: name.to_owned(),
        address: address.to_owned(),
        validate_only: true,
        expected_config_version: 0,
    };
    let what = format!("{name} at {address} becomes a member");
    let planning = session.client.call(Kind::READ, message.clone(), method).await?;
    let plan = planning.plan.clone().unwrap_or_default();
    if only_plan {
        return session.screen.show(&planning, |_| planned(&what, &plan));
    }
    tell(&planned(&what, &plan))?;
    message.validate_only = false;
    message.expected_config_version = plan.config_version;
    let answer = session.client.call(Kind::LONG_CHANGE, message, method).await?;
    session.screen.show(&answer, |_| format!("{name} is a member and has caught up"))
}

pub(super) async fn remove(mut session: Session, name: &str, only_plan: bool) -> Result<(), Error> {
    let method = async |channel, request| ClusterServiceClient::new(channel).remove_member(request).await;
    let mut message =
        RemoveMemberRequest { name: name.to_owned(), validate_only: true, expected_config_version: 0 };
    let what = format!("{name} is taken out");
    let planning = session.client.call(Kind::READ, message.clone(), method).await?;
    let plan = planning.plan.clone().unwrap_or_default();
    if only_plan {
        return session.screen.show(&planning, |_| planned(&what, &plan));
    }
    tell(&planned(&what, &plan))?;
    session.screen.confirm(&format!("Take {name} out"))?;
    message.validate_only = false;
    message.expected_config_version = plan.config_version;
    let answer = session.client.call(Kind::LONG_CHANGE, message, method).await?;
    session.screen.show(&answer, |_| format!("{name} is no member any more"))
}

pub(super) async fn transfer(mut session: Session, to: Option<&str>) -> Result<(), Error> {
    let method =
        async |channel, request| ClusterServiceClient::new(channel).transfer_leadership(request).await;
    let status = get_status(&mut session.client).await?.status.unwrap_or_default();
    let mut message = TransferLeadershipRequest {
        to: to.unwrap_or_default().to_owned(),
        validate_only: true,
        expected_config_version: status.config_version,
    };
    session.client.call(Kind::READ, message.clone(), method).await?;
    let heir = to.unwrap_or("the voter that is best prepared");
    tell(&format!("{} hands its office over to {heir}; writes pause for that", leader(&status)))?;
    session.screen.confirm("Go on")?;
    message.validate_only = false;
    let answer = session.client.call(Kind::LONG_CHANGE, message, method).await?;
    // Right after the election, the one that led before may not have heard who leads now.
    session.screen.show(&answer, |answer| match (answer.leader.as_str(), to) {
        ("", None) => "the office is handed over".to_owned(),
        ("", Some(heir)) | (heir, _) => format!("{heir} leads"),
    })
}

/// When the disk was verified, and what was found.
fn verification(last: Option<&StorageVerification>) -> String {
    match last {
        None => "-".to_owned(),
        Some(last) => format!("{}, {} findings", time::moment(last.ended_at_ms), last.finding_count),
    }
}
