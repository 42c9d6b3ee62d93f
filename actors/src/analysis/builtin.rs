//! What a picture shows, said without a server: the provider `builtin`.

pub mod detector;
pub mod labels;
