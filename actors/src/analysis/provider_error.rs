//! Why a call to a provider failed.

use std::{fmt, time::Duration};

/// Why a call gave no valid answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProviderError {
    /// No connection, status 429, 502, 503 or 504, or an interrupted answer: the provider may be away. A
    /// probe will tell.
    Unreachable {
        /// The cause, in one sentence.
        message: String,
        /// Pause that the server asked for. The provider is then away by its own account, and needs no probe.
        retry_after: Option<Duration>,
    },
    /// One of a request's several calls, such as the one about a video's frame, exceeded its limit. The
    /// provider may be away; a probe will tell.
    TimedOut {
        /// The call that took too long, in one sentence.
        message: String,
    },
    /// Wrong key, missing model, model without vision, exhausted quota: no call will succeed until somebody
    /// acts.
    Misconfigured {
        /// The remedy, in one sentence.
        message: String,
    },
    /// The provider is reachable, and this one answer is invalid.
    BadAnswer {
        /// The fault, in one sentence.
        message: String,
    },
    /// The provider is reachable, and failed on this one request (status 500). A smaller picture or a shorter
    /// text may succeed.
    ServerFault {
        /// The cause, in one sentence.
        message: String,
    },
}

impl ProviderError {
    /// The cause or the remedy, in one sentence: lower case, without a full stop.
    pub fn message(&self) -> &str {
        match self {
            Self::Unreachable { message, .. }
            | Self::TimedOut { message }
            | Self::Misconfigured { message }
            | Self::BadAnswer { message }
            | Self::ServerFault { message } => message,
        }
    }

    pub(super) fn into_message(self) -> String {
        match self {
            Self::Unreachable { message, .. }
            | Self::TimedOut { message }
            | Self::Misconfigured { message }
            | Self::BadAnswer { message }
            | Self::ServerFault { message } => message,
        }
    }

    pub(super) fn bad_answer(message: impl Into<String>) -> Self {
        Self::BadAnswer { message: message.into() }
    }

    pub(super) fn misconfigured(message: impl Into<String>) -> Self {
        Self::Misconfigured { message: message.into() }
    }

    pub(super) fn server_fault(message: impl Into<String>) -> Self {
        Self::ServerFault { message: message.into() }
    }

    pub(super) fn unreachable(message: impl Into<String>) -> Self {
        Self::Unreachable { message: message.into(), retry_after: None }
    }

    /// For a response that shows which server this is: an invalid one means the wrong address, and `hint`
    /// says so.
    pub(super) fn bad_answer_means_misconfigured(self, hint: &str) -> Self {
        if let Self::BadAnswer { message } = self {
            Self::misconfigured(format!("{message}; {hint}"))
        } else {
            self
        }
    }
}

impl fmt::Display for ProviderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message())
    }
}

impl std::error::Error for ProviderError {}
