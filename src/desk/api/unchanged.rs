//! Answers that their reader has already: entity tags and 304 (RFC 9110, sections 8.8.3 and 13.1.2).
//!
//! An open page asks for its views again whenever something has arrived, which mostly concerns none of them. It
//! sends the tag of the answer that it has, and an answer with the same tag goes without a body.

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header::{ETAG, IF_NONE_MATCH};
use http::{HeaderValue, StatusCode};
use sha2::{Digest, Sha256};

/// The tag of an answer with this body.
pub(super) fn tag(body: &[u8]) -> String {
    let hash: [u8; 32] = Sha256::digest(body).into();
    let digits: String = hash[..16].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("\"{digits}\"")
}

/// Replaces an answer whose tag the request names by 304.
pub(super) async fn unchanged(request: Request, next: Next) -> Response {
    let known = request.headers().get(IF_NONE_MATCH).cloned();
    let response = next.run(request).await;
    let tag = response.headers().get(ETAG);
    if response.status() != StatusCode::OK
        || !known.zip(tag).is_some_and(|(known, tag)| names(&known, tag))
    {
        return response;
    }
    let (mut head, _) = response.into_parts();
    head.headers.remove(http::header::CONTENT_TYPE);
    head.headers.remove(http::header::CONTENT_LENGTH);
    (StatusCode::NOT_MODIFIED, head.headers).into_response()
}

/// Whether a list of tags has this one. A proxy that compresses may have made it a weak one.
fn names(list: &HeaderValue, tag: &HeaderValue) -> bool {
    let (Ok(list), Ok(tag)) = (list.to_str(), tag.to_str()) else { return false };
    let mut tags = list.split(',').map(str::trim);
    tags.any(|named| named == "*" || named.strip_prefix("W/").unwrap_or(named) == tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_tags_names_strong_and_weak_ones() {
        let tag = tag(b"{}");
        let named = |list: &str| {
            names(&HeaderValue::from_str(list).unwrap(), &HeaderValue::from_str(&tag).unwrap())
        };
        for list in [tag.clone(), format!("W/{tag}"), format!("\"other\", {tag}"), "*".to_owned()] {
            assert!(named(&list), "{list}");
        }
        for list in [String::new(), "\"other\"".to_owned(), tag.replace('"', ""), format!("{tag}x")]
        {
            assert!(!named(&list), "{list}");
        }
    }
}
