//! Why a file is refused or cannot be decoded.

use serde::{Deserialize, Serialize};

/// Why a file is refused at the door or cannot be decoded: a sentence in lower case without a full stop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// The class of the error, for programs.
    pub kind: ErrorKind,
    /// The sentence, for people.
    pub message: String,
}

/// The classes of errors with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorKind {
    /// The file is empty.
    Empty,
    /// The bytes are of no known format.
    NotMedia,
    /// The format is known, but this build or this machine cannot decode it.
    Unsupported,
    /// The file exceeds a limit on bytes, pixels, the length of a side or memory.
    TooLarge,
    /// The bytes are damaged, cut short or make no sense.
    Undecodable,
    /// The file cannot be read.
    Unreadable,
}

impl Error {
    pub(super) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    /// [`ErrorKind::Undecodable`] with a sentence of its own.
    pub(super) fn undecodable(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Undecodable, message)
    }

    /// [`ErrorKind::Unsupported`]: a known coding without a decoder. `coding` is the object of the sentence,
    /// `remedy` its end.
    pub(super) fn no_decoder(coding: &str, remedy: &str) -> Self {
        let message = format!("cannot decode {coding}, this build has no decoder for it: {remedy}");
        Self::new(ErrorKind::Unsupported, message)
    }

    /// A picture that cannot be decoded, for a reason of ours.
    pub(super) fn broken(reason: &str) -> Self {
        Self::undecodable(format!("cannot decode the picture: {reason}"))
    }

    /// A picture that cannot be decoded, for a decoder's own reason, which is brought into the form of our
    /// sentences.
    pub(super) fn decoder(error: impl std::fmt::Display) -> Self {
        let mut text = String::new();
        for word in error.to_string().split_whitespace() {
            if text.len() + word.len() > 200 {
                break;
            }
            if !text.is_empty() {
                text.push(' ');
            }
            text.extend(word.chars().filter(|c| !c.is_control() && *c != '"').flat_map(char::to_lowercase));
        }
        Self::broken(text.trim_end_matches(['.', '!', ' ']))
    }

    /// A file that cannot be read.
    pub(super) fn unreadable(error: std::io::Error) -> Self {
        Self::new(ErrorKind::Unreadable, format!("the file cannot be read: {error}"))
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}
