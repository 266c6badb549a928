//! Keys and values, by the commands of the data plane.

use vaylix_access::{KeyChoice, KeySummary as Seen};
use vaylix_admin_proto::v1::*;
use vaylix_proto::command::{Condition, Expiration, SetOptions};
use vaylix_proto::{Code, Command, Reply, Text};

use crate::caller::Origin;
use crate::caps::{PAGE_DEFAULT, PAGE_MAX, VALUE_BYTES_MAX};
use crate::fault::Fault;

/// What tokens of pages begin with, so that none is empty: the empty text may be a key.
const TOKEN_PREFIX: &str = "=";

const MILLIS_PER_SECOND: u64 = 1000;

pub(crate) async fn list(origin: Origin, request: ListKeysRequest) -> Result<ListKeysResponse, Fault> {
    let ListKeysRequest { prefix, glob, page } = request;
    let PageRequest { size, token } = page.unwrap_or_default();
    let count_max = match usize::try_from(size).unwrap_or(PAGE_MAX) {
        0 => PAGE_DEFAULT,
        size => size.min(PAGE_MAX),
    };
    let after = match (token.as_str(), token.strip_prefix(TOKEN_PREFIX)) {
        ("", _) => None,
        (_, Some(after)) => Some(Text::from(after)),
        (_, None) => return Err(Fault::field("page.token", "it is not the token of a page")),
    };
    let glob = Some(glob).filter(|glob| !glob.is_empty()).map(Text::from);
    let choice = KeyChoice { prefix: prefix.into(), glob, after, count_max };
    let mut caller = origin.identify().await?;
    let admitted = caller.admit(choice.command()).await?;
    let page = caller.door().keys(admitted, choice).await?;
    let next_token = match page.keys.last().filter(|_| page.more) {
        Some(last) => format!("{TOKEN_PREFIX}{}", last.key),
        None => String::new(),
    };
    let keys = page.keys.into_iter().map(|Seen { key, size_bytes, version, expires_at_ms }| KeySummary {
        key: key.into(),
        version,
        expires_at_ms: expires_at_ms.unwrap_or(0),
        size_bytes: size_bytes as u64,
    });
    Ok(ListKeysResponse { header: caller.header(), keys: keys.collect(), next_token })
}

pub(crate) async fn get(origin: Origin, request: GetKeyRequest) -> Result<GetKeyResponse, Fault> {
    let mut caller = origin.identify().await?;
    let admitted = caller.admit(Command::Get { key: request.key.into() }).await?;
    let Some(found) = caller.door().key(admitted).await? else { return Err(no_such_key()) };
    if found.value.len() > VALUE_BYTES_MAX {
        let message = format!(
            "frame too large: the value has {} bytes, and the control plane tells at most {VALUE_BYTES_MAX}; ask the data plane",
            found.value.len()
        );
        return Err(Fault::new(Code::FrameTooLarge, message));
    }
    let entry = KeyEntry {
        key: found.key.into(),
        value: found.value.into(),
        version: found.version,
        expires_at_ms: found.expires_at_ms.unwrap_or(0),
    };
    Ok(GetKeyResponse { header: caller.header(), entry: Some(entry) })
}

pub(crate) async fn put(origin: Origin, request: PutKeyRequest) -> Result<PutKeyResponse, Fault> {
    let PutKeyRequest { key, value, expected_version, ttl_ms, keep_ttl } = request;
    let value = value.ok_or_else(|| Fault::field("value", "it is missing; an empty one is \"\""))?;
    if keep_ttl && ttl_ms > 0 {
        return Err(Fault::field("keep_ttl", "a key keeps the end it has or gets a new one"));
    }
    let expects = |condition, if_version| SetOptions {
        condition,
        if_version,
        expiration: (ttl_ms > 0).then_some(Expiration::Millis(ttl_ms)),
        keep_ttl,
        return_previous: false,
    };
    // What the key has then follows from what it had.
    let (options, version) = match expected_version {
        None => (expects(Condition::Always, None), 0),
        Some(0) => (expects(Condition::IfMissing, None), 1),
        Some(version) => (expects(Condition::Always, Some(version)), version.saturating_add(1)),
    };
    let mut caller = origin.identify().await?;
    match caller.run(Command::Set { key: key.into(), value: value.into(), options }).await? {
        Reply::Ok | Reply::Bool(true) => Ok(PutKeyResponse { header: caller.header(), version }),
        Reply::Bool(false) => Err(moved_on(expected_version)),
        _ => Err(Fault::nonsense()),
    }
}

pub(crate) async fn delete(origin: Origin, request: DeleteKeyRequest) -> Result<DeleteKeyResponse, Fault> {
    let key = Text::from(request.key);
    let command = match request.expected_version {
        None => Command::Del { keys: vec![key] },
        Some(0) => return Err(Fault::field("expected_version", "what is not there cannot be removed")),
        // A value that is over as soon as it is written, on condition that the key is of this version.
        Some(version) => Command::Set {
            key,
            value: bytes::Bytes::new(),
            options: SetOptions {
                if_version: Some(version),
                expiration: Some(Expiration::Millis(0)),
                ..SetOptions::default()
            },
        },
    };
    let mut caller = origin.identify().await?;
    match caller.run(command).await? {
        Reply::Count(1) | Reply::Bool(true) => Ok(DeleteKeyResponse { header: caller.header() }),
        Reply::Count(_) => Err(no_such_key()),
        Reply::Bool(false) => Err(moved_on(request.expected_version)),
        _ => Err(Fault::nonsense()),
    }
}

pub(crate) async fn set_expiry(
    origin: Origin,
    request: SetExpiryRequest,
) -> Result<SetExpiryResponse, Fault> {
    let SetExpiryRequest { key, ttl_ms } = request;
    let key = Text::from(key);
    let command = match ttl_ms.div_ceil(MILLIS_PER_SECOND) {
        0 => Command::Persist { key },
        seconds => Command::Expire { key, seconds },
    };
    let mut caller = origin.identify().await?;
    match caller.run(command).await? {
        Reply::Bool(false) if ttl_ms > 0 => Err(no_such_key()),
        Reply::Bool(changed) => Ok(SetExpiryResponse { header: caller.header(), changed }),
        _ => Err(Fault::nonsense()),
    }
}

fn no_such_key() -> Fault {
    Fault::missing("key", "there is no such key")
}

fn moved_on(expected_version: Option<u64>) -> Fault {
    match expected_version {
        Some(0) => Fault::conflict("expected_version", "there is such a key"),
        _ => Fault::conflict(
            "expected_version",
            "the key is not of this version: it was changed or removed meanwhile",
        ),
    }
}
