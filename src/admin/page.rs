//! The dashboard: one self-contained HTML document that asks the API every second. It needs nothing from elsewhere.
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

const FRAME: &str = include_str!("page/page.html");
const STYLE: &str = include_str!("page/style.css");
const SCRIPT: &str = include_str!("page/script.js");

pub(super) async fn page(State(_shared): State<Arc<Shared>>) -> Response {
    let mut response = Html(whole()).into_response();
    if let Ok(policy) = HeaderValue::from_str(&policy()) {
        response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    response
}

/// The frame with style and script in their places.
fn whole() -> String {
    FRAME
        .replace("<style></style>", &format!("<style>{STYLE}</style>"))
        .replace("<script></script>", &format!("<script>{SCRIPT}</script>"))
}

fn policy() -> String {
    let (style, script) = (hash(STYLE), hash(SCRIPT));
    format!(
        "default-src 'none'; style-src 'sha256-{style}'; script-src 'sha256-{script}'; connect-src 'self'; \
         img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
}

fn hash(text: &str) -> String {
    STANDARD.encode(Sha256::digest(text.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_needs_nothing_from_elsewhere() {
        let page = whole();
        for word in ["http://", "https://", "src=", "@import", "innerHTML", "onclick=\"", "style=\"", "url("]
        {
            assert!(!page.contains(word), "{word}");
        }
        assert!(page.contains(STYLE) && page.contains(SCRIPT));
        assert!(!SCRIPT.contains("</script") && !STYLE.contains("</style"));
    }

    #[test]
    fn the_script_fills_places_that_the_page_has() {
        let quoted = |begin: &str| -> Vec<String> {
            let found = SCRIPT.split(begin).skip(1).filter_map(|rest| rest.split('"').next());
            found.map(str::to_owned).collect()
        };
        for begin in ["byId(\"", "show(\"", "chart(\"", "table(\""] {
            for id in quoted(begin) {
                assert!(FRAME.contains(&format!("id=\"{id}\"")), "{begin}{id}");
            }
        }
    }
}
