//! `mediamill status`: what runs, what waits, and where.

use jiff::Timestamp;
use mediamill::Config;
use serde::Deserialize;

use super::{
    Shared,
    client::Client,
    link::{About, Role, Situation},
    list::{Out, json},
    place::Asked,
    terminal::{self, counted, from_home, number},
};

/// Most folders that are listed.
const MAX_FOLDERS: usize = 20;

/// The arguments of `status`.
#[derive(Debug, clap::Args)]
pub(crate) struct Status {
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// The status as the API gives it.
#[derive(Debug, Deserialize)]
struct Remote {
    user_id: String,
    provider: Provider,
    waiting_uploads: Option<usize>,
    active_uploads: Option<usize>,
}

#[derive(Debug, Deserialize)]
struct Provider {
    kind: String,
    vision_model: String,
    state: String,
    message: Option<String>,
}

impl Status {
    pub(crate) async fn run(self, config: &Config, shared: &Shared) -> Result<u8, String> {
        let asked = shared.ask(config).await?;
        let printed = if asked.client.is_local() {
            self.print(&asked, config, shared).await
        } else {
            self.print_server(&asked.client).await
        };
        asked.done().await;
        printed.map(|()| 0)
    }

    async fn print(&self, asked: &Asked, config: &Config, shared: &Shared) -> Result<(), String> {
        let situation: Situation = asked.client.get("local/status", &[]).await?;
        let mut out = Out::default();
        if self.json {
            let object = serde_json::json!({ "running": asked.about, "situation": situation });
            return out.print(&json(&object)?);
        }
        match &asked.about {
            Some(about) => out.print(&running(about))?,
            None => out.print("no mediamill is running")?,
        }
        out.print(&format!("data folder  {}", from_home(&config.engine.store.data_dir)))?;
        if let Some(about) = &asked.about {
            let model = about.vision_model.as_ref().map(|it| format!(" with {it}")).unwrap_or_default();
            let state = match (&situation.provider, situation.is_starting) {
                (Some(trouble), _) => trouble.clone(),
                (None, true) => "starting".to_owned(),
                (None, false) => "ready".to_owned(),
            };
            out.print(&format!("provider     {}{model}: {state}", about.provider))?;
        }
        let mut described = format!("{} described", number(situation.completed.into()));
        for (count, what) in [(situation.needs_review, "to be reviewed"), (situation.failed, "failed")] {
            if count > 0 {
                described.push_str(&format!(", {} {what}", number(count.into())));
            }
        }
        out.print(&format!("uploads      {described}"))?;
        let unfinished: usize = situation.waits.iter().map(|it| it.uploads).sum();
        out.print(&match (unfinished, situation.active) {
            (0, _) => "queue        empty".to_owned(),
            (waits, 0) => format!("queue        {} unfinished", number(waits as u64)),
            (waits, active) => {
                format!("queue        {} unfinished, {active} of them in work", number(waits as u64))
            }
        })?;
        let mut waits = situation.waits;
        waits.sort_by_key(|it| std::cmp::Reverse(it.uploads));
        for waits in waits.iter().take(MAX_FOLDERS) {
            let folder = waits
                .folder
                .as_ref()
                .map_or_else(|| "(sent to the server)".to_owned(), |it| from_home(&it.0));
            let paused = match waits.paused {
                0 => String::new(),
                all if all == waits.uploads => " (paused)".to_owned(),
                some => format!(" ({} paused)", number(some as u64)),
            };
            out.print(&format!("  {:>9}  {folder}{paused}", number(waits.uploads as u64)))?;
        }
        if waits.len() > MAX_FOLDERS {
            out.print(&format!(
                "             and {} more",
                counted(waits.len() - MAX_FOLDERS, "folder", "folders")
            ))?;
        }
        let options = &shared.options;
        if situation.failed > 0 {
            out.print(&format!(
                "\n`mediamill{options} list --failed` names the failures, `retry` tries them again"
            ))?;
        }
        if unfinished > 0 && asked.is_idle() {
            out.print(&format!("\n`mediamill{options} resume` goes on with the queue"))?;
        }
        Ok(())
    }

    async fn print_server(&self, client: &Client) -> Result<(), String> {
        let mut out = Out::default();
        if self.json {
            let status: serde_json::Value = client.get("api/v1/status", &[]).await?;
            return out.print(&json(&status)?);
        }
        let Remote { user_id, provider, waiting_uploads, active_uploads } =
            client.get("api/v1/status", &[]).await?;
        let state = provider.message.unwrap_or(provider.state);
        out.print(&format!("{}, as owner {}", client.name(), terminal::one_line(&user_id)))?;
        out.print(&format!("provider     {} with {}: {state}", provider.kind, provider.vision_model))?;
        if let (Some(waiting), Some(active)) = (waiting_uploads, active_uploads) {
            out.print(&format!(
                "queue        {} waiting, {} in work",
                number(waiting as u64),
                number(active as u64)
            ))?;
        }
        Ok(())
    }
}

/// The program that holds the folder, in a line.
fn running(about: &About) -> String {
    let command = match about.role {
        Role::Serve => "mediamill serve",
        Role::Process => "mediamill process",
        Role::Command => "mediamill",
    };
    let at = about.address.as_ref().map(|it| format!(" at {it}")).unwrap_or_default();
    let since = terminal::moment(about.since.min(Timestamp::now()));
    format!("{command} runs{at} since {since} (process {})", about.pid)
}
