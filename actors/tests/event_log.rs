//! The event log of a store: read in pieces, forgotten when it is too long, damaged, and of an older format.

mod support;

use futures_util::future::join_all;
use mediamill_actors::{
    id::Owner,
    store::{Interest, Options, Scope},
};
use support::bare_store::{Bare, complete, dump, open, open_with, options, submit};

/// How many events of an owner are kept.
async fn kept(store: &Bare, owner: &Owner) -> u64 {
    let log = store.queries.events_from(owner.clone(), 0, 1).await.expect("the log");
    log.newest + 1 - log.oldest
}

#[actix_rt::test]
async fn an_event_that_is_damaged_is_passed_over() {
    let (folder, other, owner) =
        (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"), Owner::local());
    let store = open(&folder).await;
    let before = store.queries.newest();
    for _ in 0..3 {
        submit(&store, &owner, 1).await;
    }
    let damaged: String = dump(&store)
        .await
        .lines()
        .map(|line| match line.contains("\"tree\":\"events\"") && line.contains("\"seq\":2") {
            true => line.replace("batch_submitted", "nonsense") + "\n",
            false => line.to_owned() + "\n",
        })
        .collect();
    let restored = open(&other).await;
    restored.store.restore(damaged.as_bytes()).expect("restored");
    let queries = restored.queries.clone();
    let news = queries.changes_after(&before, Interest::Everyone, 100, None).await.expect("read");
    let seqs: Vec<u64> = news.changes.iter().map(|it| it.event.seq).collect();
    assert_eq!((seqs, queries.has_changes_after(&news.reached)), (vec![1, 3], false));
    let page = queries.events_from(owner.clone(), 1, 100).await.expect("read");
    assert_eq!((page.changes.len(), page.numbers), (2, 1..=3));
    drop(queries);
    restored.close().await;
    // Nor does it hold anything up when it is forgotten.
    let restored = open_with(&other, Options { keep_events: 100, ..options() }, Scope::All, 3).await;
    for _ in 0..120 {
        submit(&restored, &owner, 1).await;
    }
    let mut changes = restored.queries.watch();
    while kept(&restored, &owner).await > 100 {
        changes.changed().await.expect("open");
    }
    assert_eq!(restored.queries.broken(), None);
}

#[actix_rt::test]
async fn old_events_are_forgotten_once_there_is_time_for_it() {
    let (folder, owner) = (tempfile::tempdir().expect("a folder"), Owner::local());
    let store = open_with(&folder, Options { keep_events: 100, ..options() }, Scope::All, 3).await;
    submit(&store, &owner, 60).await;
    let mut kept_at_work = Vec::new();
    let begun = store.commands.begin_next(1).await.expect("begun");
    let mut last = begun.into_iter().next().expect("one");
    for _ in 1..60 {
        let next = store.commands.begin_next(1).await.expect("begun").into_iter().next().expect("one");
        complete(&store, &last).await.expect("written");
        kept_at_work.push(kept(&store, &owner).await);
        last = next;
    }
    // Events that were written together go together: the beginning of an attempt stands by itself, its description beside its end.
    let most = kept_at_work.iter().max().copied().expect("some");
    assert!((110..=112).contains(&most), "a tenth more while there is work: {kept_at_work:?}");
    let mut changes = store.queries.watch();
    complete(&store, &last).await.expect("written");
    while kept(&store, &owner).await > 101 {
        changes.changed().await.expect("open");
    }
    assert!(kept(&store, &owner).await >= 100);
    assert_eq!(store.queries.verify().await.expect("readable").faults, [""; 0]);
}

#[actix_rt::test]
async fn the_news_are_the_whole_log_in_pieces_of_any_size() {
    let folder = tempfile::tempdir().expect("a folder");
    let (one, other) = (Owner::local(), Owner::new("other").expect("valid"));
    let store = open(&folder).await;
    let before = store.queries.newest();
    // Written together, as they are asked for at once.
    join_all([&one, &one, &other, &one, &other, &other, &one].map(|owner| submit(&store, owner, 10))).await;
    let submitted = store.commands.begin_next(70).await.expect("begun");
    join_all(submitted.iter().map(|begun| complete(&store, begun))).await;
    let queries = store.queries.clone();
    let whole = queries.changes_after(&before, Interest::Everyone, 1000, None).await.expect("read").changes;
    assert_eq!(store.queries.verify().await.expect("readable").faults, [""; 0]);
    assert_eq!(whole.len(), 7 + 70 * 3, "each is submitted, begun, described and completed");
    let told = |owner: &Owner, seq: u64| (owner.clone(), seq);
    for wanted in [None, Some(&one), Some(&other)] {
        let expected: Vec<_> = whole
            .iter()
            .filter(|it| wanted.is_none_or(|owner| it.owner == *owner))
            .map(|it| told(&it.owner, it.event.seq))
            .collect();
        for most in [1, 2, 3, 5, 8, 13, 100] {
            let (mut cursor, mut heard, mut more) = (before.clone(), Vec::new(), true);
            while more {
                let interest = wanted.map_or(Interest::Everyone, |it| Interest::Owners([it.clone()].into()));
                let news = queries.changes_after(&cursor, interest, most, None).await.expect("read");
                assert!(news.changes.len() <= most);
                heard.extend(news.changes.iter().map(|it| told(&it.owner, it.event.seq)));
                (cursor, more) = (news.reached, news.more);
            }
            assert_eq!(heard, expected, "at most {most}");
            assert!(!queries.has_changes_after(&cursor), "at most {most}");
        }
    }
}

#[actix_rt::test]
async fn a_store_of_format_1_goes_on() {
    a_store_of_format_goes_on(1).await;
}

#[actix_rt::test]
async fn a_store_of_format_2_goes_on() {
    a_store_of_format_goes_on(2).await;
}

async fn a_store_of_format_goes_on(format: u8) {
    let (folder, other, owner) =
        (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"), Owner::local());
    let store = open(&folder).await;
    submit(&store, &owner, 3).await;
    let begun = store.commands.begin_next(2).await.expect("begun");
    complete(&store, &begun[0]).await.expect("written");
    let now = dump(&store).await;
    // Both had an entry for each event, as a dump does. The first one had that in `changes`, too, and in flight it was the record that told how
    // far an upload was.
    let mut before = String::new();
    for line in now.lines() {
        let mut line: serde_json::Value = serde_json::from_str(line).expect("JSON");
        let first: u64 = line["key"].as_str().expect("text").parse().unwrap_or_default();
        match line["tree"].as_str().expect("text") {
            "meta" if line["key"] == "format" => line["value"] = format.into(),
            _ if format > 1 => {}
            "changes" => {
                for n in 0..line["value"]["count"].as_u64().unwrap_or(1) {
                    let seq = line["value"]["seq"].as_u64().expect("a number") + n;
                    let value = serde_json::json!({ "owner": "local", "seq": seq });
                    let key = format!("{:020}", first + n);
                    before += &format!(
                        "{}\n",
                        serde_json::json!({ "tree": "changes", "key": key, "value": value })
                    );
                }
                continue;
            }
            "active" => drop(line["value"].as_object_mut().expect("an entry").remove("began_at")),
            "uploads" if line["value"]["position"] == 1 => {
                let record = &mut line["value"];
                record["status"] = "analyzing".into();
                record["attempt"] = 1.into();
                record["attempts"] =
                    serde_json::json!([{ "number": 1, "started_at": record["updated_at"].clone() }]);
            }
            _ => {}
        }
        before += &format!("{line}\n");
    }
    let restored = open(&other).await;
    restored.store.restore(before.as_bytes()).expect("restored");
    assert_eq!(restored.queries.verify().await.expect("readable").faults, [""; 0]);
    restored.close().await;
    let restored = open(&other).await;
    let recovered = restored.recovered;
    assert_eq!((recovered.interrupted, recovered.waiting), (1, 2));
    for _ in 0..2 {
        let begun = restored.commands.begin_next(1).await.expect("begun").into_iter().next().expect("one");
        assert_eq!(begun.token.attempt, if begun.upload.position == 1 { 2 } else { 1 });
        complete(&restored, &begun).await.expect("written");
    }
    let verified = restored.queries.verify().await.expect("readable");
    assert_eq!(verified.faults, [""; 0]);
    let log = restored.queries.events_from(owner, 1, 1000).await.expect("the log");
    let seqs: Vec<u64> = log.changes.iter().map(|it| it.event.seq).collect();
    assert_eq!(seqs, (1..=log.newest).collect::<Vec<_>>());
    assert!(dump(&restored).await.contains(r#""key":"format","value":4"#));
}
