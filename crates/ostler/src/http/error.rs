//! The one shape of an error on the wire, `{"error":{"code","message","hint"}}`, and the HTTP status of each code.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use ostler_core::CallError;
use serde::{Deserialize, Serialize};

use super::body::json;
use super::dto::millis;

/// An error, for machines by its code and for people by the rest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct ErrorDto {
    /// The stable code.
    pub code: String,
    /// What happened, in one line.
    pub message: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// Which server it concerns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    /// When a new try makes sense.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
    /// Whether the tool may have run all the same; absent if no call was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub may_have_run: Option<bool>,
}

/// The envelope.
#[derive(Debug, Serialize, Deserialize)]
pub struct ErrorBody {
    /// The error.
    pub error: ErrorDto,
}

impl ErrorDto {
    /// An error with nothing but a code and a line.
    pub fn new(code: &str, message: impl Into<String>) -> Self {
        Self {
            code: code.to_owned(),
            message: message.into(),
            hint: None,
            server: None,
            retry_after_ms: None,
            may_have_run: None,
        }
    }

    /// The same with advice.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same, about a server.
    #[must_use]
    pub fn of_server(mut self, server: Option<String>) -> Self {
        self.server = server;
        self
    }

    /// The HTTP status of the code.
    pub fn status(&self) -> StatusCode {
        match self.code.as_str() {
            "bad_request" => StatusCode::BAD_REQUEST,
            "unauthorized" => StatusCode::UNAUTHORIZED,
            "forbidden" | "denied" => StatusCode::FORBIDDEN,
            "not_found" | "unknown_tool" | "unknown_server" => StatusCode::NOT_FOUND,
            "method_not_allowed" => StatusCode::METHOD_NOT_ALLOWED,
            "too_large" => StatusCode::PAYLOAD_TOO_LARGE,
            "unsupported_media_type" => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "overloaded" => StatusCode::TOO_MANY_REQUESTS,
            "unavailable" => StatusCode::SERVICE_UNAVAILABLE,
            "timed_out" => StatusCode::GATEWAY_TIMEOUT,
            "request_timeout" => StatusCode::REQUEST_TIMEOUT,
            "cancelled" | "launch_changed" => StatusCode::CONFLICT,
            "server_lost" | "protocol" | "remote" | "unsupported_result" => StatusCode::BAD_GATEWAY,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl From<&CallError> for ErrorDto {
    fn from(error: &CallError) -> Self {
        let (message, hint) = match error {
            // What the message has behind its semicolon is advice, and has a place of its own here.
            CallError::UnknownTool { name, hint } => {
                let hint = hint.trim_start_matches("; ");
                (format!("no tool is called '{name}'"), (!hint.is_empty()).then(|| hint.to_owned()))
            }
            CallError::Denied { .. }
            | CallError::Overloaded { .. }
            | CallError::Unavailable { .. }
            | CallError::TimedOut { .. }
            | CallError::Cancelled
            | CallError::ServerLost { .. }
            | CallError::Protocol { .. }
            | CallError::Remote { .. } => (error.to_string(), None),
        };
        Self {
            code: error.code().to_owned(),
            message,
            hint,
            server: None,
            retry_after_ms: error.retry_after().map(millis),
            may_have_run: Some(error.may_have_run()),
        }
    }
}

impl IntoResponse for ErrorDto {
    fn into_response(self) -> Response {
        let status = self.status();
        // `Retry-After` counts whole seconds; rounded up, so that nobody comes back too early.
        let retry_after = self.retry_after_ms.map(|ms| ms.div_ceil(1000));
        let mut response = json(status, &ErrorBody { error: self });
        if let Some(seconds) = retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_advice_of_an_unknown_tool_is_a_hint() {
        let unknown = |hint: &str| {
            let error = ErrorDto::from(&CallError::UnknownTool { name: "mat".to_owned(), hint: hint.to_owned() });
            (error.message, error.hint)
        };
        let message = || "no tool is called 'mat'".to_owned();
        assert_eq!(unknown(""), (message(), None));
        assert_eq!(unknown("; there are math"), (message(), Some("there are math".to_owned())));
    }
}
