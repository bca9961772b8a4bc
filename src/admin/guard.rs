//! Who may ask what: the token, the Host header, the content type. Pure: headers and addresses in, a verdict out.
//!
//! Three dangers. A stranger who reaches the address: what changes something asks for the token, or, where none is set, is
//! accepted from this machine only. A web page in an operator's browser that sends requests here: it cannot send JSON to
//! another origin without being asked first, and nobody answers that. A page whose name is made to point here (DNS
//! rebinding): its requests carry that name in Host, and names that were not expected are refused.

use std::net::{IpAddr, SocketAddr};

use axum::http::{HeaderMap, StatusCode, header};
use subtle::ConstantTimeEq as _;

use crate::model::Secret;

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refused {
    /// The token is missing or wrong.
    #[error(
        "this needs the token: Authorization: Bearer TOKEN (primacy: --token-file or PRIMACY_ADMIN_TOKEN)"
    )]
    Token,
    /// A token for looking is set, and this is neither that nor the other one.
    #[error("this needs a token: Authorization: Bearer TOKEN, of admin.stats_token or admin.token")]
    Look,
    /// A token is set, and this would show what an application asks.
    #[error(
        "statement texts need a token: Authorization: Bearer TOKEN (primacy: --token-file or PRIMACY_ADMIN_TOKEN)"
    )]
    Statements,
    /// There is no token, and the request comes from elsewhere.
    #[error("without admin.token changes are accepted from this machine only; set admin.token_file")]
    Remote,
    /// The Host header names a host that was not expected.
    #[error("unexpected Host header: ask by IP address or as localhost, or send the token")]
    Host,
    /// Not JSON.
    #[error("send Content-Type: application/json")]
    ContentType,
}

impl Refused {
    /// The HTTP status.
    pub(super) fn status(self) -> StatusCode {
        match self {
            Self::Token | Self::Look | Self::Statements => StatusCode::UNAUTHORIZED,
            Self::Remote => StatusCode::FORBIDDEN,
            Self::Host => StatusCode::MISDIRECTED_REQUEST,
            Self::ContentType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        }
    }
}

/// Whether a request that only looks may go on. Where there is a token for looking it is asked for; the one for changing
/// serves as well.
pub(super) fn may_look(
    [changing, looking]: [Option<&Secret>; 2],
    headers: &HeaderMap,
) -> Result<(), Refused> {
    if has_token(changing, headers) || has_token(looking, headers) {
        return Ok(());
    }
    if looking.is_some() {
        return Err(Refused::Look);
    }
    if expected_host(headers) { Ok(()) } else { Err(Refused::Host) }
}

/// Whether a request for the texts of an application's statements may go on: where there is any token, with one.
pub(super) fn may_read_statements(
    [changing, looking]: [Option<&Secret>; 2],
    headers: &HeaderMap,
) -> Result<(), Refused> {
    may_look([changing, looking], headers)?;
    let open = changing.is_none() && looking.is_none();
    if open || has_token(changing, headers) || has_token(looking, headers) {
        return Ok(());
    }
    Err(Refused::Statements)
}

/// Whether a request that changes something may go on.
pub(super) fn may_change(
    token: Option<&Secret>,
    headers: &HeaderMap,
    peer: SocketAddr,
) -> Result<(), Refused> {
    if token.is_some() {
        if !has_token(token, headers) {
            return Err(Refused::Token);
        }
    } else if !peer.ip().to_canonical().is_loopback() {
        return Err(Refused::Remote);
    } else if !expected_host(headers) {
        return Err(Refused::Host);
    }
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let essence = kind.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case("application/json") { Ok(()) } else { Err(Refused::ContentType) }
}

/// An address cannot be rebound, a name can.
fn expected_host(headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(header::HOST).and_then(|host| host.to_str().ok()) else { return false };
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map_or(rest, |(name, _)| name),
        None => host.split_once(':').map_or(host, |(name, _)| name),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
}

fn has_token(token: Option<&Secret>, headers: &HeaderMap) -> bool {
    let Some(token) = token else { return false };
    let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let given = given.strip_prefix("Bearer ").unwrap_or_default();
    // Takes as long for a token that is nearly right as for one that is not.
    given.as_bytes().ct_eq(token.reveal().as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn headers(pairs: &[(header::HeaderName, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value))).collect()
    }

    const JSON: (header::HeaderName, &str) = (header::CONTENT_TYPE, "application/json; charset=utf-8");

    fn peer(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn names_that_could_be_rebound_are_refused() {
        for host in ["localhost:6433", "LOCALHOST", "127.0.0.1:6433", "10.0.0.7", "[::1]:6433", "[::1]"] {
            assert_eq!(may_look([None, None], &headers(&[(header::HOST, host)])), Ok(()), "{host}");
        }
        for host in ["evil.example:6433", "localhost.evil.example", "127.0.0.1.evil.example", ""] {
            assert_eq!(
                may_look([None, None], &headers(&[(header::HOST, host)])),
                Err(Refused::Host),
                "{host}"
            );
        }
        assert_eq!(may_look([None, None], &HeaderMap::new()), Err(Refused::Host));
    }

    #[test]
    fn the_token_opens_what_it_should_and_nothing_else_does() {
        let token = Secret::new("right-token");
        let with = |value| headers(&[(header::HOST, "db.internal"), JSON, (header::AUTHORIZATION, value)]);
        let from = peer("10.0.0.9:1");
        assert_eq!(may_change(Some(&token), &with("Bearer right-token"), from), Ok(()));
        assert_eq!(may_look([Some(&token), None], &with("Bearer right-token")), Ok(()));
        for wrong in
            ["Bearer right-toke", "Bearer right-token2", "Bearer ", "right-token", "Basic right-token"]
        {
            assert_eq!(may_change(Some(&token), &with(wrong), from), Err(Refused::Token), "{wrong}");
        }
        // A token that is set is asked for on this machine too.
        assert_eq!(
            may_change(Some(&token), &headers(&[(header::HOST, "localhost"), JSON]), peer("127.0.0.1:1")),
            Err(Refused::Token)
        );
    }

    #[test]
    fn a_token_for_looking_opens_looking_and_nothing_else() {
        let (admin, stats) = (Secret::new("admin-token"), Secret::new("stats-token"));
        let with = |value| headers(&[(header::HOST, "localhost"), JSON, (header::AUTHORIZATION, value)]);
        let both = [Some(&admin), Some(&stats)];
        assert_eq!(may_look(both, &with("Bearer stats-token")), Ok(()));
        assert_eq!(may_look(both, &with("Bearer admin-token")), Ok(()));
        assert_eq!(may_look(both, &with("Bearer other-token")), Err(Refused::Look));
        assert_eq!(
            may_look([None, Some(&stats)], &headers(&[(header::HOST, "localhost")])),
            Err(Refused::Look)
        );
        let local = peer("127.0.0.1:1");
        assert_eq!(may_change(Some(&admin), &with("Bearer stats-token"), local), Err(Refused::Token));
    }

    #[test]
    fn statement_texts_need_a_token_where_there_is_one() {
        let (admin, stats) = (Secret::new("admin-token"), Secret::new("stats-token"));
        let plain = headers(&[(header::HOST, "localhost")]);
        let with = |value| headers(&[(header::HOST, "localhost"), (header::AUTHORIZATION, value)]);
        assert_eq!(may_read_statements([None, None], &plain), Ok(()));
        assert_eq!(may_read_statements([Some(&admin), None], &plain), Err(Refused::Statements));
        assert_eq!(may_read_statements([Some(&admin), None], &with("Bearer admin-token")), Ok(()));
        let both = [Some(&admin), Some(&stats)];
        assert_eq!(may_read_statements(both, &with("Bearer stats-token")), Ok(()));
        assert_eq!(may_read_statements(both, &plain), Err(Refused::Look));
        let rebound = headers(&[(header::HOST, "evil.example")]);
        assert_eq!(may_read_statements([None, None], &rebound), Err(Refused::Host));
    }

    #[test]
    fn without_a_token_only_this_machine_changes_things() {
        let local = headers(&[(header::HOST, "localhost:6433"), JSON]);
        assert_eq!(may_change(None, &local, peer("127.0.0.1:1")), Ok(()));
        assert_eq!(may_change(None, &local, peer("[::ffff:127.0.0.1]:1")), Ok(()));
        assert_eq!(may_change(None, &local, peer("10.0.0.9:1")), Err(Refused::Remote));
        let rebound = headers(&[(header::HOST, "evil.example"), JSON]);
        assert_eq!(may_change(None, &rebound, peer("127.0.0.1:1")), Err(Refused::Host));
    }

    #[test]
    fn a_form_from_a_web_page_is_not_json() {
        for kind in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"] {
            let form = headers(&[(header::HOST, "localhost"), (header::CONTENT_TYPE, kind)]);
            assert_eq!(may_change(None, &form, peer("127.0.0.1:1")), Err(Refused::ContentType), "{kind}");
        }
    }
}
