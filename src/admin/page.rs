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

    /// The colours of a block of the style, by name: red, green, blue from 0 to 1.
    fn colours(block: &str) -> std::collections::HashMap<&str, [f64; 3]> {
        let digit = |letter: u8| f64::from(char::from(letter).to_digit(16).unwrap());
        let declared = block.split(';').filter_map(|one| one.trim().rsplit_once(": #"));
        declared
            .map(|(name, digits)| {
                let name = name.rsplit("--").next().unwrap();
                let colour = match digits.as_bytes() {
                    [r, g, b] => [*r, *g, *b].map(|one| digit(one) / 15.0),
                    [r, red, g, green, b, blue] => {
                        [(r, red), (g, green), (b, blue)].map(|(a, b)| (16.0 * digit(*a) + digit(*b)) / 255.0)
                    }
                    other => panic!("{name}: {other:?}"),
                };
                (name, colour)
            })
            .collect()
    }

    /// WCAG 2.1: from 1 (the same) to 21 (black on white).
    fn contrast(one: [f64; 3], other: [f64; 3]) -> f64 {
        let luminance = |colour: [f64; 3]| {
            let linear = colour
                .map(|part| if part <= 0.040_45 { part / 12.92 } else { ((part + 0.055) / 1.055).powf(2.4) });
            0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
        };
        let (one, other) = (luminance(one), luminance(other));
        (one.max(other) + 0.05) / (one.min(other) + 0.05)
    }

    /// WCAG AA: 4.5 for text, 3 for what is a picture or the edge of something to press.
    #[test]
    fn every_colour_can_be_told_from_what_it_stands_on_in_light_and_dark() {
        let (light, rest) = STYLE.split_once("@media (prefers-color-scheme: dark)").unwrap();
        let light = colours(light.trim_start_matches(":root {"));
        let mut dark = light.clone();
        dark.extend(colours(rest.split_once(":root {").unwrap().1.split_once('}').unwrap().0));
        let text = [
            ("ink", "bg"),
            ("ink", "card"),
            ("soft", "bg"),
            ("soft", "card"),
            ("good", "good-bg"),
            ("warn", "warn-bg"),
            ("bad", "bad-bg"),
            ("accent", "accent-bg"),
            ("card", "accent"),
        ];
        let curves = ["c0", "c1", "c2", "c3", "c4", "c5", "c6", "c7"];
        let pictures = ["good", "warn", "bad", "accent", "edge"].into_iter().chain(curves);
        let pairs = text.map(|(one, other)| (one, other, 4.5)).into_iter();
        let all: Vec<_> = pairs.chain(pictures.map(|one| (one, "card", 3.0))).collect();
        for (mode, colours) in [("light", &light), ("dark", &dark)] {
            assert!(colours.len() >= 22, "{mode}: {colours:?}");
            for (one, other, least) in &all {
                let contrast = contrast(colours[one], colours[other]);
                assert!(contrast >= *least, "{mode}: {one} on {other} has {contrast:.2}, {least} is needed");
            }
        }
        // Each of them is used, and text in no other.
        for line in STYLE.lines().filter(|line| line.contains("color: var(--")) {
            let used = line.split("color: var(--").skip(1).filter_map(|rest| rest.split(')').next());
            for colour in used.filter(|colour| !colour.ends_with("-bg") && !["line", "bg"].contains(colour)) {
                let known = text.iter().any(|(one, other)| [*one, *other].contains(&colour));
                assert!(
                    known || curves.contains(&colour) || colour == "edge",
                    "{colour} is not looked at: {line}"
                );
            }
        }
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
