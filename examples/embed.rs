//! The smallest host: a server with pages and authentication of its own, and mediamill below `/media`.
//!
//! ```sh
//! cargo run --example embed -- data 127.0.0.1:8080
//! curl -H 'x-user: ann' -F files=@cat.jpg http://127.0.0.1:8080/media/v1/uploads/bulk
//! curl -H 'x-user: ann' http://127.0.0.1:8080/media/v1/uploads/batches
//! curl http://127.0.0.1:8080/batches/ann
//! ```

use std::{error::Error, time::Duration};

use actix_web::{
    App, HttpRequest, HttpResponse, HttpServer, get,
    web::{self, Data, Path},
};
use mediamill::{
    Answer, Authenticate, Caller, Config, Denied, Handle, Problem,
    engine::{
        self,
        actix::Addr,
        id::{Owner, UploadId},
        pipeline::Pipeline,
        query_service::{GetUpload, ListBatches, QueryService},
    },
};

/// Trusts the proxy in front of the server, which names the user in a header.
struct Proxy;

impl Authenticate for Proxy {
    fn caller<'a>(&'a self, request: &'a HttpRequest) -> Answer<'a> {
        Box::pin(async {
            let user = request.headers().get("x-user").and_then(|user| user.to_str().ok());
            let user =
                user.ok_or_else(|| Denied::Refused("sign in with your account of this site".into()))?;
            let owner = Owner::new(user).map_err(|error| Denied::Refused(error.to_string()))?;
            Ok(Caller { administrator: owner.as_str() == "root", owner, until: None })
        })
    }

    fn sign_in_address(&self) -> Option<&str> {
        Some("/sign-in")
    }
}

fn owner(name: &str) -> Result<Owner, engine::error::Error> {
    Owner::new(name).map_err(|error| engine::error::Error::Invalid(error.to_string()))
}

/// The host's own page about the batches of a user.
#[get("/batches/{user}")]
async fn batches(query_service: Data<Addr<QueryService>>, user: Path<String>) -> Result<String, Problem> {
    let list = ListBatches { owner: owner(&user)?, offset: 0, limit: ListBatches::MAX };
    Ok(format!("{} batches\n", query_service.send(list).await??.len()))
}

/// The host's own page about an upload of a user.
#[get("/descriptions/{user}/{upload}")]
async fn description(
    query_service: Data<Addr<QueryService>>,
    path: Path<(String, String)>,
) -> Result<String, engine::error::Error> {
    let upload: UploadId = path.1.parse().map_err(|_| engine::error::Error::NotFound("upload"))?;
    let upload = query_service.send(GetUpload { owner: owner(&path.0)?, upload }).await??;
    Ok(upload.description.map(|it| it.text).unwrap_or_default())
}

#[actix_web::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut config = Config::default();
    config.engine.store.data_dir = arguments.next().unwrap_or_else(|| "data".into()).into();
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:8080".into());

    let pipeline = Pipeline::start(config.engine.clone()).await?;
    let media = Handle::with(&pipeline, &config, Proxy);
    let (routes, query_service) = (media.clone(), Data::new(pipeline.query_service.clone()));
    let app = move || {
        App::new()
            .app_data(query_service.clone())
            .route("/", web::get().to(|| async { HttpResponse::Ok().body("the host's own page\n") }))
            .service(batches)
            .service(description)
            .service(web::scope("/media").configure(mediamill::routes(routes.clone())))
    };
    let server = HttpServer::new(app).disable_signals().bind(address)?.run();
    mediamill::host(server, pipeline, media, Duration::from_secs(10)).await?;
    Ok(())
}
