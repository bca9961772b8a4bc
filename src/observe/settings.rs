//! What configuration says about the log and about traces.

use std::fmt;

/// How a log line looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

impl LogFormat {
    /// The word in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
        }
    }
}

/// Settings of the log.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// A level (`info`), or tracing-subscriber's filter directives (`info,primacy::control=debug`).
    pub level: String,
    /// How a line looks.
    pub format: LogFormat,
    /// Who is told of statements; `None`: nobody.
    pub traces: Option<TraceSettings>,
}

/// Traces by OTLP.
#[derive(Clone, Debug, PartialEq)]
pub struct TraceSettings {
    /// Who takes them.
    pub collector: Collector,
    /// Share of the statements that do not name a trace of their own, from 0 to 1.
    pub share: f64,
}

/// Where a collector takes traces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Collector {
    /// By HTTPS.
    pub secure: bool,
    /// Name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Path of the request.
    pub path: String,
}

impl Collector {
    /// Reads `http://host`, `https://host:port/path`: by default port 4318 and `/v1/traces`.
    pub fn parse(url: &str) -> Option<Self> {
        let (scheme, rest) = url.split_once("://")?;
        let secure = match scheme {
            "http" => false,
            "https" => true,
            _ => return None,
        };
        let (authority, path) =
            rest.split_once('/').map_or((rest, ""), |(authority, path)| (authority, path));
        let (host, port) = match authority.strip_prefix('[') {
            Some(rest) => rest.split_once(']').map(|(host, rest)| (host, rest.strip_prefix(':')))?,
            None => authority.split_once(':').map_or((authority, None), |(host, port)| (host, Some(port))),
        };
        let port = port.map_or(Some(4318), |port| port.parse().ok())?;
        let fits = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
        if host.is_empty() || !fits(host) || !fits(path) || host.contains('@') {
            return None;
        }
        let path = if path.is_empty() { "/v1/traces".to_owned() } else { format!("/{path}") };
        Some(Self { secure, host: host.to_owned(), port, path })
    }
}

impl fmt::Display for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.secure { "https" } else { "http" };
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        write!(f, "{scheme}://{host}:{}{}", self.port, self.path)
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self { level: "info".into(), format: LogFormat::default(), traces: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_collectors_url_needs_no_more_than_a_host() {
        for (url, shown) in [
            ("http://localhost", "http://localhost:4318/v1/traces"),
            ("https://otel.example:443/in/v1/traces", "https://otel.example:443/in/v1/traces"),
            ("http://[::1]:4000", "http://[::1]:4000/v1/traces"),
        ] {
            assert_eq!(Collector::parse(url).map(|one| one.to_string()).as_deref(), Some(shown));
        }
        for url in
            ["localhost:4318", "ftp://x", "http://", "http://x:y", "http://a b", "http://u@x", "http://[::1"]
        {
            assert_eq!(Collector::parse(url), None, "{url}");
        }
    }
}
