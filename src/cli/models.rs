//! `mediamill models pull`: fetches the models of the configured provider. No other command does.

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use mediamill_actors::{analysis::PullProgress, config::Config, pipeline, text};

use super::{Interrupt, check::PATIENCE};

/// The subcommands of `models`.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Models {
    /// Makes the model server fetch the configured models that it lacks
    Pull {
        /// Fetch this model instead
        model: Option<String>,
    },
}

impl Models {
    /// Runs the command and returns its exit code.
    pub(crate) async fn run(self, config: &Config, bars: &MultiProgress) -> Result<u8, String> {
        let Self::Pull { model } = self;
        let provider = pipeline::connect(config).map_err(|error| error.to_string())?;
        let wanted = match model {
            Some(model) => vec![model],
            None => {
                let report = tokio::time::timeout(PATIENCE, provider.report()).await.map_err(|_| {
                    format!(
                        "the model server did not answer within {} s; check whether it hangs",
                        PATIENCE.as_secs()
                    )
                })?;
                if let Some(problem) = report.servers.iter().find_map(|server| server.problem.clone()) {
                    return Err(problem);
                }
                let missing = report.models.into_iter().filter(|model| model.installed == Some(false));
                missing.map(|model| model.name).collect()
            }
        };
        if wanted.is_empty() {
            println!("no model is missing");
            return Ok(0);
        }
        let mut interrupt = Interrupt::listen();
        for model in wanted {
            let bar = bars.add(ProgressBar::no_length());
            let style = ProgressStyle::with_template("{bar:32} {bytes}/{total_bytes} {bytes_per_sec} {msg}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            let mut show = |progress: PullProgress| {
                bar.set_length(progress.total_bytes);
                bar.set_position(progress.completed_bytes);
                bar.set_message(text::one_line(&progress.status).into_owned());
            };
            let pulled = tokio::select! {
                pulled = provider.pull(&model, &mut show) => pulled,
                () = interrupt.wait() => return Ok(130),
            };
            bar.finish_and_clear();
            pulled.map_err(|error| error.message().to_owned())?;
            println!("{} is available", text::one_line(&model));
        }
        Ok(0)
    }
}
