//! Who may ask what: the token, the certificate, the Host header, the content type. Pure: headers and addresses in, a
//! verdict out.
//!
//! Three dangers. A stranger who reaches the address: what changes something asks for the token or a certificate, or, where
//! neither is set, is accepted from this machine only. A web page in an operator's browser that sends requests here: it cannot send JSON to
//! another origin without being asked first, and nobody answers that. A page whose name is made to point here (DNS
//! rebinding): its requests carry that name in Host, and names that were not expected are refused. A browser shows its
//! certificate to whoever asks, whatever page it is on, so the last two count for those who have one as well.

use std::net::{IpAddr, SocketAddr};

use axum::http::{HeaderMap, StatusCode, header};
use subtle::ConstantTimeEq as _;

use super::door::{Role, Visitor};
use crate::model::Secret;

/// What is asked for.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Keys<'a> {
    /// For changing.
    pub(super) token: Option<&'a Secret>,
    /// For looking.
    pub(super) stats_token: Option<&'a Secret>,
    /// There are certificates for changing.
    pub(super) admins: bool,
    /// There are certificates for looking.
    pub(super) lookers: bool,
}

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asker<'a> {
    /// What the request says.
    pub(super) headers: &'a HeaderMap,
    /// From where.
    pub(super) peer: SocketAddr,
    /// Who came in over TLS.
    pub(super) visitor: Option<&'a Visitor>,
}

impl Asker<'_> {
    fn role(self) -> Option<Role> {
        self.visitor.and_then(|visitor| visitor.role)
    }
}

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refused {
    /// The token is missing or wrong.
    #[error(
        "this needs the token: Authorization: Bearer TOKEN (primacy: --token-file or PRIMACY_ADMIN_TOKEN)"
    )]
    Token,
    /// There is no token, and none of the certificates for changing was shown.
    #[error("this needs a certificate that admin.tls_admins names (primacy: --tls-cert and --tls-key)")]
    Certificate,
    /// The certificate is one for looking.
    #[error("this certificate may look and change nothing: admin.tls_admins does not name it")]
    OnlyLooks,
    /// A token for looking is set, and this is neither that nor the other one.
    #[error(
        "this needs a token: Authorization: Bearer TOKEN, of admin.stats_token or admin.token; or a certificate that \
         admin.tls_stats or admin.tls_admins names"
    )]
    Look,
    /// A token is set, and this would show what an application asks.
    #[error(
        "statement texts need a token: Authorization: Bearer TOKEN (primacy: --token-file or PRIMACY_ADMIN_TOKEN), or a \
         certificate"
    )]
    Statements,
    /// There is neither token nor certificate, and the request comes from elsewhere.
    #[error(
        "without admin.token changes are accepted from this machine only; set admin.token_file or admin.tls_admins"
    )]
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
            Self::Token | Self::Certificate | Self::Look | Self::Statements => StatusCode::UNAUTHORIZED,
            Self::Remote | Self::OnlyLooks => StatusCode::FORBIDDEN,
            Self::Host => StatusCode::MISDIRECTED_REQUEST,
            Self::ContentType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        }
    }
}

/// Whether a request that only looks may go on. Where there is a token or a certificate for looking it is asked for; those
/// for changing serve as well.
pub(super) fn may_look(keys: Keys<'_>, asker: Asker<'_>) -> Result<(), Refused> {
    if has_token(keys.token, asker.headers) || has_token(keys.stats_token, asker.headers) {
        return Ok(());
    }
    if asker.role().is_none() && (keys.stats_token.is_some() || keys.lookers) {
        return Err(Refused::Look);
    }
    if expected_host(asker) { Ok(()) } else { Err(Refused::Host) }
}

/// Whether a request for the texts of an application's statements may go on: where there is any key, with one.
pub(super) fn may_read_statements(keys: Keys<'_>, asker: Asker<'_>) -> Result<(), Refused> {
    may_look(keys, asker)?;
    let open = keys.token.is_none() && keys.stats_token.is_none() && !keys.admins && !keys.lookers;
    let has_key = has_token(keys.token, asker.headers) || has_token(keys.stats_token, asker.headers);
    if open || has_key || asker.role().is_some() { Ok(()) } else { Err(Refused::Statements) }
}

/// Whether a request that changes something may go on.
pub(super) fn may_change(keys: Keys<'_>, asker: Asker<'_>) -> Result<(), Refused> {
    if !has_token(keys.token, asker.headers) {
        match asker.role() {
            Some(Role::Stats) => return Err(Refused::OnlyLooks),
            None if keys.token.is_some() => return Err(Refused::Token),
            None if keys.admins => return Err(Refused::Certificate),
            None if !asker.peer.ip().to_canonical().is_loopback() => return Err(Refused::Remote),
            Some(Role::Admin) | None => {}
        }
        if !expected_host(asker) {
            return Err(Refused::Host);
        }
    }
    let kind = asker.headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let essence = kind.unwrap_or_default().split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case("application/json") { Ok(()) } else { Err(Refused::ContentType) }
}

/// An address cannot be rebound, a name can: but not to a server whose certificate is for another one.
fn expected_host(asker: Asker<'_>) -> bool {
    let host = asker.headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let Some(host) = host else { return false };
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map_or(rest, |(name, _)| name),
        None => host.split_once(':').map_or(host, |(name, _)| name),
    };
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<IpAddr>().is_ok()
        || asker.visitor.is_some_and(|visitor| visitor.came_to(name))
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

    fn keys([token, stats_token]: [Option<&Secret>; 2]) -> Keys<'_> {
        Keys { token, stats_token, ..Keys::default() }
    }

    fn looks(tokens: [Option<&Secret>; 2], headers: &HeaderMap) -> Result<(), Refused> {
        may_look(keys(tokens), Asker { headers, peer: peer("10.0.0.9:1"), visitor: None })
    }

    fn reads(tokens: [Option<&Secret>; 2], headers: &HeaderMap) -> Result<(), Refused> {
        may_read_statements(keys(tokens), Asker { headers, peer: peer("10.0.0.9:1"), visitor: None })
    }

    fn changes(token: Option<&Secret>, headers: &HeaderMap, peer: SocketAddr) -> Result<(), Refused> {
        may_change(keys([token, None]), Asker { headers, peer, visitor: None })
    }

    #[test]
    fn names_that_could_be_rebound_are_refused() {
        for host in ["localhost:6433", "LOCALHOST", "127.0.0.1:6433", "10.0.0.7", "[::1]:6433", "[::1]"] {
            assert_eq!(looks([None, None], &headers(&[(header::HOST, host)])), Ok(()), "{host}");
        }
        for host in ["evil.example:6433", "localhost.evil.example", "127.0.0.1.evil.example", ""] {
            assert_eq!(looks([None, None], &headers(&[(header::HOST, host)])), Err(Refused::Host), "{host}");
        }
        assert_eq!(looks([None, None], &HeaderMap::new()), Err(Refused::Host));
    }

    #[test]
    fn the_token_opens_what_it_should_and_nothing_else_does() {
        let token = Secret::new("right-token");
        let with = |value| headers(&[(header::HOST, "db.internal"), JSON, (header::AUTHORIZATION, value)]);
        let from = peer("10.0.0.9:1");
        assert_eq!(changes(Some(&token), &with("Bearer right-token"), from), Ok(()));
        assert_eq!(looks([Some(&token), None], &with("Bearer right-token")), Ok(()));
        for wrong in
            ["Bearer right-toke", "Bearer right-token2", "Bearer ", "right-token", "Basic right-token"]
        {
            assert_eq!(changes(Some(&token), &with(wrong), from), Err(Refused::Token), "{wrong}");
        }
        // A token that is set is asked for on this machine too.
        assert_eq!(
            changes(Some(&token), &headers(&[(header::HOST, "localhost"), JSON]), peer("127.0.0.1:1")),
            Err(Refused::Token)
        );
    }

    #[test]
    fn a_token_for_looking_opens_looking_and_nothing_else() {
        let (admin, stats) = (Secret::new("admin-token"), Secret::new("stats-token"));
        let with = |value| headers(&[(header::HOST, "localhost"), JSON, (header::AUTHORIZATION, value)]);
        let both = [Some(&admin), Some(&stats)];
        assert_eq!(looks(both, &with("Bearer stats-token")), Ok(()));
        assert_eq!(looks(both, &with("Bearer admin-token")), Ok(()));
        assert_eq!(looks(both, &with("Bearer other-token")), Err(Refused::Look));
        assert_eq!(looks([None, Some(&stats)], &headers(&[(header::HOST, "localhost")])), Err(Refused::Look));
        let local = peer("127.0.0.1:1");
        assert_eq!(changes(Some(&admin), &with("Bearer stats-token"), local), Err(Refused::Token));
    }

    #[test]
    fn statement_texts_need_a_token_where_there_is_one() {
        let (admin, stats) = (Secret::new("admin-token"), Secret::new("stats-token"));
        let plain = headers(&[(header::HOST, "localhost")]);
        let with = |value| headers(&[(header::HOST, "localhost"), (header::AUTHORIZATION, value)]);
        assert_eq!(reads([None, None], &plain), Ok(()));
        assert_eq!(reads([Some(&admin), None], &plain), Err(Refused::Statements));
        assert_eq!(reads([Some(&admin), None], &with("Bearer admin-token")), Ok(()));
        let both = [Some(&admin), Some(&stats)];
        assert_eq!(reads(both, &with("Bearer stats-token")), Ok(()));
        assert_eq!(reads(both, &plain), Err(Refused::Look));
        let rebound = headers(&[(header::HOST, "evil.example")]);
        assert_eq!(reads([None, None], &rebound), Err(Refused::Host));
    }

    #[test]
    fn without_a_token_only_this_machine_changes_things() {
        let local = headers(&[(header::HOST, "localhost:6433"), JSON]);
        assert_eq!(changes(None, &local, peer("127.0.0.1:1")), Ok(()));
        assert_eq!(changes(None, &local, peer("[::ffff:127.0.0.1]:1")), Ok(()));
        assert_eq!(changes(None, &local, peer("10.0.0.9:1")), Err(Refused::Remote));
        let rebound = headers(&[(header::HOST, "evil.example"), JSON]);
        assert_eq!(changes(None, &rebound, peer("127.0.0.1:1")), Err(Refused::Host));
    }

    #[test]
    fn a_form_from_a_web_page_is_not_json() {
        for kind in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"] {
            let form = headers(&[(header::HOST, "localhost"), (header::CONTENT_TYPE, kind)]);
            assert_eq!(changes(None, &form, peer("127.0.0.1:1")), Err(Refused::ContentType), "{kind}");
        }
    }
}
