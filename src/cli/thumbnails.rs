//! The paths of thumbnails: the only place of the command line that looks into the files of the engine.

use std::path::PathBuf;

use mediamill_actors::{config::Config, files::Files, id::UploadId, upload::FileKey};

/// The path of the thumbnail of an upload.
pub(super) fn path(files: &Files, id: UploadId) -> PathBuf {
    files.local_path(&FileKey::thumbnail(id))
}

/// The uploads whose thumbnail does not exist.
pub(super) fn missing(config: &Config, ids: &[UploadId]) -> Vec<String> {
    let files = Files::new(&config.store.data_dir);
    ids.iter().filter(|id| !path(&files, **id).exists()).map(UploadId::to_string).collect()
}
