//! Backups, and their way from and to this machine.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::Path;

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use vaylix_admin_proto::v1::backup_service_client::BackupServiceClient;
use vaylix_admin_proto::v1::*;

use super::Session;
use super::cluster::{PAGE_SIZE, next};
use crate::connection::{Client, Kind};
use crate::error::{Effect, Error, unreadable};
use crate::flags::BackupVerb;
use crate::output::{Progress, tell};
use crate::render::table::{fields, table};
use crate::render::{bytes, time, yes};

/// Bytes of one message of an upload, and how many of them wait to be sent.
const CHUNK_BYTES: usize = 64 * 1024;
const CHUNKS_AHEAD_MAX: usize = 4;

pub(super) async fn run(mut session: Session, verb: &BackupVerb) -> Result<(), Error> {
    match verb {
        BackupVerb::List => list(session).await,
        BackupVerb::Create { name } => {
            let message = CreateBackupRequest { name: name.clone() };
            let answer = session
                .client
                .call(Kind::LONG_CHANGE, message, async |channel, request| {
                    BackupServiceClient::new(channel).create_backup(request).await
                })
                .await?;
            session.screen.show(&answer, |answer| summary(name, answer.backup.as_ref()))
        }
        BackupVerb::Verify { name } => {
            let message = VerifyBackupRequest { name: name.clone() };
            let answer = session
                .client
                .call(Kind::LONG_READ, message, async |channel, request| {
                    BackupServiceClient::new(channel).verify_backup(request).await
                })
                .await?;
            session.screen.show(&answer, |answer| summary(name, answer.backup.as_ref()))
        }
        BackupVerb::Restore { name: Some(name), file: None } => restore(session, name).await,
        BackupVerb::Restore { file: Some(file), .. } => restore_file(session, file).await,
        BackupVerb::Restore { name: None, file: None } => {
            Err(Error::Usage("which backup is to be restored?".to_owned()))
        }
        BackupVerb::Delete { name } => {
            tell(&format!("backup {name} of the node that is asked is removed"))?;
            session.screen.confirm(&format!("Delete {name}"))?;
            let answer = delete(&mut session.client, name).await?;
            session.screen.show(&answer, |_| format!("backup {name} deleted"))
        }
        BackupVerb::Download { name, file } => download(session, name, file).await,
        BackupVerb::Upload { file, name } => {
            let answer = upload(&mut session.client, file, name).await?;
            session.screen.show(&answer, |answer| summary(name, answer.backup.as_ref()))
        }
    }
}

fn summary(name: &str, backup: Option<&BackupSummary>) -> String {
    let backup = backup.cloned().unwrap_or_default();
    fields(&[
        ("Backup", name.to_owned()),
        ("Version", backup.version.to_string()),
        ("Created", time::moment(backup.created_at_ms)),
        ("Entries", format!("{} ({} live)", backup.entry_count, backup.live_count)),
        ("Size", bytes(backup.size_bytes)),
        ("SHA-256", backup.sha256),
    ])
}

async fn list(mut session: Session) -> Result<(), Error> {
    let mut all = ListBackupsResponse::default();
    let mut token = String::new();
    loop {
        let message = ListBackupsRequest { page: Some(PageRequest { size: PAGE_SIZE, token }) };
        let page = session
            .client
            .call(Kind::READ, message, async |channel, request| {
                BackupServiceClient::new(channel).list_backups(request).await
            })
            .await?;
        all.header = page.header;
        all.backups.extend(page.backups);
        token = page.next_token;
        if token.is_empty() {
            break;
        }
    }
    session.screen.show(&all, |all| {
        let row = |backup: &Backup| {
            vec![
                backup.name.clone(),
                bytes(backup.size_bytes),
                time::moment(backup.modified_at_ms),
                yes(backup.has_manifest),
            ]
        };
        table(&["NAME", "SIZE", "WRITTEN", "MANIFEST"], &all.backups.iter().map(row).collect::<Vec<_>>())
    })
}

async fn delete(client: &mut Client, name: &str) -> Result<DeleteBackupResponse, Error> {
    let message = DeleteBackupRequest { name: name.to_owned() };
    client
        .call(Kind::CHANGE, message, async |channel, request| {
            BackupServiceClient::new(channel).delete_backup(request).await
        })
        .await
}

/// What is restored is a backup of the leader: one of this name elsewhere may be another one.
async fn restore(mut session: Session, name: &str) -> Result<(), Error> {
    session.client.go_to_leader().await?;
    let answer = restore_there(&mut session, name).await?;
    session.screen.show(&answer, |answer| format!("{} entries restored from {name}", answer.entry_count))
}

async fn restore_file(mut session: Session, file: &Path) -> Result<(), Error> {
    session.client.go_to_leader().await?;
    let name = format!("vaylixctl-{}-{}.vdbk", time::now_ms(), std::process::id());
    upload(&mut session.client, file, &name).await?;
    let restored = restore_there(&mut session, &name).await;
    // Whatever became of the restore, nobody else wants the file; but what became of it is told first.
    let deleted = match &restored {
        Err(Error::OutcomeUnknown(_)) => Ok(()),
        Ok(_) | Err(_) => delete(&mut session.client, &name).await.map(drop),
    };
    let answer = restored?;
    session
        .screen
        .show(&answer, |answer| format!("{} entries restored from {}", answer.entry_count, file.display()))?;
    deleted.map_err(|error| Error::Here(format!("restored, but backup {name} is left behind: {error}")))
}

/// Shows what would be restored, asks, and restores.
async fn restore_there(session: &mut Session, name: &str) -> Result<RestoreBackupResponse, Error> {
    let method = async |channel, request| BackupServiceClient::new(channel).restore_backup(request).await;
    let mut message = RestoreBackupRequest { name: name.to_owned(), validate_only: true };
    let plan = session.client.call(Kind::LONG_READ, message.clone(), method).await?;
    tell(&format!("all keys of the cluster are replaced by the {} entries of {name}", plan.entry_count))?;
    session.screen.confirm("Go on")?;
    message.validate_only = false;
    // Should another node lead by now: what it has under this name, if anything, is not what was looked at.
    session.client.call(Kind::LONG_CHANGE_HERE, message, method).await
}

/// Receives into a draft beside the file, which gets its name when everything has arrived.
async fn download(mut session: Session, name: &str, file: &Path) -> Result<(), Error> {
    if file.exists() {
        return Err(Error::file(file, "is there already"));
    }
    let file_name = file.file_name().ok_or_else(|| Error::file(file, "is no name for a file"))?;
    let message = DownloadBackupRequest { name: name.to_owned() };
    let mut stream = session
        .client
        .call(Kind::READ, message, async |channel, request| {
            BackupServiceClient::new(channel).download_backup(request).await
        })
        .await?;
    let address = session.client.place().await?.address;
    let mut first = next(&mut stream, &address).await?.unwrap_or_default();
    let mut draft_name = file_name.to_owned();
    draft_name.push(".draft");
    let draft = file.with_file_name(draft_name);
    let received = async {
        let mut out = File::create(&draft).map_err(unreadable(&draft))?;
        let mut progress = Progress::new(name.to_owned(), first.size_bytes);
        let mut count = 0;
        while let Some(told) = next(&mut stream, &address).await? {
            out.write_all(&told.chunk).map_err(unreadable(&draft))?;
            count += told.chunk.len() as u64;
            progress.add(told.chunk.len() as u64)?;
        }
        if count != first.size_bytes {
            let problem = format!("{count} of {} bytes arrived", first.size_bytes);
            return Err(Error::file(file, problem));
        }
        out.sync_all().map_err(unreadable(&draft))?;
        // Unlike a rename, this does not replace what has come there meanwhile.
        std::fs::hard_link(&draft, file).map_err(unreadable(file))
    }
    .await;
    let removed = std::fs::remove_file(&draft).map_err(unreadable(&draft));
    received?;
    removed?;
    first.chunk.clear();
    session.screen.show(&first, |first| format!("{} in {}", bytes(first.size_bytes), file.display()))
}

async fn upload(client: &mut Client, file: &Path, name: &str) -> Result<UploadBackupResponse, Error> {
    let mut input = File::open(file).map_err(unreadable(file))?;
    let total = input.metadata().map_err(unreadable(file))?.len();
    let place = client.place().await?;
    let (sender, receiver) = mpsc::channel(CHUNKS_AHEAD_MAX);
    let request = client.request(ReceiverStream::new(receiver));
    let mut service = BackupServiceClient::new(place.channel.clone());
    let sending = async {
        let mut progress = Progress::new(name.to_owned(), total);
        let first = UploadBackupRequest { name: name.to_owned(), chunk: Vec::new() };
        // A server that refuses stops listening; its answer says why.
        if sender.send(first).await.is_err() {
            return Ok(());
        }
        loop {
            let mut chunk = vec![0; CHUNK_BYTES];
            let count = input.read(&mut chunk).map_err(unreadable(file))?;
            chunk.truncate(count);
            if count == 0 {
                break;
            }
            let message = UploadBackupRequest { name: String::new(), chunk };
            if sender.send(message).await.is_err() {
                return Ok(());
            }
            progress.add(count as u64)?;
        }
        // The end of the file is the end of the stream.
        drop(sender);
        Ok::<(), Error>(())
    };
    let uploading = async {
        let answer = service.upload_backup(request).await;
        // Nothing has a name before all of it has arrived, but the last answer may have been lost.
        answer.map_err(|status| Client::judge(&place.address, &status, Effect::Change))
    };
    // Given up when the file cannot be read: the end of the stream would pass for the end of the file.
    let ((), answer) = tokio::try_join!(sending, uploading)?;
    Ok(answer.into_inner())
}
