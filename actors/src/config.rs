//! The engine's configuration: one value, checked before the engine starts. Every section and key has a
//! default.

mod address;
pub(crate) mod known_models;
mod provider;

use std::{num::NonZeroU32, path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

pub use self::provider::{Provider, ProviderKind};
pub(crate) use self::provider::{ProviderSettings, ServerSettings};
use crate::media;

/// The whole configuration of an engine.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where state is kept.
    pub store: Store,
    /// The provider, which describes and embeds.
    pub provider: Provider,
    /// How many uploads are in progress at once.
    pub workers: Workers,
    /// How often progress is read.
    pub monitor: Monitor,
    /// Retention of events.
    pub events: Events,
    /// Which files become uploads.
    pub intake: Intake,
    /// Size of the pictures that the provider gets.
    pub vision: Vision,
    /// Limits on files, memory and the queue.
    pub limits: Limits,
}

/// Section `store`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Store {
    /// Folder of the store, the thumbnails and the stored originals. Empty is invalid: a host must set it;
    /// the program sets the platform's data folder.
    pub data_dir: PathBuf,
    /// Size of sled's cache in MiB, 8 to 65536. sled may use about three times as much memory.
    pub cache_mb: u64,
}

/// Section `workers`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Workers {
    /// Uploads in progress at once, 1 to 4096. `None`: twice the number of processors, and at least two more
    /// than the descriptions in flight, so that pictures are prepared ahead; plus the uploads that wait while
    /// `provider.swap_batch` collects embeddings.
    pub concurrency: Option<NonZeroU32>,
}

/// Section `monitor`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Monitor {
    /// Time between two ticks, 10 ms to 1 min.
    #[serde(rename = "tick_ms", with = "millis")]
    pub tick: Duration,
    /// Whether a change in the store may trigger the next tick early.
    pub nudge: bool,
}

/// Section `events`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Events {
    /// Events kept for each owner, 100 to 1000000000. Some more may be kept.
    pub keep: u64,
}

/// Section `intake`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Intake {
    /// Whether the files in place of one shot become one upload: the still and the video of a Live Photo, a
    /// JPEG and its raw file.
    pub pairs: bool,
}

/// Section `vision`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Vision {
    /// Most pixels of a picture for the provider: four patches to 67108864.
    pub max_pixels: u64,
    /// Longest side of a picture for the provider, in pixels: two patches to 8192.
    pub max_side_px: u32,
    /// Side of a patch in pixels, 1 to 128. Both sides of a picture for the provider are a multiple of it,
    /// and at least twice as long.
    pub patch_px: u32,
}

/// Section `limits`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Most files of an uploaded batch, 1 to 1000000. Files in place have no such limit.
    pub max_batch_files: u32,
    /// Most bytes of an uploaded batch, 1 to 2^50.
    pub max_batch_bytes: u64,
    /// Largest image file in bytes, 1 to 2^32.
    pub max_file_bytes: u64,
    /// Largest video file in bytes, 1 to 2^40.
    pub max_video_bytes: u64,
    /// How long the server keeps a resumable upload that gets no more bytes, 1 min to 1 year.
    #[serde(rename = "resumable_ms", with = "millis")]
    pub resumable: Duration,
    /// Most pixels of a picture, 1 to 1000000000.
    pub max_pixels: u64,
    /// Longest side of a picture in pixels, 1 to 65535.
    pub max_side_px: u32,
    /// Memory that all decodes share, in MiB: 16 to 1048576.
    pub decode_memory_mb: u64,
    /// Most of that memory for reading one video, in MiB: 96 to 1048576. 8K needs about 640.
    pub video_memory_mb: u64,
    /// Longest time for reading one video, 1 s to 24 h.
    #[serde(rename = "video_timeout_ms", with = "millis")]
    pub video_timeout: Duration,
    /// How often the process may die while an upload is the only one in progress, before that upload fails;
    /// 0: no limit.
    pub max_interruptions: u32,
    /// Most waiting uploads, 1 to 100000000. Those of paused batches count against their owner alone.
    pub max_queued_uploads: u64,
    /// Percentage of `max_queued_uploads` that each owner may have even if the queue is full, 0 to 100.
    pub queue_share_percent: u64,
    /// Most batches that an owner may have, ended ones included; 0: no limit.
    pub owner_batches: u64,
    /// Most bytes of uploaded files that an owner may have; 0: no limit.
    pub owner_bytes: u64,
    /// Free disk space in MiB below which no file is accepted; 0: no limit.
    pub min_free_disk_mb: u64,
}

impl Default for Store {
    fn default() -> Self {
        Self { data_dir: PathBuf::new(), cache_mb: 64 }
    }
}

impl Default for Monitor {
    fn default() -> Self {
        Self { tick: Duration::from_millis(300), nudge: true }
    }
}

impl Default for Intake {
    fn default() -> Self {
        Self { pairs: true }
    }
}

impl Default for Events {
    fn default() -> Self {
        Self { keep: 100_000 }
    }
}

impl Default for Vision {
    fn default() -> Self {
        Self { max_pixels: 1_003_520, max_side_px: 1568, patch_px: 28 }
    }
}

impl Default for Limits {
    fn default() -> Self {
        let media = media::Limits::DEFAULT;
        Self {
            max_batch_files: 1000,
            max_batch_bytes: 10 << 30,
            max_file_bytes: media.max_image_bytes,
            max_video_bytes: media.max_video_bytes,
            resumable: Duration::from_secs(24 * 3600),
            max_pixels: media.max_pixels,
            max_side_px: media.max_side_px,
            decode_memory_mb: media.decode_memory >> 20,
            video_memory_mb: media.video_memory >> 20,
            video_timeout: media.video_timeout,
            max_interruptions: 3,
            max_queued_uploads: 1_000_000,
            queue_share_percent: 1,
            owner_batches: 0,
            owner_bytes: 0,
            min_free_disk_mb: 256,
        }
    }
}

impl Config {
    /// Checks every value.
    ///
    /// # Errors
    /// A sentence that names the first key whose value is out of its range, and the range.
    pub fn validate(&self) -> Result<(), String> {
        if self.store.data_dir.as_os_str().is_empty() {
            return Err("store.data_dir is empty, but must name the folder for all state".into());
        }
        within("store.cache_mb", self.store.cache_mb, 8, 65_536)?;
        self.provider.validate()?;
        if let Some(concurrency) = self.workers.concurrency {
            within("workers.concurrency", concurrency.get(), 1, 4096)?;
        }
        within("monitor.tick_ms", millis_of(self.monitor.tick), 10, 60_000)?;
        within("events.keep", self.events.keep, 100, 1_000_000_000)?;
        within("vision.patch_px", self.vision.patch_px, 1, 128)?;
        within("vision.max_side_px", self.vision.max_side_px, 2 * self.vision.patch_px, 8192)?;
        let four_patches = u64::from(2 * self.vision.patch_px).pow(2);
        within("vision.max_pixels", self.vision.max_pixels, four_patches, 67_108_864)?;
        within("limits.max_batch_files", self.limits.max_batch_files, 1, 1_000_000)?;
        within("limits.max_batch_bytes", self.limits.max_batch_bytes, 1, 1 << 50)?;
        within("limits.max_file_bytes", self.limits.max_file_bytes, 1, 4 << 30)?;
        within("limits.max_video_bytes", self.limits.max_video_bytes, 1, 1 << 40)?;
        within("limits.resumable_ms", millis_of(self.limits.resumable), 60_000, 365 * 86_400_000)?;
        within("limits.max_pixels", self.limits.max_pixels, 1, 1_000_000_000)?;
        within("limits.max_side_px", self.limits.max_side_px, 1, 65_535)?;
        within("limits.decode_memory_mb", self.limits.decode_memory_mb, 16, 1 << 20)?;
        within("limits.video_memory_mb", self.limits.video_memory_mb, 96, 1 << 20)?;
        within("limits.video_timeout_ms", millis_of(self.limits.video_timeout), 1000, 86_400_000)?;
        within("limits.queue_share_percent", self.limits.queue_share_percent, 0, 100)?;
        within("limits.max_queued_uploads", self.limits.max_queued_uploads, 1, 100_000_000)
    }
}

fn within<T: PartialOrd + std::fmt::Display>(key: &str, value: T, low: T, high: T) -> Result<(), String> {
    if value >= low && value <= high {
        Ok(())
    } else {
        Err(format!("{key} is {value}, but must be {low} to {high}"))
    }
}

/// Number of processors that this process may use, at least 1.
pub(crate) fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn millis_of(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Serializes a duration as a whole number of milliseconds.
mod millis {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        super::millis_of(*time).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        u64::deserialize(deserializer).map(Duration::from_millis)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        Config { store: Store { data_dir: "/data".into(), ..Store::default() }, ..Config::default() }
    }

    #[test]
    fn the_defaults_are_valid_with_a_data_folder() {
        assert_eq!(config().validate(), Ok(()));
        assert!(Config::default().validate().is_err_and(|text| text.contains("store.data_dir")));
    }

    #[test]
    fn a_value_out_of_range_is_refused_with_its_key() {
        let mut config = config();
        config.monitor.tick = Duration::from_millis(1);
        assert_eq!(config.validate(), Err("monitor.tick_ms is 1, but must be 10 to 60000".into()));
    }
}
