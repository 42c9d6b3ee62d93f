//! The address of a model server.

use reqwest::Url;

/// Parses an address of the configuration.
///
/// # Errors
/// The problem, worded to follow the key's name. It never repeats the address, which may hold a password.
pub(super) fn parse(url: &str) -> Result<Url, String> {
    let parsed = Url::parse(url.trim())
        .map_err(|error| format!("is not an address like http://host:port: {error}"))?;
    if !matches!(parsed.scheme(), "http" | "https") || parsed.host_str().is_none_or(str::is_empty) {
        return Err("must begin with http:// or https:// and a host".into());
    }
    if !parsed.username().is_empty() || parsed.password().is_some() {
        return Err(
            "must not hold credentials; name an environment variable with provider.api_key_env".into()
        );
    }
    if parsed.query().is_some() || parsed.fragment().is_some() {
        return Err("must end with a path, not with a query or fragment".into());
    }
    Ok(parsed)
}
