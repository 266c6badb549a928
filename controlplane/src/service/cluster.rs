//! The cluster and its nodes.

use std::time::Duration;

use vaylix_access::{AdmittedTask, MemberStatus, Outcome, Overview, Role as NodeRole, Task};
use vaylix_admin_proto::v1::*;
use vaylix_proto::{Code, Command};

use crate::caller::{Caller, Origin};
use crate::fault::Fault;
use crate::page::page;

pub(crate) async fn get_status(origin: Origin, _: GetStatusRequest) -> Result<GetStatusResponse, Fault> {
    let mut caller = origin.identify().await?;
    let overview = overview(&mut caller).await?;
    Ok(GetStatusResponse { header: caller.header(), status: Some(status(&overview)) })
}

pub(crate) async fn list_members(
    origin: Origin,
    request: ListMembersRequest,
) -> Result<ListMembersResponse, Fault> {
    let mut caller = origin.identify().await?;
    let overview = overview(&mut caller).await?;
    let page = page(members(&overview), |member| &member.name, request.page);
    Ok(ListMembersResponse {
        header: caller.header(),
        members: page.items,
        next_token: page.next_token,
        config_version: overview.status.membership_index,
    })
}

pub(crate) async fn add_member(
    origin: Origin,
    request: AddMemberRequest,
) -> Result<AddMemberResponse, Fault> {
    let AddMemberRequest { name, address, validate_only, expected_config_version } = request;
    let mut caller = origin.identify().await?;
    let overview = overview(&mut caller).await?;
    check_config_version(&overview, expected_config_version)?;
    // A plan for what cannot be would be approved in good faith.
    vaylix_access::cluster::check_name(&name).map_err(|refusal| Fault::from(refusal).of_field("name"))?;
    vaylix_access::cluster::check_address(&address)
        .map_err(|refusal| Fault::from(refusal).of_field("address"))?;
    let known = overview.members.iter().find(|member| member.name == name);
    let voters_after = overview.status.voters + usize::from(!known.is_some_and(|member| member.voter));
    let mut plan = plan(&overview, voters_after);
    if let Some(member) = known.filter(|member| member.voter && member.address == address) {
        plan.warnings.push(format!("{} is a member with a vote already", member.name));
    }
    let command = Command::ClusterJoin { node: name.into(), address: address.into() };
    let done = carry_out(&mut caller, command, validate_only).await?;
    Ok(AddMemberResponse { header: caller.header(), plan: Some(plan), done })
}

pub(crate) async fn remove_member(
    origin: Origin,
    request: RemoveMemberRequest,
) -> Result<RemoveMemberResponse, Fault> {
    let RemoveMemberRequest { name, validate_only, expected_config_version } = request;
    let mut caller = origin.identify().await?;
    let overview = overview(&mut caller).await?;
    check_config_version(&overview, expected_config_version)?;
    let Some(member) = overview.members.iter().find(|member| member.name == name) else {
        return Err(Fault::field("name", format!("there is no member called {name}")));
    };
    let voters_after = overview.status.voters.saturating_sub(usize::from(member.voter));
    let mut plan = plan(&overview, voters_after);
    if overview.leader().is_some_and(|leader| leader.node == member.node) {
        plan.warnings.push("it leads: its office is handed over first, and writes pause for that".to_owned());
    }
    let command = Command::ClusterRemove { node: name.into() };
    let done = carry_out(&mut caller, command, validate_only).await?;
    Ok(RemoveMemberResponse { header: caller.header(), plan: Some(plan), done })
}

pub(crate) async fn transfer_leadership(
    origin: Origin,
    request: TransferLeadershipRequest,
) -> Result<TransferLeadershipResponse, Fault> {
    let TransferLeadershipRequest { to, validate_only, expected_config_version } = request;
    let mut caller = origin.identify().await?;
    let overview = overview(&mut caller).await?;
    check_config_version(&overview, expected_config_version)?;
    if !to.is_empty() && !overview.members.iter().any(|member| member.name == to && member.voter) {
        return Err(Fault::field("to", format!("there is no voter called {to}")));
    }
    let task = Task::TransferLeadership { to: Some(to.clone()).filter(|to| !to.is_empty()) };
    if validate_only {
        refuse_as_validated(caller.admit_task(task).await?);
        return Ok(TransferLeadershipResponse { header: caller.header(), done: false, leader: to });
    }
    let Outcome::Elected(leader) = caller.perform(task).await? else { return Err(Fault::nonsense()) };
    Ok(TransferLeadershipResponse { header: caller.header(), done: true, leader })
}

/// Writes down that nothing was done.
fn refuse_as_validated(admitted: AdmittedTask) {
    let told = Fault::new(Code::UnsupportedRemoteCommand, "validated only: nothing was changed");
    drop(admitted.refuse(told.into_reply()));
}

/// Has a change let in, and carried out unless it is only to be judged. Whether it was.
async fn carry_out(caller: &mut Caller, command: Command, validate_only: bool) -> Result<bool, Fault> {
    if validate_only {
        // The right to it is asked for, and it is written down that nothing was done.
        let admitted = caller.admit(command).await?;
        let told = Fault::new(Code::UnsupportedRemoteCommand, "validated only: nothing was changed");
        drop(admitted.refuse(told.into_reply()));
        return Ok(false);
    }
    caller.run(command).await?;
    Ok(true)
}

/// The node as an administrator sees it.
pub(crate) async fn overview(caller: &mut Caller) -> Result<Overview, Fault> {
    let admitted = caller.admit(Command::ShowCluster).await?;
    Ok(caller.door().overview(admitted)?)
}

fn check_config_version(overview: &Overview, expected: u64) -> Result<(), Fault> {
    let current = overview.status.membership_index;
    if expected == 0 || expected == current {
        return Ok(());
    }
    Err(Fault::moved_on(format!(
        "invalid command-line arguments: expected_config_version: the membership is that of version {current}, not {expected}"
    )))
}

/// What a change from the voters as they are to so many does.
fn plan(overview: &Overview, voters_after: usize) -> MembershipPlan {
    let voters_before = overview.status.voters;
    let mut warnings = Vec::new();
    if voters_after.is_multiple_of(2) {
        warnings.push(format!(
            "{voters_after} voters survive no more failures than {} would",
            voters_after.saturating_sub(1)
        ));
    }
    if voters_after < voters_before && voters_after < 3 {
        warnings.push(format!("with {voters_after} voters no failure is survived"));
    }
    let (before, after) = (quorum(voters_before), quorum(voters_after));
    MembershipPlan {
        // Both majorities are needed: of the larger membership for the number, of the one that survives less for what is survived.
        during: Some(QuorumView {
            voter_count: before.voter_count.max(after.voter_count),
            quorum_size: before.quorum_size.max(after.quorum_size),
            failure_tolerance: before.failure_tolerance.min(after.failure_tolerance),
        }),
        before: Some(before),
        after: Some(after),
        warnings,
        config_version: overview.status.membership_index,
    }
}

fn quorum(voters: usize) -> QuorumView {
    QuorumView {
        voter_count: count(voters),
        quorum_size: count(voters / 2 + 1),
        failure_tolerance: count(voters.saturating_sub(1) / 2),
    }
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// A node as it sees itself.
pub(crate) fn status(overview: &Overview) -> NodeStatus {
    let Overview { status, report, .. } = overview;
    let wal = &status.wal;
    NodeStatus {
        version: report.version.clone(),
        git_sha: report.git_sha.clone(),
        role: role(status.role).into(),
        ready: overview.ready,
        reason: overview.reason.to_owned(),
        maintenance_mode: overview.in_maintenance,
        term: status.term,
        leader: overview.leader().map(|leader| LeaderRef {
            node_id: leader.node.to_string(),
            name: leader.name.clone(),
            address: leader.address.clone(),
        }),
        clustered: status.cluster.is_some(),
        voter_count: count(status.voters),
        quorum_size: count(status.voters / 2 + 1),
        failure_tolerance: count(failure_tolerance(overview)),
        members: members(overview),
        last_index: status.last_index,
        durable_index: status.durable_index,
        committed_index: status.commit_index,
        applied_index: status.applied_index,
        wal: Some(WalStatus {
            sync_policy: report.wal_sync_policy.clone(),
            segment_count: wal.segment_count as u64,
            size_bytes: wal.size_bytes,
            oldest_index: wal.oldest_index.unwrap_or(0),
            sync_count: wal.syncs.len(),
            sync_mean_us: wal.syncs.sum_us().checked_div(wal.syncs.len()).unwrap_or(0),
            sync_max_us: wal.syncs.max_us(),
            sync_p99_us: wal.syncs.permille_us(990),
        }),
        snapshot: Some(SnapshotStatus {
            index: status.snapshot.map_or(0, |snapshot| snapshot.index),
            size_bytes: status.snapshot.map_or(0, |snapshot| snapshot.size_bytes),
            taken_at_ms: status.snapshot.map_or(0, |snapshot| snapshot.taken_ms),
            taken_count: status.snapshots.taken,
            failed_count: status.snapshots.failed,
            last_duration_ms: millis(status.snapshots.last_duration.unwrap_or_default()),
            log_bytes_since: status.log_bytes_since_snapshot,
        }),
        storage_key: Some(KeyStatus {
            active_id: status.keys.active_id.clone(),
            created_at_ms: status.keys.active_created_ms,
            age_seconds: overview.now_ms.saturating_sub(status.keys.active_created_ms) / 1000,
            count: status.keys.count as u64,
            wrapped: status.keys.wrapped,
        }),
        certificate: overview.certificate.as_ref().map(|certificate| CertificateStatus {
            subject: certificate.subject.clone(),
            fingerprint: certificate.fingerprint.clone(),
            not_after_ms: certificate.not_after_ms,
            days_remaining: certificate.days_remaining(overview.now_ms),
        }),
        recovery: Some(RecoveryStatus {
            duration_ms: millis(status.recovery.duration),
            snapshot_index: status.recovery.snapshot_index,
            replayed_entries: status.recovery.replayed_entries,
            replayed_bytes: status.recovery.replayed_bytes,
        }),
        config_version: status.membership_index,
        draining: overview.draining,
        last_backup_at_ms: overview.last_backup_ms,
        last_verification: overview.last_verification.map(super::maintenance::verification),
    }
}

/// A member that has not answered for so long has missed ten heartbeats of the default timing.
const ANSWERS_WITHIN: Duration = Duration::from_secs(1);

/// How many more voters may be lost. A leader counts those that do not answer as lost already.
fn failure_tolerance(overview: &Overview) -> usize {
    let status = &overview.status;
    let quorum = status.voters / 2 + 1;
    let leads = status.role == NodeRole::Leader && status.cluster.is_some();
    let answering = |member: &&MemberStatus| {
        !leads
            || member.node == status.identity.node
            || member
                .silence
                .is_some_and(|silence| silence <= overview.report.stale_after.min(ANSWERS_WITHIN))
    };
    let alive = overview.members.iter().filter(|member| member.voter).filter(answering).count();
    alive.saturating_sub(quorum)
}

fn members(overview: &Overview) -> Vec<Member> {
    let status = &overview.status;
    let leads = status.role == NodeRole::Leader;
    let member = |member: &MemberStatus| {
        let is_self = member.node == status.identity.node;
        let matched = if is_self { Some(status.last_index) } else { member.matched_index.or(Some(0)) };
        let matched = matched.filter(|_| leads);
        Member {
            node_id: member.node.to_string(),
            name: member.name.clone(),
            address: member.address.clone(),
            voter: member.voter,
            leader: status.leader == Some(member.node),
            match_index: matched,
            lag_entries: matched.map(|matched| status.last_index.saturating_sub(matched)),
            silence_ms: member.silence.filter(|_| leads && !is_self).map(millis),
        }
    };
    overview.members.iter().map(member).collect()
}

fn role(role: NodeRole) -> Role {
    match role {
        NodeRole::Leader => Role::Leader,
        NodeRole::Candidate => Role::Candidate,
        NodeRole::Follower => Role::Follower,
        NodeRole::Learner => Role::Learner,
        NodeRole::Stopped => Role::Stopped,
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
