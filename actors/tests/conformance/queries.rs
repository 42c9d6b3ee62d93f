//! Queries about batches, uploads, paths, contents and vectors.

use mediamill_actors::{
    analysis::Identity,
    error::Error,
    id::{BatchId, UploadId},
    store::{FileStamp, Interest, NewUpload, QueueDepth},
    upload::{FileRef, PlacePath, Status},
};

use super::{Backend, Bench, begin, begin_one, fail_twice, is_sound, owner};
use crate::support::bare_store::{admit, batch, complete, description, dump, files, identity, submit};

pub async fn an_empty_store_has_nothing<B: Backend>(bench: &Bench<B>) {
    let (store, ann) = (bench.open().await, owner("ann"));
    let queries = &store.queries;
    assert_eq!(store.recovered, Default::default());
    assert_eq!((queries.queue_depth(), queries.broken()), (QueueDepth::default(), None));
    assert_eq!(queries.totals().await.expect("read").total, 0);
    assert!(queries.batches(ann.clone(), 0, 9).await.expect("read").is_empty());
    assert_eq!(queries.batch(ann.clone(), BatchId::generate()).await, Err(Error::NotFound("batch")));
    assert_eq!(queries.upload(ann.clone(), UploadId::generate()).await, Err(Error::NotFound("upload")));
    let uploads = queries.uploads(ann.clone(), BatchId::generate(), 0, 9).await;
    assert_eq!(uploads, Err(Error::NotFound("batch")));
    assert!(queries.unfinished(ann.clone()).await.expect("read").is_empty());
    let id = UploadId::generate();
    assert_eq!(queries.known(vec![id]).await, Ok(vec![(id, false)]));
    assert_eq!(queries.known(Vec::new()).await, Ok(Vec::new()));
    assert!(queries.at_paths(ann.clone(), Vec::new()).await.expect("read").is_empty());
    assert_eq!(
        queries.with_contents(ann.clone(), vec!["0".repeat(64), "nonsense".into()]).await,
        Ok(vec![None, None])
    );
    assert_eq!(queries.nearest(ann.clone(), identity(), vec![1.0, 0.0, 0.0], 9).await, Ok(Vec::new()));
    assert_eq!(queries.vector(ann.clone(), id, identity()).await, Ok(None));
    assert!(queries.removals().await.expect("read").is_empty());
    let known = Some(Default::default());
    let news = queries.changes_after(&queries.newest(), Interest::Everyone, 9, known).await.expect("read");
    assert!(news.changes.is_empty() && !news.more && news.in_flight.expect("asked").uploads.is_empty());
    let present = queries.owner_snapshot(ann, 9, Vec::new()).await.expect("read");
    assert!(present.batches.is_empty() && present.in_flight.is_empty() && present.newest == 0);
    is_sound(&store).await;
    assert!(begin(&store, 9).await.is_empty());
}

pub async fn owners_see_their_own<B: Backend>(bench: &Bench<B>) {
    let (store, ann, bob) = (bench.open().await, owner("ann"), owner("bob"));
    let submitted = submit(&store, &ann, 2).await;
    let begun = begin(&store, 1).await;
    complete(&store, &begun[0]).await.expect("completed");
    let (id, queries) = (submitted.uploads[0], &store.queries);
    assert_eq!(queries.batch(bob.clone(), submitted.batch_id).await, Err(Error::NotFound("batch")));
    assert_eq!(queries.upload(bob.clone(), id).await, Err(Error::NotFound("upload")));
    assert_eq!(queries.uploads(bob.clone(), submitted.batch_id, 0, 9).await, Err(Error::NotFound("batch")));
    assert!(queries.batches(bob.clone(), 0, 9).await.expect("read").is_empty());
    assert!(queries.unfinished(bob.clone()).await.expect("read").is_empty());
    assert_eq!(queries.vector(bob.clone(), id, identity()).await, Ok(None));
    assert_eq!(queries.nearest(bob.clone(), identity(), vec![1.0, 0.0, 0.0], 9).await, Ok(Vec::new()));
    let hash = files(1)[0].content_hash.clone();
    assert_eq!(queries.with_contents(bob.clone(), vec![hash.clone()]).await, Ok(vec![None]));
    assert_eq!(queries.events_from(bob.clone(), 1, 9).await.expect("read").newest, 0);
    assert!(queries.owner_snapshot(bob, 9, vec![id]).await.expect("read").uploads.is_empty());
    // An owner whose name begins like another's is another owner.
    assert!(queries.batches(owner("an"), 0, 9).await.expect("read").is_empty());
    assert!(queries.batches(owner("ann "), 0, 9).await.expect("read").is_empty());
    let unfinished = queries.unfinished(ann.clone()).await.expect("read");
    assert_eq!(unfinished, [(submitted.batch_id, submitted.uploads[1])]);
    assert_eq!(
        queries.known(submitted.uploads.clone()).await.expect("read"),
        submitted.uploads.iter().map(|id| (*id, true)).collect::<Vec<_>>()
    );
}

pub async fn batches_and_uploads_come_in_pages<B: Backend>(bench: &Bench<B>) {
    let (store, ann) = (bench.open().await, owner("ann"));
    let mut batches = Vec::new();
    for _ in 0..5 {
        batches.push(submit(&store, &ann, 3).await);
        submit(&store, &owner("bob"), 1).await;
    }
    let page = async |offset, limit| {
        let page = store.queries.batches(ann.clone(), offset, limit).await.expect("read");
        page.into_iter().map(|it| it.id).collect::<Vec<_>>()
    };
    let newest_first: Vec<_> = batches.iter().rev().map(|it| it.batch_id).collect();
    assert_eq!(page(0, 2).await, newest_first[..2]);
    assert_eq!(page(2, 9).await, newest_first[2..]);
    assert_eq!((page(5, 9).await.len(), page(0, 0).await.len()), (0, 0));
    let of = async |offset, limit| {
        let page =
            store.queries.uploads(ann.clone(), batches[1].batch_id, offset, limit).await.expect("read");
        page.into_iter().map(|it| it.id).collect::<Vec<_>>()
    };
    assert_eq!(
        (of(0, 2).await, of(2, 2).await),
        (batches[1].uploads[..2].to_vec(), batches[1].uploads[2..].to_vec())
    );
    assert!(of(3, 9).await.is_empty());
    let begun = begin(&store, 3).await;
    complete(&store, &begun[0]).await.expect("completed");
    fail_twice(&store, &begun[1]).await;
    store.commands.cancel(ann.clone(), batches[4].batch_id).await.expect("cancelled");
    let totals = store.queries.totals().await.expect("read");
    assert_eq!(
        (totals.total, totals.completed, totals.failed, totals.cancelled, totals.active),
        (20, 1, 1, 3, 1)
    );
    let depth = store.queries.queue_depth();
    assert_eq!((depth.waiting, depth.in_flight, depth.total(), depth.is_empty()), (14, 1, 15, false));
    let verified = store.queries.verify().await.expect("read");
    assert_eq!((verified.batches, verified.uploads["pending"], verified.uploads["completed"]), (10, 14, 1));
}

pub async fn uploads_are_found_by_path_and_by_content<B: Backend>(bench: &Bench<B>) {
    let (store, ann) = (bench.open().await, owner("ann"));
    let stamp = |path: &str| FileStamp { path: PlacePath::new(path), size: 70, modified_ns: 5 };
    let mut new = files(2);
    for (upload, path) in new.iter_mut().zip(["/a", "/b"]) {
        *upload = NewUpload {
            id: upload.id,
            file: FileRef::in_place(PlacePath::new(path)),
            stamp: Some(stamp(path)),
            ..std::mem::replace(upload, files(1).remove(0))
        };
    }
    let hashes: Vec<String> = new.iter().map(|it| it.content_hash.clone()).collect();
    let uploads = admit(&store, batch(&ann, new)).await.uploads;
    let changed = FileStamp { size: 71, ..stamp("/b") };
    let later = FileStamp { modified_ns: 6, ..stamp("/b") };
    let asked = vec![stamp("/b"), stamp("/c"), changed, later, stamp("/a")];
    let found = store.queries.at_paths(ann.clone(), asked).await.expect("read");
    let found: Vec<_> = found.into_iter().map(|it| it.map(|it| (it.upload.id, it.unchanged))).collect();
    let b = |unchanged| Some((uploads[1], unchanged));
    assert_eq!(found, [b(true), None, b(false), b(false), Some((uploads[0], true))]);
    let of_bob = store.queries.at_paths(owner("bob"), vec![stamp("/a")]).await.expect("read");
    assert!(of_bob[0].is_none());

    let contents = async || {
        let found = store.queries.with_contents(ann.clone(), hashes.clone()).await.expect("read");
        found.into_iter().map(|it| it.map(|it| (it.id, it.status))).collect::<Vec<_>>()
    };
    assert_eq!(contents().await, [None, None], "none has completed");
    complete(&store, &begin_one(&store).await).await.expect("completed");
    fail_twice(&store, &begin_one(&store).await).await;
    assert_eq!(contents().await, [Some((uploads[0], Status::Completed)), None]);
    store.commands.delete(ann.clone(), uploads[0]).await.expect("deleted");
    assert_eq!(contents().await, [None, None]);
}

pub async fn the_nearest_vectors_are_found<B: Backend>(bench: &Bench<B>) {
    let (store, ann) = (bench.open().await, owner("ann"));
    submit(&store, &ann, 3).await;
    let long = Identity { embedding_model: "long".into(), dimensions: 5000, ..identity() };
    let begun = begin(&store, 3).await;
    let vectors = [vec![1.0, 0.0, 0.0], vec![0.0, 1.0, 0.0], vec![0.25; 5000]];
    for ((begun, vector), by) in begun.iter().zip(vectors.clone()).zip([identity(), identity(), long.clone()])
    {
        let token = || begun.token.clone();
        let described = store.commands.record_description(token(), description(&store), Vec::new(), 5);
        described.await.expect("recorded");
        store.commands.complete(token(), vector, by, None, 5).await.expect("completed");
    }
    let nearest = async |by: Identity, query: Vec<f32>, limit| {
        let hits = store.queries.nearest(ann.clone(), by, query, limit).await.expect("read");
        hits.into_iter().map(|(upload, score)| (upload.id, (score * 100.0).round())).collect::<Vec<_>>()
    };
    let id = |at: usize| begun[at].token.upload;
    assert_eq!(nearest(identity(), vec![0.6, 0.8, 0.0], 9).await, [(id(1), 80.0), (id(0), 60.0)]);
    assert_eq!(nearest(identity(), vec![0.6, 0.8, 0.0], 1).await, [(id(1), 80.0)]);
    assert_eq!(nearest(identity(), vec![0.6, 0.8, 0.0], 0).await, []);
    assert_eq!(nearest(long.clone(), vec![1.0; 5000], 9).await, [(id(2), 100.0)], "each model has a space");
    let vector = async |at: usize, by: &Identity| store.queries.vector(ann.clone(), id(at), by.clone()).await;
    assert_eq!(vector(0, &identity()).await, Ok(Some(vectors[0].clone())));
    assert_eq!(vector(2, &long).await, Ok(Some(vectors[2].clone())));
    assert_eq!(vector(0, &long).await, Ok(None), "another model made it");
    store.commands.delete(ann.clone(), id(1)).await.expect("deleted");
    assert_eq!(nearest(identity(), vec![0.6, 0.8, 0.0], 9).await, [(id(0), 60.0)]);
    assert_eq!(vector(1, &identity()).await, Ok(None));
    is_sound(&store).await;
}

pub async fn a_dump_restores_the_store<B: Backend>(bench: &Bench<B>) {
    let (store, ann) = (bench.open().await, owner("ann"));
    submit(&store, &ann, 3).await;
    let begun = begin(&store, 2).await;
    complete(&store, &begun[0]).await.expect("completed");
    let before = dump(&store).await;
    let answer = store.store.restore(before.as_bytes());
    assert!(matches!(answer, Err(Error::Conflict(_))), "it is not empty: {answer:?}");

    let other = bench.another();
    let restored = other.open_store(100_000).await;
    let empty = restored.queries().dump(Vec::new()).await.expect("a dump");
    let broken = format!("{before}{{\"tree\":\"uploads\"}}\n");
    let line = before.lines().count() + 1;
    let answer = restored.restore(broken.as_bytes());
    assert_eq!(answer, Err(Error::Invalid(format!("line {line} is not of a dump"))));
    assert!(restored.queries().dump(Vec::new()).await.expect("a dump") == empty, "wholly or not at all");

    assert_eq!(restored.restore(before.as_bytes()), Ok(before.lines().count() as u64 - 2));
    let after = restored.queries().dump(Vec::new()).await.expect("a dump");
    assert_eq!(String::from_utf8(after).expect("text"), before);
    restored.close().await;
    let reopened = other.open().await;
    assert_eq!((reopened.recovered.interrupted, reopened.recovered.waiting), (1, 2));
    complete(&reopened, &begin_one(&reopened).await).await.expect("completed");
    is_sound(&reopened).await;
}
