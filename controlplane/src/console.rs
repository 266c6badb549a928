//! The page for people: the files of `web/`, which are part of the program.
//!
//! The page knows nothing that the JSON API does not tell, and brings no rights of its own. It is handed out without a login: that is
//! what it asks for first.

use std::sync::LazyLock;

use axum::Router;
use axum::body::Body;
use axum::extract::Path;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use sha2::{Digest as _, Sha256};

use crate::fault::Fault;
use crate::stage::Stage;

// `FILES`: names, media types and contents, by name.
include!(concat!(env!("OUT_DIR"), "/console.rs"));

/// The page that everything begins with.
const INDEX: &str = "index.html";

/// Nothing but what this server sends is loaded, run or talked to, and no other page shows this one in a frame.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
                      connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'";

/// A file as it is sent.
struct File {
    media_type: &'static str,
    content: &'static [u8],
    /// Another one for another content.
    tag: HeaderValue,
}

static BY_NAME: LazyLock<Vec<(&'static str, File)>> = LazyLock::new(|| {
    let file = |(name, media_type, content): &(&'static str, &'static str, &'static [u8])| {
        let digest = Sha256::digest(content);
        let digits: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        let tag = HeaderValue::from_str(&format!("\"{digits}\"")).expect("digits are visible");
        (*name, File { media_type, content, tag })
    };
    FILES.iter().map(file).collect()
});

pub(crate) fn router() -> Router<Stage> {
    Router::new().route("/", get(|headers: HeaderMap| async move { answer(INDEX, &headers) })).route(
        "/console/{file}",
        get(|Path(name): Path<String>, headers: HeaderMap| async move { answer(&name, &headers) }),
    )
}

/// Whether a path is one of the page's.
pub(crate) fn is_its(path: &str) -> bool {
    path == "/" || path.starts_with("/console/")
}

fn answer(name: &str, asked: &HeaderMap) -> Response {
    let Some((_, file)) = BY_NAME.iter().find(|(known, _)| *known == name) else {
        return Fault::no_such_path().into_http(None);
    };
    let File { media_type, content, tag } = file;
    let is_known = asked
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|known| known.trim().trim_start_matches("W/").as_bytes() == tag.as_bytes());
    let mut response = if is_known {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        ([(header::CONTENT_TYPE, *media_type)], Body::from(*content)).into_response()
    };
    let headers = response.headers_mut();
    headers.insert(header::ETAG, tag.clone());
    for (name, value) in [
        // Kept, but asked about each time: the next release may have another one.
        (header::CACHE_CONTROL, "no-cache"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_FRAME_OPTIONS, "DENY"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_has_a_type_and_a_tag_of_its_own() {
        let names: Vec<_> = BY_NAME.iter().map(|(name, _)| *name).collect();
        assert!(names.contains(&INDEX) && names.is_sorted(), "{names:?}");
        for (name, file) in BY_NAME.iter() {
            assert!(!file.content.is_empty() && !file.media_type.is_empty(), "{name}");
        }
        let bytes: usize = BY_NAME.iter().map(|(_, file)| file.content.len()).sum();
        assert!(bytes < 512 * 1024, "the page has {bytes} bytes");
    }

    #[test]
    fn what_is_known_is_not_sent_again() {
        let first = answer(INDEX, &HeaderMap::new());
        assert_eq!(first.status(), 200);
        let tag = first.headers()["etag"].clone();
        let ask = |known: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("if-none-match", known.parse().unwrap());
            answer(INDEX, &headers).status().as_u16()
        };
        let tag = tag.to_str().unwrap();
        assert_eq!((ask(tag), ask(&format!("\"x\", W/{tag}")), ask("\"x\"")), (304, 304, 200));
        assert_eq!(answer("../Cargo.toml", &HeaderMap::new()).status(), 404);
    }
}
