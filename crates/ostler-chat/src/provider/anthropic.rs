//! Anthropic's Messages API as a model: one streamed request a round, tried again where that is safe.
//!
//! `wire` writes requests, `stream` puts replies together, `retry` knows the rules of trying again; this file drives
//! them over HTTP. The key is in one header and nowhere else: not in logs, not in errors.

use std::fmt;
use std::time::{Duration, Instant};

use ostler_core::Secret;
use ostler_core::port::{BoxFuture, Model, ModelError, ModelInfo, ModelReply, ModelRequest, ModelStream};
use ostler_telemetry::record;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Response, StatusCode, Url};
use serde::Deserialize;
use tokio::time::{sleep, timeout_at};

use self::stream::{ApiError, Assembly, Broken, Step};
use super::sse;
use crate::clock;

mod retry;
mod stream;
mod wire;

/// The provider's name, in metrics and in [`ModelInfo`].
const PROVIDER: &str = "anthropic";

/// How much of an error's body is read.
const MAX_ERROR_BODY: usize = 64 * 1024;

/// How much of a foreign text goes into an error, in characters.
const MAX_MESSAGE: usize = 500;

/// How the key is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthStyle {
    /// `Authorization: Bearer KEY`, the way of version 2026-10-21.
    Bearer,
    /// `x-api-key: KEY`, the way of 2023-06-01 and of most gateways.
    ApiKey,
}

/// How to reach the API and what to ask of it.
#[derive(Debug, Clone)]
pub struct AnthropicConfig {
    /// Where it is, without `/v1/messages`. `ANTHROPIC_BASE_URL` by convention.
    pub base_url: String,
    /// The key.
    pub api_key: Secret,
    /// How the key is sent.
    pub auth: AuthStyle,
    /// The API's version.
    pub version: String,
    /// The model's id.
    pub model: String,
    /// The most tokens of one reply.
    pub max_tokens: u32,
    /// The longest time to connect.
    pub connect_timeout: Duration,
    /// The longest time for one question, retries included. The request's own deadline may be shorter.
    pub total_timeout: Duration,
    /// How often a question is asked again.
    pub retries: u32,
}

impl AnthropicConfig {
    /// The usual settings with this key.
    pub fn new(api_key: Secret) -> Self {
        Self {
            base_url: "https://api.anthropic.com".to_owned(),
            api_key,
            auth: AuthStyle::Bearer,
            version: "2026-10-21".to_owned(),
            model: "claude-sonnet-5-5".to_owned(),
            max_tokens: 8_192,
            connect_timeout: Duration::from_secs(5),
            total_timeout: Duration::from_secs(600),
            retries: 2,
        }
    }
}

/// The model.
pub struct Anthropic {
    config: AnthropicConfig,
    client: Client,
    url: Url,
    headers: HeaderMap,
}

impl fmt::Debug for Anthropic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Anthropic").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Anthropic {
    /// Checks the settings. Nothing is sent. Errors: [`ModelError::Config`], which names the setting.
    pub fn new(config: AnthropicConfig) -> Result<Self, ModelError> {
        let bad = |setting: &str, why: &str| ModelError::Config(format!("the anthropic model's {setting} {why}"));
        let url = format!("{}/v1/messages", config.base_url.trim_end_matches('/'));
        let url = Url::parse(&url).map_err(|error| bad("base_url", &format!("is no URL: {error}")))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(bad("base_url", "must begin with http:// or https://"));
        }
        if config.model.is_empty() {
            return Err(bad("model", "is empty"));
        }
        if config.max_tokens == 0 {
            return Err(bad("max_tokens", "must be above 0"));
        }
        if config.api_key.expose().trim().is_empty() {
            return Err(bad("key", "is empty; set ANTHROPIC_API_KEY"));
        }
        let mut headers = HeaderMap::new();
        let (name, value) = match config.auth {
            AuthStyle::Bearer => (AUTHORIZATION, format!("Bearer {}", config.api_key.expose())),
            AuthStyle::ApiKey => (HeaderName::from_static("x-api-key"), config.api_key.expose().to_owned()),
        };
        let mut key = HeaderValue::try_from(value)
            .map_err(|_| bad("key", "has characters that no header can carry; look for line breaks"))?;
        key.set_sensitive(true);
        headers.insert(name, key);
        let version = HeaderValue::try_from(&config.version)
            .map_err(|_| bad("version", "has characters that no header can carry"))?;
        headers.insert("anthropic-version", version);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let mut builder =
            Client::builder().connect_timeout(config.connect_timeout).redirect(reqwest::redirect::Policy::none());
        // A server on this host is never reached through a proxy.
        if is_loopback(&url) {
            builder = builder.no_proxy();
        }
        let client = builder.build().map_err(|error| bad("HTTP client", &format!("cannot be built: {error}")))?;
        Ok(Self { config, client, url, headers })
    }

    async fn ask(&self, request: ModelRequest, stream: &dyn ModelStream) -> Result<ModelReply, ModelError> {
        let body = wire::body(&self.config, &request);
        let deadline = request.deadline.min(clock::now() + self.config.total_timeout);
        let answer = timeout_at(deadline.into(), self.persist(&body, deadline, stream)).await;
        answer.unwrap_or(Err(ModelError::TimedOut))
    }

    /// Tries until it has a reply, an error that no further try can mend, or no tries left.
    async fn persist(
        &self,
        body: &[u8],
        deadline: Instant,
        stream: &dyn ModelStream,
    ) -> Result<ModelReply, ModelError> {
        let mut retries = 0;
        let mut restarted = false;
        loop {
            let failure = match self.attempt(body, stream).await {
                Ok(reply) => return Ok(reply),
                Err(failure) => failure,
            };
            // Nothing was executed of a reply that broke off, so it is asked for once more, as a whole.
            let used_up = if failure.had_content { restarted } else { retries >= self.config.retries };
            let Some(reason) = failure.retry.filter(|_| !used_up) else { return Err(failure.error) };
            let pause = failure.after.unwrap_or_else(|| retry::pause(retries, fastrand::f64()));
            if pause > retry::LONGEST || clock::now() + pause >= deadline {
                return Err(failure.error);
            }
            if failure.had_content {
                restarted = true;
            } else {
                retries += 1;
            }
            record::llm_retry(PROVIDER, reason);
            stream.retrying(pause, &failure.error.to_string());
            sleep(pause).await;
        }
    }

    async fn attempt(&self, body: &[u8], stream: &dyn ModelStream) -> Result<ModelReply, Failure> {
        let asked = clock::now();
        let request = self.client.post(self.url.clone()).headers(self.headers.clone()).body(body.to_vec());
        let response = request.send().await.map_err(|error| self.network(error, false))?;
        if response.status() != StatusCode::OK {
            return Err(self.refused(response).await);
        }
        let content_type = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
        if !content_type.starts_with("text/event-stream") {
            let why = format!("expected an event stream, got {:?}", self.clean(content_type));
            return Err(Failure::last(ModelError::Protocol(why)));
        }
        self.receive(response, asked, stream).await
    }

    async fn receive(
        &self,
        mut response: Response,
        asked: Instant,
        stream: &dyn ModelStream,
    ) -> Result<ModelReply, Failure> {
        let mut parser = sse::Parser::default();
        let mut assembly = Assembly::default();
        let mut had_content = false;
        while let Some(chunk) = response.chunk().await.map_err(|error| self.network(error, had_content))? {
            let events = parser.push(&chunk).map_err(|error| Failure::last(ModelError::Protocol(error.to_string())))?;
            for event in events {
                let step = assembly.on(&event).map_err(|broken| self.broken(broken, had_content))?;
                if matches!(step, Step::Content | Step::Text(_)) && !had_content {
                    had_content = true;
                    record::llm_first_chunk(PROVIDER, &self.config.model, clock::now().duration_since(asked));
                }
                match step {
                    Step::Text(text) => stream.text(&text),
                    Step::Stop => return assembly.finish().map_err(Failure::last),
                    Step::Nothing | Step::Content => {}
                }
            }
        }
        let error = ModelError::Network("the answer broke off before its end".to_owned());
        Err(Failure { error, retry: Some("stream"), after: None, had_content })
    }

    fn network(&self, error: reqwest::Error, had_content: bool) -> Failure {
        let reason = if had_content { "stream" } else { "network" };
        let error = error.without_url();
        let mut why = error.to_string();
        let mut source = std::error::Error::source(&error);
        while let Some(cause) = source {
            why = format!("{why}: {cause}");
            source = cause.source();
        }
        let error = ModelError::Network(self.clean(&why));
        Failure { error, retry: Some(reason), after: None, had_content }
    }

    fn broken(&self, broken: Broken, had_content: bool) -> Failure {
        match broken {
            Broken::Protocol(why) => Failure::last(ModelError::Protocol(self.clean(&why))),
            Broken::Api(error) => {
                let status = match error.kind.as_str() {
                    "invalid_request_error" => 400,
                    "authentication_error" => 401,
                    "permission_error" => 403,
                    "not_found_error" => 404,
                    "request_too_large" => 413,
                    "rate_limit_error" => 429,
                    "timeout_error" => 408,
                    "overloaded_error" => 529,
                    _ => 500,
                };
                let retry = retry::wanted(status, &HeaderMap::new()).then(|| reason(status));
                Failure { error: self.error(status, &self.said(&error), None), retry, after: None, had_content }
            }
        }
    }

    /// Reads an answer that is not a stream.
    async fn refused(&self, mut response: Response) -> Failure {
        let status = response.status().as_u16();
        let retry = retry::wanted(status, response.headers()).then(|| reason(status));
        let after = retry::after(response.headers());
        let mut body = Vec::new();
        while let Ok(Some(chunk)) = response.chunk().await {
            let room = MAX_ERROR_BODY - body.len();
            body.extend_from_slice(&chunk[..chunk.len().min(room)]);
            if body.len() == MAX_ERROR_BODY {
                break;
            }
        }
        let said = match serde_json::from_slice::<ErrorBody>(&body) {
            Ok(ErrorBody { error }) => self.said(&error),
            Err(_) => self.clean(&String::from_utf8_lossy(&body)),
        };
        let error = self.error(status, &format!("HTTP {status}: {said}"), after);
        Failure { error, retry, after, had_content: false }
    }

    fn said(&self, error: &ApiError) -> String {
        self.clean(&format!("{}: {}", error.kind, error.message))
    }

    fn error(&self, status: u16, said: &str, retry_after: Option<Duration>) -> ModelError {
        match status {
            401 | 403 => ModelError::Auth(format!("{said}; check ANTHROPIC_API_KEY and the auth style")),
            429 | 503 | 529 => ModelError::Busy { message: said.to_owned(), retry_after },
            408 | 409 | 500.. => ModelError::Network(said.to_owned()),
            404 => ModelError::Rejected(format!("{said}; check the model '{}' and the base URL", self.config.model)),
            _ => ModelError::Rejected(said.to_owned()),
        }
    }

    /// A foreign text as it may stand in an error: one line, short, and without the key should it be echoed.
    fn clean(&self, text: &str) -> String {
        let text = text.replace(self.config.api_key.expose(), "[key]");
        let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_MESSAGE).collect();
        line.trim().to_owned()
    }
}

impl Model for Anthropic {
    fn info(&self) -> ModelInfo {
        ModelInfo { provider: PROVIDER, model: self.config.model.clone(), notice: None }
    }

    fn complete<'a>(
        &'a self,
        request: ModelRequest,
        stream: &'a dyn ModelStream,
    ) -> BoxFuture<'a, Result<ModelReply, ModelError>> {
        Box::pin(self.ask(request, stream))
    }
}

/// One try that failed.
struct Failure {
    error: ModelError,
    /// Whether another try makes sense, and the metric label of it.
    retry: Option<&'static str>,
    /// The pause that the server asked for.
    after: Option<Duration>,
    /// Whether the reply had begun.
    had_content: bool,
}

impl Failure {
    fn last(error: ModelError) -> Self {
        Self { error, retry: None, after: None, had_content: false }
    }
}

#[derive(Deserialize)]
struct ErrorBody {
    error: ApiError,
}

/// The label of a retry, from a closed set.
fn reason(status: u16) -> &'static str {
    match status {
        429 => "rate_limit",
        503 | 529 => "overloaded",
        500.. => "server_error",
        408 => "timeout",
        409 => "conflict",
        _ => "asked",
    }
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests;
