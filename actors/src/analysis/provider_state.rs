//! Whether the provider can be called.

use serde::{Deserialize, Serialize};

/// State of the provider.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, strum::IntoStaticStr, strum::VariantNames)]
#[serde(tag = "state", rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum ProviderState {
    /// It was not probed yet.
    Starting,
    /// It answers.
    Ready,
    /// It does not answer; it is probed again at growing intervals.
    Away {
        /// Start of this state.
        since: jiff::Timestamp,
        /// The cause, in one sentence.
        message: String,
    },
    /// It has been away for longer than uploads wait: calls fail until it answers again.
    GaveUp {
        /// Start of the outage.
        since: jiff::Timestamp,
        /// The cause, in one sentence.
        message: String,
    },
    /// No call will succeed until somebody acts.
    Misconfigured {
        /// Start of this state.
        since: jiff::Timestamp,
        /// The remedy, in one sentence.
        message: String,
    },
}

impl ProviderState {
    /// The reason why uploads wait, in one sentence; `None` if they do not wait.
    pub fn waiting(&self) -> Option<String> {
        match self {
            Self::Starting | Self::Ready | Self::GaveUp { .. } => None,
            Self::Away { since, message } => {
                Some(format!("the provider has been away since {since}: {message}"))
            }
            Self::Misconfigured { message, .. } => Some(format!("the provider is not set up: {message}")),
        }
    }

    /// The reason why uploads no longer wait, in one sentence; `None` in every other state.
    pub fn gave_up(&self) -> Option<String> {
        match self {
            Self::GaveUp { since, message } => Some(format!(
                "the provider has been away since {since} and is not waited for any more: {message}"
            )),
            Self::Starting | Self::Ready | Self::Away { .. } | Self::Misconfigured { .. } => None,
        }
    }
}
