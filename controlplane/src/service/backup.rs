//! Logical backups in the backup directory of the node.

use std::pin::Pin;

use tokio_stream::{Stream, StreamExt as _};
use tonic::{Status, Streaming};
use vaylix_access::{Download, Outcome, Task, Upload};
use vaylix_admin_proto::v1::*;
use vaylix_proto::{Command, Dump, Reply, Text};

use crate::caller::{Caller, Origin};
use crate::fault::Fault;
use crate::page::page;

pub(crate) async fn list(origin: Origin, request: ListBackupsRequest) -> Result<ListBackupsResponse, Fault> {
    let mut caller = origin.identify().await?;
    let Outcome::Backups(backups) = caller.perform(Task::ListBackups).await? else {
        return Err(Fault::nonsense());
    };
    let page = page(backups, |backup| &backup.path, request.page);
    let backups = page.items.into_iter().map(|backup| Backup {
        name: backup.path,
        size_bytes: backup.size_bytes,
        modified_at_ms: backup.modified_at_ms,
        has_manifest: backup.has_manifest,
    });
    Ok(ListBackupsResponse {
        header: caller.header(),
        backups: backups.collect(),
        next_token: page.next_token,
    })
}

pub(crate) async fn create(
    origin: Origin,
    request: CreateBackupRequest,
) -> Result<CreateBackupResponse, Fault> {
    let path = path(request.name)?;
    let mut caller = origin.identify().await?;
    let Outcome::Written(summary) = caller.perform(Task::CreateBackup { path }).await? else {
        return Err(Fault::nonsense());
    };
    let live_count = summary.entry_count;
    Ok(CreateBackupResponse { header: caller.header(), backup: Some(shown(&summary, live_count)) })
}

pub(crate) async fn verify(
    origin: Origin,
    request: VerifyBackupRequest,
) -> Result<VerifyBackupResponse, Fault> {
    let path = path(request.name)?;
    let mut caller = origin.identify().await?;
    let Outcome::Verified(checked) =
        caller.perform(Task::VerifyBackup { path }).await.map_err(Fault::or_missing_file)?
    else {
        return Err(Fault::nonsense());
    };
    let backup = shown(&checked.summary, checked.live_count);
    Ok(VerifyBackupResponse { header: caller.header(), backup: Some(backup) })
}

pub(crate) async fn restore(
    origin: Origin,
    request: RestoreBackupRequest,
) -> Result<RestoreBackupResponse, Fault> {
    let RestoreBackupRequest { name, validate_only } = request;
    let dump = Dump::File(path(name)?);
    let mut caller = origin.identify().await?;
    let command = if validate_only { Command::RestoreCheck(dump) } else { Command::Restore(dump) };
    let answer = caller.run(command).await.map_err(Fault::or_missing_file)?;
    let Reply::Count(entry_count) = answer else { return Err(Fault::nonsense()) };
    Ok(RestoreBackupResponse { header: caller.header(), entry_count, done: !validate_only })
}

pub(crate) async fn delete(
    origin: Origin,
    request: DeleteBackupRequest,
) -> Result<DeleteBackupResponse, Fault> {
    let path = path(request.name)?;
    let mut caller = origin.identify().await?;
    caller.perform(Task::DeleteBackup { path }).await.map_err(Fault::or_missing_file)?;
    Ok(DeleteBackupResponse { header: caller.header() })
}

/// A backup on its way out, and who asked for it.
pub(crate) async fn begin_download(origin: Origin, name: String) -> Result<(Caller, Download), Fault> {
    let path = path(name)?;
    let mut caller = origin.identify().await?;
    let admitted = caller.admit_task(Task::ReadBackup { path }).await?;
    let download =
        caller.door().download(admitted).await.map_err(|refusal| Fault::from(refusal).or_missing_file())?;
    Ok((caller, download))
}

/// The way in for a backup, and who asked for it.
pub(crate) async fn begin_upload(origin: Origin, name: String) -> Result<(Caller, Upload), Fault> {
    let path = path(name)?;
    let mut caller = origin.identify().await?;
    let admitted = caller.admit_task(Task::WriteBackup { path }).await?;
    let upload = caller.door().upload(admitted)?;
    Ok((caller, upload))
}

/// Ends an upload.
pub(crate) async fn finish_upload(caller: &Caller, upload: Upload) -> Result<UploadBackupResponse, Fault> {
    let checked = upload.finish().await?;
    let backup = shown(&checked.summary, checked.live_count);
    Ok(UploadBackupResponse { header: caller.header(), backup: Some(backup) })
}

pub(crate) type DownloadStream = Pin<Box<dyn Stream<Item = Result<DownloadBackupResponse, Status>> + Send>>;

pub(crate) async fn download(
    origin: Origin,
    request: DownloadBackupRequest,
) -> Result<DownloadStream, Fault> {
    let (caller, download) = begin_download(origin, request.name).await?;
    let Download { size_bytes, chunks } = download;
    let first = DownloadBackupResponse { header: caller.header(), size_bytes, chunk: Vec::new() };
    let chunks = tokio_stream::wrappers::ReceiverStream::new(chunks).map(|chunk| match chunk {
        Ok(chunk) => Ok(DownloadBackupResponse { header: None, size_bytes: 0, chunk }),
        Err(refusal) => Err(Fault::from(refusal).into()),
    });
    Ok(Box::pin(tokio_stream::once(Ok(first)).chain(chunks)))
}

pub(crate) async fn upload(
    origin: Origin,
    mut request: Streaming<UploadBackupRequest>,
) -> Result<UploadBackupResponse, Status> {
    let first = request.message().await?.unwrap_or_default();
    let (caller, upload) = begin_upload(origin, first.name).await?;
    let mut chunk = first.chunk;
    loop {
        // Nobody takes them any more when something has failed: then the end says what.
        if !chunk.is_empty() && upload.chunks.send(chunk).await.is_err() {
            break;
        }
        match request.message().await? {
            Some(next) => chunk = next.chunk,
            None => break,
        }
    }
    Ok(finish_upload(&caller, upload).await?)
}

fn path(name: String) -> Result<Text, Fault> {
    if name.is_empty() { Err(Fault::field("name", "a backup needs one")) } else { Ok(name.into()) }
}

fn shown(summary: &vaylix_access::BackupContent, live_count: u64) -> BackupSummary {
    BackupSummary {
        version: summary.header.version,
        created_at_ms: summary.header.created_at_ms,
        entry_count: summary.entry_count,
        live_count,
        size_bytes: summary.byte_len,
        sha256: summary.sha256.clone(),
    }
}
