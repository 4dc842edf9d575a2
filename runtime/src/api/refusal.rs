//! What a client is told when there is no answer: the error object of the `OpenAI` interface.

use hyper::StatusCode;
use serde_json::{Value, json};

use crate::http::Shut;

/// A request that gets no answer.
#[derive(Debug, PartialEq)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    /// What went wrong, in words.
    pub(super) message: String,
    /// A stable name for programs.
    pub(super) code: &'static str,
    /// The field that is wrong.
    pub(super) param: Option<String>,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
            code,
            param: None,
        }
    }

    /// A field has a value that does not fit it.
    pub(super) fn field(param: impl Into<String>, expected: &str) -> Self {
        let param = param.into();
        Self {
            param: Some(param.clone()),
            ..Self::new(
                StatusCode::BAD_REQUEST,
                "invalid_value",
                format!("`{param}` must be {expected}"),
            )
        }
    }

    /// A field asks for what this program does not do.
    pub(super) fn unsupported(param: impl Into<String>, reason: &str) -> Self {
        let param = param.into();
        Self {
            param: Some(param.clone()),
            ..Self::new(
                StatusCode::BAD_REQUEST,
                "unsupported_value",
                format!("`{param}` is not supported here: {reason}"),
            )
        }
    }

    /// Something failed here.
    pub(super) fn fault(reason: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "failed", reason)
    }

    /// It is not let in.
    pub(super) fn shut(shut: Shut) -> Self {
        match shut {
            Shut::ForeignHost => {
                let message = "without a token this server answers requests to localhost only";
                Self::new(StatusCode::FORBIDDEN, "foreign_host", message)
            }
            Shut::NoToken => {
                let message = "send the right token as `Authorization: Bearer TOKEN`";
                Self::new(StatusCode::UNAUTHORIZED, "invalid_api_key", message)
            }
        }
    }

    /// The program ends.
    pub(super) fn ending() -> Self {
        let message = "the server is being stopped";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "stopping", message)
    }

    pub(super) fn to_json(&self) -> Value {
        let kind = match self.status {
            StatusCode::UNAUTHORIZED => "authentication_error",
            StatusCode::FORBIDDEN => "permission_error",
            StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
            status if status.is_server_error() => "server_error",
            _ => "invalid_request_error",
        };
        json!({"error": {
            "message": self.message, "type": kind, "param": self.param, "code": self.code,
        }})
    }
}
