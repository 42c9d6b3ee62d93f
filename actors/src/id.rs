//! Identifiers of batches, uploads and their owners.

use std::{
    fmt,
    str::FromStr,
    time::{SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A UUIDv7 of this time. A clock before 1970 counts as one at its beginning.
fn new_v7(now: SystemTime) -> Uuid {
    match now.duration_since(UNIX_EPOCH) {
        Ok(_) => Uuid::now_v7(),
        Err(_) => Uuid::new_v7(uuid::Timestamp::from_unix(uuid::NoContext, 0, 0)),
    }
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        #[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
        pub struct $name(Uuid);

        impl $name {
            /// Generates a new identifier.
            pub fn generate() -> Self {
                Self(new_v7(SystemTime::now()))
            }

            pub(crate) fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }

            pub(crate) fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(Uuid::from_bytes(bytes))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Uuid::parse_str(text).map(Self)
            }
        }
    };
}

id! {
    /// Identifies an upload: a UUIDv7, written with hyphens.
    UploadId
}

id! {
    /// Identifies a batch: a UUIDv7, written with hyphens.
    BatchId
}

/// The owner of batches and uploads: an opaque string of 1 to 128 characters without control characters.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(value_type = String))]
pub struct Owner(std::sync::Arc<str>);

impl Owner {
    /// The owner on the command line and of a server without authentication.
    pub const LOCAL: &str = "local";

    /// The owner with this name.
    ///
    /// # Errors
    /// [`InvalidOwner`] unless the name has 1 to 128 characters, none of them a control character.
    pub fn new(name: impl AsRef<str>) -> Result<Self, InvalidOwner> {
        let name = name.as_ref();
        let length = name.chars().count();
        if (1..=128).contains(&length) && !name.chars().any(char::is_control) {
            Ok(Self(name.into()))
        } else {
            Err(InvalidOwner)
        }
    }

    /// The owner [`Owner::LOCAL`].
    pub fn local() -> Self {
        Self(Self::LOCAL.into())
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for Owner {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl TryFrom<String> for Owner {
    type Error = InvalidOwner;

    fn try_from(name: String) -> Result<Self, InvalidOwner> {
        Self::new(name)
    }
}

/// The error for a name that no owner can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidOwner;

impl fmt::Display for InvalidOwner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an owner has 1 to 128 characters and no control characters")
    }
}

impl std::error::Error for InvalidOwner {}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_clock_before_1970_gives_ids_that_differ() {
        let before = UNIX_EPOCH - Duration::from_secs(86_400 * 365);
        let ids = [new_v7(before), new_v7(before), new_v7(SystemTime::now())];
        assert!(ids.iter().all(|id| id.get_version_num() == 7));
        assert!(ids[0] != ids[1] && ids[0] < ids[2] && ids[1] < ids[2]);
    }

    #[test]
    fn an_owner_has_1_to_128_characters_and_no_control_characters() {
        for (name, valid) in [
            ("", false),
            ("a", true),
            (&"ü".repeat(128), true),
            (&"a".repeat(129), false),
            ("a\nb", false),
            ("a\0b", false),
        ] {
            assert_eq!(Owner::new(name).is_ok(), valid, "{name:?}");
        }
    }

    #[test]
    fn ids_are_uuids_of_version_7_written_with_hyphens() {
        let id = UploadId::generate();
        let text = id.to_string();
        assert_eq!((text.len(), text.as_bytes()[14]), (36, b'7'));
        assert_eq!(text.parse::<UploadId>(), Ok(id));
    }
}
