//! The store on sled keeps every claim of the conformance suite.

mod conformance;
mod support;

use conformance::Backend;
use mediamill_actors::store::{Options, Store};
use tempfile::TempDir;

/// A folder with a store on sled.
struct SledFolder(TempDir);

impl Backend for SledFolder {
    fn empty() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    async fn open(&self, options: Options) -> Store {
        Store::open(self.0.path(), options).expect("the store opens")
    }
}

conformance::suite!(SledFolder);
