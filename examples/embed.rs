//! The smallest host: a server of its own, with its own way to tell who asks, that has mediamill below `/media`.
//!
//! ```sh
//! cargo run --example embed -- data 127.0.0.1:8080
//! curl -H 'x-user: ann' -F files=@cat.jpg http://127.0.0.1:8080/media/v1/uploads/bulk
//! curl -H 'x-user: ann' http://127.0.0.1:8080/media/v1/uploads/batches
//! ```

use std::{error::Error, time::Duration};

use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use mediamill::{
    Answer, Authenticate, Caller, Config, Denied, Handle,
    engine::{id::Owner, pipeline::Pipeline},
};

/// Believes the proxy in front, which says in a header who asks.
struct Proxy;

impl Authenticate for Proxy {
    fn caller<'a>(&'a self, request: &'a HttpRequest) -> Answer<'a> {
        Box::pin(async {
            let user =
                request.headers().get("x-user").and_then(|user| user.to_str().ok()).ok_or(Denied::Missing)?;
            let owner = Owner::new(user).map_err(|error| Denied::Refused(error.to_string()))?;
            Ok(Caller { administrator: owner.as_str() == "root", owner, until: None })
        })
    }
}

#[actix_web::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut config = Config::default();
    config.engine.store.data_dir = arguments.next().unwrap_or_else(|| "data".into()).into();
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:8080".into());

    let pipeline = Pipeline::start(config.engine.clone()).await?;
    let media = Handle::with(&pipeline, &config, Proxy);
    let routes = media.clone();
    let app = move || {
        App::new()
            .route("/", web::get().to(|| async { HttpResponse::Ok().body("the host's own page\n") }))
            .service(web::scope("/media").configure(mediamill::routes(routes.clone())))
    };
    let server = HttpServer::new(app).disable_signals().bind(address)?.run();
    mediamill::host(server, pipeline, media, Duration::from_secs(10)).await?;
    Ok(())
}
