//! The engine of mediamill.

pub mod analysis;
pub mod media;
pub mod search;
