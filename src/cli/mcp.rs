//! `mediamill mcp`: the pictures as tools of a language model, by the Model Context Protocol on standard input
//! and output. All tools only read.

use std::{borrow::Cow, io::Read as _, sync::Arc};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use mediamill::Config;
use mediamill_actors::{
    analysis::{Object, Provider},
    batch::Batch,
    files::Files,
    id::{BatchId, Owner, UploadId},
    media::Facts,
    pipeline,
    store::Queries,
    upload::{FileKey, Status, Thumbnail, Upload},
};
use rmcp::{
    ErrorData, RoleServer, ServerHandler, ServiceExt as _,
    model::{
        CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, Implementation,
        ListToolsResult, PaginatedRequestParams, ServerCapabilities, ServerConfig, Tool, ToolAnnotations,
    },
    service::RequestContext,
    transport::io::stdio,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tokio::sync::Mutex;

use super::{Shared, client::Client, place::Place};

/// Most results of a search or a list.
const MAX_LIMIT: usize = 100;
const INSTRUCTIONS: &str = "Pictures and videos of this person, with descriptions. `search` finds them by \
     meaning, `list` goes through batches in order, `get` tells all about one, and `picture` shows it.";

/// Answers until the client closes standard input.
///
/// # Errors
/// A sentence, if there is no store, the provider is unknown, or the client does not speak the protocol.
pub(crate) async fn run(config: Config, shared: Shared) -> Result<(), String> {
    if let Place::Folder = shared.place(&config).await? {
        super::must_exist(&config.engine)?;
    }
    let provider = pipeline::connect(&config.engine).map_err(|error| error.to_string())?;
    let library = Library { config, shared, provider, turn: Mutex::new(()) };
    let service = library
        .serve(stdio())
        .await
        .map_err(|error| format!("the client does not speak the Model Context Protocol: {error}"))?;
    service.waiting().await.map(drop).map_err(|error| format!("the server of tools ended: {error}"))
}

/// The pictures of a data folder. A program that holds the folder is asked; otherwise the store is open during a
/// call only, so that other commands can run while the client is idle.
struct Library {
    config: Config,
    shared: Shared,
    provider: Arc<dyn Provider>,
    /// One call at a time has the store.
    turn: Mutex<()>,
}

/// Words to search for.
#[derive(Deserialize)]
struct Search {
    words: String,
    #[serde(default = "default_limit")]
    limit: usize,
}

/// One upload.
#[derive(Deserialize)]
struct One {
    id: UploadId,
}

/// A page of batches, or of the uploads of one batch.
#[derive(Deserialize)]
struct Page {
    batch: Option<BatchId>,
    #[serde(default)]
    offset: usize,
    #[serde(default = "default_limit")]
    limit: usize,
}

fn default_limit() -> usize {
    20
}

/// An upload, as the model reads it.
#[derive(Serialize)]
struct UploadView {
    id: UploadId,
    batch: BatchId,
    name: String,
    /// Path of a file in place.
    path: Option<String>,
    media_type: &'static str,
    status: Status,
    description: Option<String>,
    needs_review: bool,
    objects: Vec<Object>,
    facts: Option<Facts>,
    error: Option<String>,
    /// Similarity of the words of a search, -1 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    score: Option<f32>,
}

impl UploadView {
    fn of(upload: Upload, score: Option<f32>) -> Self {
        Self {
            id: upload.id,
            batch: upload.batch_id,
            path: upload.place().map(|it| it.to_string_lossy().into_owned()),
            name: upload.file_name,
            media_type: upload.format.mime(),
            status: upload.status,
            needs_review: upload.description.as_ref().is_some_and(|it| it.needs_review),
            description: upload.description.map(|it| it.text),
            objects: upload.objects,
            facts: upload.facts,
            error: match upload.status {
                Status::Failed => upload.failures.last().map(|it| it.message.clone()),
                Status::Pending
                | Status::Analyzing
                | Status::Embedding
                | Status::Completed
                | Status::Cancelled => None,
            },
            score,
        }
    }
}

impl Library {
    async fn call(&self, name: &str, arguments: Value) -> Result<Vec<ContentBlock>, String> {
        match self.shared.place(&self.config).await? {
            Place::Server(client) | Place::Holder(client, _) => {
                return of_client(&client, name, arguments).await;
            }
            Place::Folder => {}
        }
        match name {
            "search" => self.search(read(arguments)?).await,
            "get" => self.get(read(arguments)?).await,
            "list" => self.list(read(arguments)?).await,
            "picture" => self.picture(read(arguments)?).await,
            _ => Err(unknown(name)),
        }
    }

    /// Asks the store, which is open meanwhile.
    async fn ask<T, F: Future<Output = Result<T, mediamill_actors::error::Error>>>(
        &self,
        question: impl FnOnce(Queries) -> F,
    ) -> Result<T, String> {
        let _turn = self.turn.lock().await;
        let config = self.config.engine.clone();
        let opened = tokio::task::spawn_blocking(move || super::open(&config)).await;
        let store = opened.map_err(|error| format!("opening the store failed: {error}"))??;
        let answer = question(store.queries()).await;
        store.close().await;
        answer.map_err(|error| error.to_string())
    }

    async fn search(&self, asked: Search) -> Result<Vec<ContentBlock>, String> {
        let embedded = self.provider.embed(asked.words).await;
        let query = embedded.map_err(|error| error.message().to_owned())?;
        let (identity, limit) = (self.provider.identity(), asked.limit.clamp(1, MAX_LIMIT));
        let found =
            self.ask(|queries| async move { queries.nearest(Owner::local(), identity, query, limit).await });
        let found = found.await?.into_iter().map(|(upload, score)| UploadView::of(upload, Some(score)));
        let mut answer = vec![text(&found.collect::<Vec<_>>())?];
        answer.extend(self.provider.profile().notice.map(ContentBlock::text));
        Ok(answer)
    }

    async fn upload(&self, id: UploadId) -> Result<Upload, String> {
        self.ask(|queries| async move { queries.upload(Owner::local(), id).await }).await
    }

    async fn get(&self, asked: One) -> Result<Vec<ContentBlock>, String> {
        Ok(vec![text(&UploadView::of(self.upload(asked.id).await?, None))?])
    }

    async fn list(&self, asked: Page) -> Result<Vec<ContentBlock>, String> {
        let Page { batch, offset, limit } = asked;
        let limit = limit.clamp(1, MAX_LIMIT);
        let owner = Owner::local();
        let Some(batch) = batch else {
            let batches =
                self.ask(|queries| async move { queries.batches(owner, offset, limit).await }).await?;
            return Ok(vec![text(&batches.iter().map(batch_view).collect::<Vec<_>>())?]);
        };
        let uploads =
            self.ask(|queries| async move { queries.uploads(owner, batch, offset, limit).await }).await?;
        let uploads = uploads.into_iter().map(|upload| UploadView::of(upload, None));
        Ok(vec![text(&uploads.collect::<Vec<_>>())?])
    }

    async fn picture(&self, asked: One) -> Result<Vec<ContentBlock>, String> {
        let upload = self.upload(asked.id).await?;
        match &upload.thumbnail {
            Thumbnail::Made => {}
            Thumbnail::Pending => return Err(format!("{} has no thumbnail yet", upload.file_name)),
            Thumbnail::Failed(why) => return Err(format!("{} has no thumbnail: {why}", upload.file_name)),
        }
        let files = Files::new(&self.config.engine.store.data_dir);
        let missing = |error| format!("cannot read the thumbnail of {}: {error}", upload.file_name);
        let mut opened = files.open(&FileKey::thumbnail(upload.id)).await.map_err(missing)?;
        let mut jpeg = Vec::new();
        opened.file.read_to_end(&mut jpeg).map_err(missing)?;
        let image = ContentBlock::image(BASE64_STANDARD.encode(jpeg), "image/jpeg");
        Ok(vec![image, ContentBlock::text(upload.description.map(|it| it.text).unwrap_or_default())])
    }
}

/// The answer of a program that holds the data folder, in the words of its API.
async fn of_client(client: &Client, name: &str, arguments: Value) -> Result<Vec<ContentBlock>, String> {
    let limit = |limit: usize| limit.clamp(1, MAX_LIMIT).to_string();
    let found: Value = match name {
        "search" => {
            let Search { words, limit: most } = read(arguments)?;
            client.get("api/v1/search", &[("q", &words), ("limit", &limit(most))]).await?
        }
        "get" => {
            let One { id } = read(arguments)?;
            client.get(&format!("api/v1/uploads/{id}"), &[]).await?
        }
        "list" => {
            let Page { batch, offset, limit: most } = read(arguments)?;
            let path = match batch {
                None => "api/v1/uploads/batches".to_owned(),
                Some(batch) => format!("api/v1/uploads/batches/{batch}/uploads"),
            };
            client.get(&path, &[("limit", &limit(most)), ("offset", &offset.to_string())]).await?
        }
        "picture" => {
            let One { id } = read(arguments)?;
            let upload: Value = client.get(&format!("api/v1/uploads/{id}"), &[]).await?;
            let mut jpeg = Vec::new();
            let keep = |bytes: &[u8]| {
                jpeg.extend_from_slice(bytes);
                Ok(())
            };
            client.download(&format!("api/v1/uploads/{id}/thumbnail"), keep).await?;
            let image = ContentBlock::image(BASE64_STANDARD.encode(jpeg), "image/jpeg");
            let description = upload["description"].as_str().unwrap_or_default();
            return Ok(vec![image, ContentBlock::text(description)]);
        }
        _ => return Err(unknown(name)),
    };
    Ok(vec![text(&found)?])
}

fn unknown(tool: &str) -> String {
    format!("there is no tool {tool:?}; use search, get, list or picture")
}

fn batch_view(batch: &Batch) -> Value {
    let counts = &batch.counts;
    json!({
        "id": batch.id, "uploads": counts.total, "completed": counts.completed, "failed": counts.failed,
        "cancelled": counts.cancelled, "created_at": batch.created_at.to_string(),
    })
}

fn read<T: DeserializeOwned>(arguments: Value) -> Result<T, String> {
    serde_json::from_value(arguments).map_err(|error| format!("the arguments cannot be read: {error}"))
}

fn text(value: &impl Serialize) -> Result<ContentBlock, String> {
    serde_json::to_string(value).map(ContentBlock::text).map_err(|error| error.to_string())
}

/// The tools, with the schemas of their arguments.
fn tools() -> Vec<Tool> {
    let id = json!({"type": "string", "format": "uuid", "description": "Id of an upload"});
    let limit = json!({
        "type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": default_limit(),
        "description": "Most results",
    });
    let tool = |name: &'static str, description: &'static str, required: &[&str], properties: Value| {
        let schema = json!({"type": "object", "required": required, "properties": properties});
        let schema = Arc::new(schema.as_object().cloned().unwrap_or_default());
        Tool::new(name, description, schema).with_annotations(ToolAnnotations::new().read_only(true))
    };
    vec![
        tool(
            "search",
            "Finds pictures and videos whose descriptions are nearest in meaning to the words, the nearest first",
            &["words"],
            json!({"words": {"type": "string", "minLength": 1, "description": "Words to search for"},
                "limit": limit}),
        ),
        tool(
            "get",
            "Tells all about one picture or video: description, objects, facts, path",
            &["id"],
            json!({"id": id}),
        ),
        tool(
            "list",
            "Lists batches, the newest first; with `batch` the pictures and videos of that batch in order",
            &[],
            json!({"batch": {"type": "string", "format": "uuid", "description": "Id of a batch"},
                "offset": {"type": "integer", "minimum": 0, "default": 0, "description": "Number to skip"},
                "limit": limit}),
        ),
        tool(
            "picture",
            "Shows one picture, or a frame of a video, as a JPEG of at most 256 x 256 pixels",
            &["id"],
            json!({"id": id}),
        ),
    ]
}

impl ServerHandler for Library {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
            .with_server_info(Implementation::new("mediamill", env!("CARGO_PKG_VERSION")))
            .with_instructions(INSTRUCTIONS)
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        Ok(ListToolsResult::with_all_items(tools()))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let arguments = Value::Object(request.arguments.unwrap_or_default());
        let name: Cow<'_, str> = request.name;
        let result = match self.call(&name, arguments).await {
            Ok(content) => CallToolResult::success(content),
            Err(sentence) => CallToolResult::error(vec![ContentBlock::text(sentence)]),
        };
        Ok(result.into())
    }
}
