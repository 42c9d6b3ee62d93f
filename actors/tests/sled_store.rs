//! What is sled's alone: a folder that is locked, shorter than it was, or half restored.

mod support;

use mediamill_actors::{
    error::Error,
    id::Owner,
    store::{CommandError, OpenError, Store},
};
use support::bare_store::{batch, complete, dump, files, open, options, submit};

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

#[actix_rt::test]
async fn a_folder_that_is_deleted_while_it_is_used_takes_no_more_work() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(&folder).await;
    submit(&store, &Owner::local(), 1).await;
    std::fs::remove_dir_all(folder.path().join("store")).expect("removed");
    let lost = store.commands.admit(batch(&Owner::local(), files(1)), 9).await;
    let Err(CommandError::Unknown(sentence)) = lost else { unreachable!("{lost:?}") };
    assert!(sentence.contains("was deleted while"), "{sentence}");
    assert!(store.queries.broken().is_some());
}

#[actix_rt::test]
async fn the_high_water_mark_is_that_of_the_last_commit() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(&folder).await;
    for _ in 0..3 {
        submit(&store, &Owner::local(), 1).await;
        let log = store.queries.events_from(Owner::local(), 1, 9).await.expect("the log");
        let mark = std::fs::read_to_string(folder.path().join("HIGHWATER")).expect("a mark");
        assert_eq!(mark.trim().parse(), Ok(log.newest), "the process may die now");
    }
}

/// The answer to restoring a dump into a new store.
async fn restored(dump: &str) -> Result<u64, Error> {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::open(folder.path(), options()).expect("the store opens");
    let answer = store.restore(dump.as_bytes());
    store.close().await;
    answer
}

#[actix_rt::test]
async fn a_dump_that_was_cut_or_patched_is_refused_and_an_old_one_is_not() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(&folder).await;
    submit(&store, &Owner::local(), 3).await;
    let whole = dump(&store).await;
    let lines: Vec<&str> = whole.lines().collect();
    let inner = lines.len() as u64 - 2;
    assert_eq!(restored(&whole).await, Ok(inner));
    let old = lines[1..lines.len() - 1].join("\n");
    assert_eq!(restored(&old).await, Ok(inner), "older versions wrote no frame");
    let refused = async |dump: String, part: &str| {
        let refused = restored(&dump).await;
        assert!(matches!(&refused, Err(Error::Invalid(text)) if text.contains(part)), "{refused:?}");
    };
    for end in 1..lines.len() {
        refused(lines[..end].join("\n"), "cut short").await;
    }
    for left_out in 1..lines.len() - 1 {
        let mut fewer = lines.clone();
        fewer.remove(left_out);
        refused(fewer.join("\n"), "entries").await;
    }
    refused(format!("{whole}{whole}"), "not of a dump").await;
}

#[actix_rt::test]
async fn a_number_of_events_that_cannot_be_is_refused_at_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(&folder).await;
    submit(&store, &Owner::local(), 1).await;
    let whole = dump(&store).await;
    let change = whole.lines().find(|it| it.contains(r#""tree":"changes""#)).expect("a change");
    for count in [u64::MAX, 1 << 40, 5000] {
        let hostile = change.replace("}}", &format!(r#","count":{count}}}}}"#));
        let refused = restored(&whole.replace(change, &hostile)).await;
        assert!(matches!(&refused, Err(Error::Invalid(text)) if text.contains("events")), "{refused:?}");
    }
    // A smaller one is found by the verification.
    let (folder, hostile) =
        (tempfile::tempdir().expect("a folder"), change.replace("}}", r#","count":999}}"#));
    let store = Store::open(folder.path(), options()).expect("the store opens");
    store.restore(whole.replace(change, &hostile).as_bytes()).expect("restored");
    assert!(store.queries().verify().await.expect("readable").fault_count > 0);
}

#[actix_rt::test]
async fn an_event_that_cannot_be_read_is_a_fault_among_others() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(&folder).await;
    submit(&store, &Owner::local(), 1).await;
    submit(&store, &Owner::local(), 1).await;
    let damaged = dump(&store).await.replace("batch_submitted", "batch_sub");
    let other = tempfile::tempdir().expect("a folder");
    let store = Store::open(other.path(), options()).expect("the store opens");
    store.restore(damaged.as_bytes()).expect("restored");
    let found = store.queries().verify().await.expect("it goes on");
    assert_eq!((found.fault_count, found.batches, found.events), (2, 2, 2), "{:?}", found.faults);
    assert!(found.faults.iter().all(|it| it.contains("cannot be read")), "{:?}", found.faults);
}

#[actix_rt::test]
async fn a_sound_store_is_salvaged_whole() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(&folder).await;
    submit(&store, &Owner::local(), 400).await;
    for begun in store.commands.begin_next(100).await.expect("begun") {
        complete(&store, &begun).await.expect("completed");
    }
    let (salvaged, lost) = store.queries.salvage(Vec::new()).await.expect("salvaged");
    assert_eq!(lost, [""; 0]);
    assert!(String::from_utf8(salvaged).expect("text") == dump(&store).await);
}
