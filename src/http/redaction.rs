//! Keeps the addresses of model servers from callers who are no administrators: sentences about the provider
//! name them, for whoever runs the server.

use actix_web::{
    body::{self, BodySize, BoxBody, MessageBody},
    dev::ServiceResponse,
    http::header,
};
use mediamill_actors::config;

use super::error::Problem;

/// Addresses of model servers, up to their paths.
#[derive(Debug, Clone, Default)]
pub(super) struct Addresses(Vec<String>);

impl Addresses {
    /// Those of a configuration.
    pub(super) fn of(provider: &config::Provider) -> Self {
        Self(provider.server_addresses())
    }

    /// Text without the addresses.
    pub(super) fn hide(&self, mut text: String) -> String {
        for address in &self.0 {
            while let Some(at) = text.find(address.as_str()) {
                let rest = text.get(at + address.len()..).unwrap_or_default();
                let ends = |it: char| it.is_whitespace() || "\"'`\\,;()<>".contains(it);
                let path = rest.find(ends).unwrap_or(rest.len());
                let path = rest.get(..path).unwrap_or_default().trim_end_matches([':', '.']).len();
                let end = at + address.len() + path;
                match text.get(..at).is_some_and(|before| before.ends_with(" at ")) {
                    true => text.replace_range(at - " at ".len()..end, ""),
                    false => text.replace_range(at..end, "the model server"),
                }
            }
        }
        text
    }

    /// An answer in JSON without the addresses.
    pub(super) async fn hide_in(
        &self,
        response: ServiceResponse<impl MessageBody + 'static>,
    ) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
        let json = response.headers().get(header::CONTENT_TYPE).is_some_and(|it| it == "application/json");
        let whole = matches!(response.response().body().size(), BodySize::Sized(1..));
        if self.0.is_empty() || !json || !whole {
            return Ok(response.map_into_boxed_body());
        }
        let (request, response) = response.into_parts();
        let (response, body) = response.into_parts();
        let bytes = body::to_bytes(body).await.map_err(|_| Problem::internal("an answer cannot be read"))?;
        let bytes = match String::from_utf8(bytes.to_vec()) {
            Ok(text) => self.hide(text).into_bytes(),
            Err(_) => bytes.to_vec(),
        };
        Ok(ServiceResponse::new(request, response.set_body(BoxBody::new(bytes))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_hidden_wherever_a_sentence_has_it() {
        let addresses = Addresses(vec!["http://10.0.0.7:11434".into(), "https://models.example".into()]);
        for (text, shown) in [
            (
                "Ollama at http://10.0.0.7:11434 cannot be reached: refused",
                "Ollama cannot be reached: refused",
            ),
            (
                r#"{"m":"no answer from https://models.example/v1/chat: 500"}"#,
                r#"{"m":"no answer from the model server: 500"}"#,
            ),
            ("see http://10.0.0.7:11434", "see the model server"),
            (
                "(http://10.0.0.7:11434/api/tags?x=1), twice http://10.0.0.7:11434/",
                "(the model server), twice the model server",
            ),
            ("https://other.example", "https://other.example"),
        ] {
            assert_eq!(addresses.hide(text.to_owned()), shown);
        }
    }
}
