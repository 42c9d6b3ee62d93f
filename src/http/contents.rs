//! The bytes of uploads: the only place of the server that opens files of the engine.

use std::{
    fs::File,
    io::{self, Read as _},
};

use mediamill_actors::{
    media::SNIFF_BYTES,
    upload::{FileKey, Upload},
};

use super::{Inner, error::Problem};

/// Opens the thumbnail of an upload.
pub(super) async fn thumbnail(inner: &Inner, upload: &Upload) -> Result<File, Problem> {
    let opened = inner.files.open(&FileKey::thumbnail(upload.id)).await;
    opened.map(|it| it.file).map_err(|_| Problem::not_found("thumbnail any more"))
}

/// Opens the original of an upload. A file in place must still have the length and the format that it was
/// submitted with.
pub(super) async fn original(inner: &Inner, upload: &Upload) -> Result<File, Problem> {
    let opened = inner.files.open_original(upload).await;
    let opened = opened.map_err(|_| Problem::not_found("file any more where it was submitted"))?;
    unchanged(opened.file, upload).await
}

async fn blocking<T: Send + 'static>(job: impl FnOnce() -> T + Send + 'static) -> Result<T, Problem> {
    actix_rt::task::spawn_blocking(job).await.map_err(|_| Problem::internal("reading a file panicked"))
}

async fn unchanged(file: File, upload: &Upload) -> Result<File, Problem> {
    let (length, format) = (upload.file_size, upload.format);
    let check = move || -> io::Result<Option<File>> {
        let mut head = Vec::with_capacity(SNIFF_BYTES);
        (&file).take(SNIFF_BYTES as u64).read_to_end(&mut head)?;
        let same = file.metadata()?.len() == length && format.fits(&head);
        Ok(same.then_some(file))
    };
    match blocking(check).await? {
        Ok(Some(file)) => Ok(file),
        Ok(None) => Err(Problem::conflict(format!(
            "{} changed since it was submitted; submit it again to see it",
            upload.file_name
        ))),
        Err(error) => Err(Problem::internal(format!("cannot read {}: {error}", upload.file_name))),
    }
}
