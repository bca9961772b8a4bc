//! The status page: one self-contained HTML document that asks the API every second.
//!
//! The browser runs only the script and the style that are in it: the policy names them by their hash.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{Html, IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};

use super::server::Shared;

const PAGE: &str = include_str!("page.html");

pub(super) async fn page(State(_shared): State<Arc<Shared>>) -> Response {
    let mut response = Html(PAGE).into_response();
    if let Ok(policy) = HeaderValue::from_str(&policy()) {
        response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    response
}

fn policy() -> String {
    let (style, script) =
        (hash(between(PAGE, "<style>", "</style>")), hash(between(PAGE, "<script>", "</script>")));
    format!(
        "default-src 'none'; style-src 'sha256-{style}'; script-src 'sha256-{script}'; connect-src 'self'; \
         img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
}

fn hash(text: &str) -> String {
    STANDARD.encode(Sha256::digest(text.as_bytes()))
}

/// What stands between two tags; empty where they are not there.
fn between<'t>(text: &'t str, begin: &str, end: &str) -> &'t str {
    let after = text.split_once(begin).map_or("", |(_, after)| after);
    after.split_once(end).map_or("", |(inside, _)| inside)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_needs_nothing_from_elsewhere() {
        for word in ["http://", "https://", "src=", "@import", "innerHTML", "onclick", "style=\""] {
            assert!(!PAGE.contains(word), "{word}");
        }
        assert!(!between(PAGE, "<script>", "</script>").is_empty());
        assert!(!between(PAGE, "<style>", "</style>").is_empty());
    }
}
