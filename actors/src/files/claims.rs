//! Claims on the files of an upload, so that a delete leaves nothing behind: the job of a
//! thumbnail cannot be aborted, and may write its file after the others were removed.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;

use crate::id::UploadId;

/// The number of jobs that write files of an upload, and whether its files were removed
/// meanwhile.
#[derive(Debug, Default, Clone, Copy)]
struct Claimed {
    jobs: usize,
    removed: bool,
}

/// All claims of a data folder in this process.
#[derive(Debug, Clone, Default)]
pub(super) struct Claims(Arc<Mutex<HashMap<UploadId, Claimed>>>);

/// A job that writes files of an upload.
#[derive(Debug)]
pub(crate) struct Claim {
    claims: Claims,
    id: UploadId,
}

impl Claims {
    pub(super) fn claim(&self, id: UploadId) -> Claim {
        self.0.lock().entry(id).or_default().jobs += 1;
        Claim { claims: self.clone(), id }
    }

    /// Notes that the files of an upload were removed.
    pub(super) fn note_removed(&self, id: UploadId) {
        if let Some(claimed) = self.0.lock().get_mut(&id) {
            claimed.removed = true;
        }
    }
}

impl Claim {
    /// Whether the files of the upload were removed since the claim.
    pub(crate) fn is_removed(&self) -> bool {
        self.claims.0.lock().get(&self.id).is_some_and(|it| it.removed)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut claims = self.claims.0.lock();
        if let Some(claimed) = claims.get_mut(&self.id) {
            claimed.jobs -= 1;
            if claimed.jobs == 0 {
                claims.remove(&self.id);
            }
        }
    }
}
