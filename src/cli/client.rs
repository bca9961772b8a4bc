//! The client of the HTTP API that every verb uses.

use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use ureq::unversioned::resolver::DefaultResolver;
use ureq::unversioned::transport::{Connector as _, TcpConnector};

use super::failure::Failure;
use super::tls::{Tls, TlsArgs};
use crate::admin::json::CommandReport;
use crate::model::Secret;

/// Where the running proxy is.
#[derive(Debug, clap::Args)]
pub(super) struct AdminArgs {
    /// HTTP address of the running proxy; https://HOST:PORT where it has a certificate.
    #[arg(long, env = "PRIMACY_ADMIN", default_value = "127.0.0.1:6433", value_name = "HOST:PORT")]
    admin: String,
    /// File with the token of the HTTP API in its first line [env: PRIMACY_ADMIN_TOKEN holds the token itself].
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    #[command(flatten)]
    tls: TlsArgs,
}

/// How long a look may take.
pub(super) const LOOK: Duration = Duration::from_secs(10);

/// The API of one running proxy.
#[derive(Debug)]
pub(super) struct Client {
    admin: String,
    base: String,
    token: Option<Secret>,
    /// `None`: plain HTTP.
    tls: Option<Tls>,
}

impl Client {
    pub(super) fn new(args: &AdminArgs) -> Result<Self, Failure> {
        let admin = args.admin.trim_end_matches('/').to_owned();
        let scheme = if args.tls.are_given() { "https" } else { "http" };
        let base = if admin.contains("://") { admin.clone() } else { format!("{scheme}://{admin}") };
        let secure = base.starts_with("https://");
        if args.tls.are_given() && !secure {
            return Err(Failure::TlsFiles { why: format!("--admin {admin} is plain HTTP") });
        }
        let tls = secure.then(|| args.tls.layer()).transpose()?;
        Ok(Self { admin, base, token: token(args)?, tls })
    }

    /// Looks.
    pub(super) fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        let mut request = self.agent(LOOK).get(format!("{}{path}", self.base));
        if let Some(token) = &self.token {
            request = request.header("Authorization", format!("Bearer {}", token.reveal()));
        }
        self.answer(request.call())
    }

    /// Asks for something; gives whatever the API answers when it succeeds.
    pub(super) fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
        timeout: Duration,
    ) -> Result<T, Failure> {
        let mut request = self.agent(timeout).post(format!("{}{path}", self.base));
        if let Some(token) = &self.token {
            request = request.header("Authorization", format!("Bearer {}", token.reveal()));
        }
        self.answer(request.send_json(body))
    }

    fn answer<T: DeserializeOwned>(
        &self,
        answer: Result<ureq::http::Response<ureq::Body>, ureq::Error>,
    ) -> Result<T, Failure> {
        let mut response = answer.map_err(|error| self.no_answer(&error))?;
        let not_ours = |why: String| Failure::NotOurs { admin: self.admin.clone(), why };
        if response.status().is_success() {
            return response.body_mut().read_json().map_err(|error| not_ours(error.to_string()));
        }
        let status = response.status();
        match response.body_mut().read_json::<CommandReport>() {
            Ok(report) => Err(Failure::Refused(report.message)),
            Err(_) => Err(not_ours(format!("HTTP status {status}"))),
        }
    }

    fn no_answer(&self, error: &ureq::Error) -> Failure {
        let admin = self.admin.clone();
        let why = match error {
            ureq::Error::Io(error)
                if error
                    .get_ref()
                    .is_some_and(<dyn std::error::Error + Send + Sync>::is::<rustls::Error>) =>
            {
                return Failure::Tls { admin, why: error.to_string() };
            }
            ureq::Error::Io(error) => match error.kind() {
                std::io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
                _ => error.to_string(),
            },
            other => other.to_string(),
        };
        Failure::NoAnswer { admin, why }
    }

    fn agent(&self, timeout: Duration) -> ureq::Agent {
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(timeout))
            .timeout_connect(Some(Duration::from_secs(5)))
            .http_status_as_error(false)
            .max_redirects(0)
            // The proxy's own HTTP address is reached directly, whatever the environment says about the web.
            .proxy(None)
            .build();
        match &self.tls {
            Some(tls) => {
                let connector = TcpConnector::default().chain(tls.clone());
                ureq::Agent::with_parts(config, connector, DefaultResolver::default())
            }
            None => config.new_agent(),
        }
    }
}

fn token(args: &AdminArgs) -> Result<Option<Secret>, Failure> {
    if let Some(file) = &args.token_file {
        let text = std::fs::read_to_string(file)
            .map_err(|why| Failure::Token { file: file.display().to_string(), why })?;
        return Ok(Some(Secret::new(text.lines().next().unwrap_or_default())));
    }
    #[expect(clippy::disallowed_methods, reason = "the environment is read in config and cli only")]
    let token = std::env::var("PRIMACY_ADMIN_TOKEN").ok();
    Ok(token.filter(|token| !token.is_empty()).map(Secret::new))
}
