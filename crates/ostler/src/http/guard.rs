//! Who may knock. One layer before every route of every surface: Host, Origin, token; security headers after. A second one,
//! before every handler that takes a body: content type.
//!
//! It keeps web pages out (a page can reach loopback through a browser, and through a name that it lets point here); people
//! on this machine are kept out by the socket's permissions, and by the token where one is set.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use ostler_core::Secret;

use super::error::ErrorDto;

/// The rules of one listener.
pub struct Guard {
    /// Names by which the listener may be called, in lower case, without port.
    names: Vec<String>,
    /// Whether any IP address will do as a name: the listener hears all of the machine's.
    any_address: bool,
    token: Option<Secret>,
}

impl Guard {
    /// The rules for a TCP listener on `bound`: it is called by loopback names or by its own address.
    ///
    /// On all addresses (`0.0.0.0`, `::`) any address is its own; a name that somebody else controls is not an address.
    pub fn tcp(bound: SocketAddr) -> Self {
        let names = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).into_iter().chain([bound.ip().to_string()]);
        Self { names: names.collect(), any_address: bound.ip().is_unspecified(), token: None }
    }

    /// The rules for the Unix socket, where the peer's user was checked before.
    pub fn socket() -> Self {
        Self { names: vec!["localhost".to_owned()], any_address: false, token: None }
    }

    /// Lets the listener be called by another name too.
    #[must_use]
    pub fn called(mut self, name: &str) -> Self {
        self.names.push(name.to_ascii_lowercase());
        self
    }

    /// Asks for a bearer token.
    #[must_use]
    pub fn with_token(mut self, token: Secret) -> Self {
        self.token = Some(token);
        self
    }

    /// Checks a request's head. Errors: `forbidden`, `unauthorized`.
    fn check(&self, request: &Request) -> Result<(), ErrorDto> {
        let headers = request.headers();
        let host = self.host(headers)?;
        if request.uri().authority().is_some_and(|authority| *authority != host) {
            return Err(forbidden("the request line and the Host header name different hosts"));
        }
        same_origin(headers, &host)?;
        self.token(headers)
    }

    fn host(&self, headers: &HeaderMap) -> Result<Authority, ErrorDto> {
        let authority: Authority = only(headers, &header::HOST)
            .and_then(|host| host.parse().ok())
            .ok_or_else(|| forbidden("the request must have exactly one Host header"))?;
        let name = authority.host().trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
        let is_ours = self.names.contains(&name) || (self.any_address && name.parse::<IpAddr>().is_ok());
        if !is_ours || authority.as_str().contains('@') {
            return Err(forbidden("this listener is not called by that host name").with_hint("use its address"));
        }
        Ok(authority)
    }

    fn token(&self, headers: &HeaderMap) -> Result<(), ErrorDto> {
        let Some(token) = &self.token else { return Ok(()) };
        let given = only(headers, &header::AUTHORIZATION).and_then(|value| {
            let (scheme, given) = value.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then_some(given.trim())
        });
        match given {
            Some(given) if same(given.as_bytes(), token.expose().as_bytes()) => Ok(()),
            Some(_) => Err(ErrorDto::new("unauthorized", "the token is wrong")),
            None => Err(ErrorDto::new("unauthorized", "a token is needed")
                .with_hint("send the header 'authorization: Bearer <token>'")),
        }
    }
}

/// The layer itself.
pub(super) async fn guard(State(rules): State<Arc<Guard>>, request: Request, next: Next) -> Response {
    let mut response = match rules.check(&request) {
        Ok(()) => next.run(request).await,
        Err(error) => error.into_response(),
    };
    for (name, value) in SECURITY_HEADERS {
        response.headers_mut().insert(name, value);
    }
    response
}

/// Before every handler that takes a body: a page of another origin cannot send JSON without asking first.
pub(super) async fn json_only(request: Request, next: Next) -> Response {
    if is_json(request.headers()) {
        return next.run(request).await;
    }
    ErrorDto::new("unsupported_media_type", "a body must be application/json")
        .with_hint("send the header 'content-type: application/json'")
        .into_response()
}

/// On every response: nothing here is a page, and nothing here is to be kept.
const SECURITY_HEADERS: [(HeaderName, HeaderValue); 5] = [
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'")),
    (HeaderName::from_static("cross-origin-resource-policy"), HeaderValue::from_static("same-origin")),
];

/// Refuses what a browser sends for a page that does not come from here.
fn same_origin(headers: &HeaderMap, host: &Authority) -> Result<(), ErrorDto> {
    let foreign = || forbidden("requests from web pages of other origins are refused");
    if headers.contains_key(header::ORIGIN) {
        let origin = only(headers, &header::ORIGIN).ok_or_else(foreign)?;
        let authority = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
        if !authority.is_some_and(|authority| authority.eq_ignore_ascii_case(host.as_str())) {
            return Err(foreign());
        }
    }
    match headers.get("sec-fetch-site").map(HeaderValue::as_bytes) {
        None | Some(b"same-origin" | b"none") => Ok(()),
        Some(_) => Err(foreign()),
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    only(headers, &header::CONTENT_TYPE)
        .and_then(|value| value.split(';').next())
        .is_some_and(|essence| essence.trim().eq_ignore_ascii_case("application/json"))
}

/// The value of a header that must not come twice.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?;
    values.next().is_none().then(|| value.to_str().ok())?
}

fn forbidden(message: &str) -> ErrorDto {
    ErrorDto::new("forbidden", message)
}

/// Compares in a time that depends on the lengths alone.
fn same(left: &[u8], right: &[u8]) -> bool {
    let difference = left.iter().zip(right).fold(0, |sum, (a, b)| std::hint::black_box(sum | (a ^ b)));
    left.len() == right.len() && std::hint::black_box(difference) == 0
}

#[cfg(test)]
mod tests;
