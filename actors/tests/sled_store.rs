//! What is sled's alone: a folder that is locked, shorter than it was, or half restored.

mod support;

use mediamill_actors::{
    error::Error,
    id::Owner,
    store::{OpenError, Store},
};
use support::bare_store::{dump, open, options, submit};

#[actix_rt::test]
async fn a_second_process_and_a_store_cut_short_are_told_what_to_do() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(&folder).await;
    submit(&store, &Owner::local(), 1).await;
    let second = Store::open(folder.path(), options()).err();
    assert!(matches!(second, Some(OpenError::Locked { .. })), "{second:?}");
    store.close().await;
    std::fs::write(folder.path().join("HIGHWATER"), "99\n").expect("written");
    let shorter = Store::open(folder.path(), options()).err();
    assert!(matches!(shorter, Some(OpenError::Shorter { found: 1, known: 99, .. })), "{shorter:?}");
}

#[actix_rt::test]
async fn a_store_whose_last_threads_still_end_is_waited_for_and_one_that_is_held_is_called_locked() {
    let folder = tempfile::tempdir().expect("a folder");
    open(&folder).await.close().await;
    // As sled's own threads do, for some milliseconds after the last handle is gone.
    let held = std::fs::File::open(folder.path().join("store/db")).expect("a store");
    held.lock().expect("locked");
    let locked = Store::open(folder.path(), options()).err();
    assert!(matches!(locked, Some(OpenError::Locked { .. })), "{locked:?}");
    let ends = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(100));
        drop(held);
    });
    drop(open(&folder).await);
    ends.join().expect("it ends");
}

#[actix_rt::test]
async fn a_dump_of_an_unknown_format_is_refused_and_leaves_the_store_empty() {
    let (folder, other) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let store = open(&folder).await;
    submit(&store, &Owner::local(), 1).await;
    let later = dump(&store).await.replace(r#""key":"format","value":4"#, r#""key":"format","value":99"#);
    let restored = Store::open(other.path(), options()).expect("the store opens");
    let refused = restored.restore(later.as_bytes());
    assert!(matches!(&refused, Err(Error::Invalid(text)) if text.contains("format 99")), "{refused:?}");
    restored.close().await;
    let again = Store::open(other.path(), options()).expect("the store opens");
    assert!(again.queries().batches(Owner::local(), 0, 9).await.expect("read").is_empty());
}

/// A dump that ends the process in its middle.
struct CutShort<'a>(&'a [u8]);

impl std::io::Read for CutShort<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        match self.0.read(buffer)? {
            0 => unreachable!("it was told to panic"),
            read => Ok(read),
        }
    }
}

#[actix_rt::test]
async fn a_store_whose_restoring_was_cut_short_is_not_opened() {
    let (folder, other) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let store = open(&folder).await;
    submit(&store, &Owner::local(), 3).await;
    let whole = dump(&store).await;

    let restored = Store::open(other.path(), options()).expect("the store opens");
    let dies = std::panic::AssertUnwindSafe(|| {
        restored.restore(std::io::BufReader::new(CutShort(whole.as_bytes())))
    });
    std::panic::catch_unwind(dies).expect_err("it dies");
    restored.close().await;
    let refused = Store::open(other.path(), options()).err();
    assert!(matches!(refused, Some(OpenError::HalfRestored { .. })), "{refused:?}");

    std::fs::remove_dir_all(other.path().join("store")).expect("removed");
    let restored = Store::open(other.path(), options()).expect("the store opens");
    restored.restore(whole.as_bytes()).expect("restored");
    let after = restored.queries().dump(Vec::new()).await.expect("a dump");
    assert_eq!(String::from_utf8(after).expect("text"), whole);
}
