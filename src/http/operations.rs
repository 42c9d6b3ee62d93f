//! The operations of the API: a handler is registered once, with its route and its description.
//!
//! `#[utoipa::path]` at a handler names its method and path, relative to the scope of its resource;
//! [`operation!`] reads the route from there.

use std::collections::BTreeMap;

use actix_web::{
    FromRequest, Handler, Responder, Route,
    http::Method,
    web::{self, ServiceConfig},
};
use utoipa::{
    __dev::{SchemaReferences, Tags},
    openapi::{OpenApi, path::HttpMethod},
};

/// An [`Operation`] of a handler that has a `#[utoipa::path]`.
macro_rules! operation {
    ($handler:ident) => {
        pastey::paste! {
            $crate::http::operations::Operation::new::<[<__path_ $handler>], _, _>($handler)
        }
    };
}
pub(super) use operation;

/// One handler with its route and its description.
pub(super) struct Operation {
    path: String,
    routes: Vec<Route>,
    describe: fn(&str, &mut OpenApi),
}

impl Operation {
    /// A handler, described by `D`. One that answers GET answers HEAD too.
    pub(super) fn new<D, F, Args>(handler: F) -> Self
    where
        D: utoipa::Path + SchemaReferences + for<'t> Tags<'t>,
        F: Handler<Args>,
        Args: FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        let methods = D::methods().into_iter().flat_map(|method| match method {
            HttpMethod::Get => vec![Method::GET, Method::HEAD],
            HttpMethod::Post => vec![Method::POST],
            HttpMethod::Put => vec![Method::PUT],
            HttpMethod::Delete => vec![Method::DELETE],
            HttpMethod::Options => vec![Method::OPTIONS],
            HttpMethod::Head => vec![Method::HEAD],
            HttpMethod::Patch => vec![Method::PATCH],
            HttpMethod::Trace => vec![Method::TRACE],
        });
        let routes = methods.map(|method| web::method(method).to(handler.clone())).collect();
        Self { path: D::path(), routes, describe: describe::<D> }
    }

    /// Without an answer to HEAD, for an operation whose GET has no end, or a resource with a HEAD of its own.
    pub(super) fn without_head(mut self) -> Self {
        self.routes.truncate(1);
        self
    }
}

/// Adds an operation to the description of the API, below `base`.
fn describe<D>(base: &str, api: &mut OpenApi)
where
    D: utoipa::Path + SchemaReferences + for<'t> Tags<'t>,
{
    let mut operation = D::operation();
    operation.tags.get_or_insert_default().extend(D::tags().into_iter().map(str::to_owned));
    api.paths.add_path_operation(format!("{base}{}", D::path()), D::methods(), operation);
    let mut schemas = Vec::new();
    D::schemas(&mut schemas);
    api.components.get_or_insert_default().schemas.extend(schemas);
}

/// Operations of one scope.
#[derive(Default)]
pub(super) struct Operations(Vec<Operation>);

impl Operations {
    /// With one more operation.
    pub(super) fn with(mut self, operation: Operation) -> Self {
        self.0.push(operation);
        self
    }

    /// With all operations of another resource.
    pub(super) fn and(mut self, others: Self) -> Self {
        self.0.extend(others.0);
        self
    }

    /// Registers the routes. Literal paths come before parameters (`{` sorts after all letters), so the order
    /// in which operations were added does not matter.
    pub(super) fn register(self, config: &mut ServiceConfig) {
        let mut paths = BTreeMap::<String, Vec<Route>>::new();
        for Operation { path, routes, .. } in self.0 {
            paths.entry(path).or_default().extend(routes);
        }
        for (path, routes) in paths {
            config.service(routes.into_iter().fold(web::resource(path), actix_web::Resource::route));
        }
    }

    /// Adds the operations to the description of the API, below `base`.
    pub(super) fn describe(&self, base: &str, api: &mut OpenApi) {
        for operation in &self.0 {
            (operation.describe)(base, api);
        }
    }
}
