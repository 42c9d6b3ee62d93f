//! The files of one shot are one upload with a companion: Live Photos and raw files beside their JPEG, over
//! later runs too, while files are added, deleted and edited. On a paused clock.

#[path = "support/pictures.rs"]
mod pictures;
#[path = "support/raws.rs"]
mod raws;
mod support;

use std::fs;

use mediamill_actors::{
    batch_supervisor::{DeleteUpload, SubmitBatch, Submitted},
    id::UploadId,
    intake::{Admission, Source},
    upload::Status,
};
use support::World;

/// The time of most stills here, and of the raw files.
const TAKEN: &[u8] = b"2019:05:04 10:11:12\0";

/// EXIF with a time, and Apple's note with an identifier.
fn exif(taken: &[u8], identifier: Option<&str>) -> Vec<u8> {
    let mut exif = b"II*\0\x08\0\0\0".to_vec();
    let entry = |tag: u16, kind: u16, count: usize, at: usize| {
        [
            &tag.to_le_bytes()[..],
            &kind.to_le_bytes(),
            &(count as u32).to_le_bytes(),
            &(at as u32).to_le_bytes(),
        ]
        .concat()
    };
    // The main directory, then that of the photo with two entries, then their values.
    exif.extend([&[1, 0][..], &entry(0x8769, 4, 1, 26), &[0; 4]].concat());
    let note = identifier.map(|it| {
        let text = [it.as_bytes(), b"\0"].concat();
        let mut note = b"Apple iOS\0\0\x01MM\0\x01".to_vec();
        note.extend(
            [&[0, 0x11, 0, 2][..], &(text.len() as u32).to_be_bytes(), &32_u32.to_be_bytes()].concat(),
        );
        note.extend([&[0; 4][..], &text].concat());
        note
    });
    let note = note.unwrap_or_default();
    let values = 26 + 2 + 24 + 4;
    exif.extend([2, 0]);
    exif.extend(entry(0x9003, 2, taken.len(), values));
    exif.extend(entry(0x927c, 7, note.len(), values + taken.len()));
    exif.extend([&[0; 4][..], taken, &note].concat());
    exif
}

fn photo(taken: &[u8], identifier: Option<&str>) -> Vec<u8> {
    let exif = [&b"Exif\0\0"[..], &exif(taken, identifier)].concat();
    pictures::with_segment(&pictures::jpeg(&pictures::quarters(64, 48)), 0xe1, &exif)
}

/// A raw file of a camera, taken at the same time as the stills of `raws`.
fn raw() -> Vec<u8> {
    raws::dng(&pictures::jpeg(&pictures::quarters(64, 48)))
}

fn write(world: &World, name: &str, bytes: &[u8]) {
    fs::write(world.path(name), bytes).expect("written");
}

/// Submits files, and waits until all uploads have ended and the store is settled.
async fn process(world: &World, names: &[&str], force: bool) -> Vec<Admission> {
    let files = names.iter().map(|name| Source::InPlace(world.path(name))).collect();
    let submit = SubmitBatch { owner: world.owner.clone(), files, force };
    let Submitted { batch_id, files } = world.tell(submit).await.expect("taken");
    if let Some(batch) = batch_id {
        world.ended(batch).await;
    }
    let store = world.pipeline.queries();
    let mut changes = store.watch();
    while !store.removals().await.expect("readable").is_empty() {
        changes.changed().await.expect("open");
    }
    assert_eq!(store.verify().await.expect("readable").faults, [""; 0]);
    files
}

fn accepted(admission: &Admission) -> UploadId {
    match admission {
        Admission::Accepted(id) => *id,
        other => unreachable!("{other:?}"),
    }
}

/// The upload whose companion a file is.
fn companion(admission: &Admission) -> UploadId {
    match admission {
        Admission::Companion { upload, .. } => *upload,
        other => unreachable!("{other:?}"),
    }
}

async fn companions(world: &World, id: UploadId) -> Vec<String> {
    world.upload(id).await.companions.iter().map(|it| it.file_name()).collect()
}

#[actix_rt::test]
async fn a_jpeg_and_its_raw_file_are_one_upload_and_stay_so() {
    let world = World::scripted().await;
    write(&world, "IMG_1.DNG", &raw());
    write(&world, "IMG_1.jpg", &photo(TAKEN, None));
    write(&world, "other.jpg", &photo(b"2020:01:01 00:00:00\0", None));
    let names = ["IMG_1.DNG", "IMG_1.jpg", "other.jpg"];
    let files = process(&world, &names, false).await;
    let id = accepted(&files[1]);
    assert_eq!(companion(&files[0]), id);
    assert_eq!(companions(&world, id).await, ["IMG_1.DNG"]);
    assert_eq!(companions(&world, accepted(&files[2])).await, [""; 0]);
    assert_eq!(
        world
            .pipeline
            .queries()
            .batch(world.owner.clone(), world.upload(id).await.batch_id)
            .await
            .expect("the batch")
            .counts
            .total,
        2,
        "counts are uploads"
    );

    let again = process(&world, &names, false).await;
    assert_eq!(companion(&again[0]), id);
    assert!(matches!(&again[1], Admission::Done(upload) if upload.id == id), "{again:?}");
    let alone = process(&world, &["IMG_1.DNG"], false).await;
    assert!(
        matches!(&alone[0], Admission::Companion { upload, ended: Some(Status::Completed), .. } if *upload == id),
        "{alone:?}"
    );
    let world = world.restart().await;
    assert_eq!(companions(&world, id).await, ["IMG_1.DNG"]);

    let forced = process(&world, &names, true).await;
    let newer = accepted(&forced[1]);
    assert_eq!(companion(&forced[0]), newer);
    assert_eq!(companions(&world, newer).await, ["IMG_1.DNG"]);
}

#[actix_rt::test]
async fn a_partner_that_comes_later_or_goes_changes_the_companions_alone() {
    let world = World::scripted().await;
    write(&world, "a.jpg", &photo(TAKEN, None));
    let still = accepted(&process(&world, &["a.jpg"], false).await[0]);
    write(&world, "a.dng", &raw());
    let files = process(&world, &["a.dng", "a.jpg"], false).await;
    assert_eq!(companion(&files[0]), still);
    assert_eq!(companions(&world, still).await, ["a.dng"]);

    fs::remove_file(world.path("a.dng")).expect("removed");
    let files = process(&world, &["a.jpg"], false).await;
    assert!(matches!(&files[0], Admission::Done(upload) if upload.id == still), "{files:?}");
    assert_eq!(companions(&world, still).await, [""; 0]);

    // The raw file first, then the JPEG: the raw file's own upload goes.
    write(&world, "b.dng", &[raw(), vec![0; 4]].concat());
    let raw_alone = accepted(&process(&world, &["b.dng"], false).await[0]);
    assert_eq!(world.upload(raw_alone).await.status, Status::Completed);
    write(&world, "b.jpg", &photo(b"2019:05:04 10:11:12\0 ", None));
    let files = process(&world, &["b.dng", "b.jpg"], false).await;
    let still = accepted(&files[1]);
    assert_eq!(companion(&files[0]), still);
    assert!(world.pipeline.queries().upload(world.owner.clone(), raw_alone).await.is_err());

    // The still goes: its partner is an upload of its own.
    fs::remove_file(world.path("b.jpg")).expect("removed");
    let files = process(&world, &["b.dng"], false).await;
    assert_ne!(accepted(&files[0]), still);
    assert_eq!(companions(&world, still).await, [""; 0]);
}

#[actix_rt::test]
async fn a_deleted_upload_gives_its_partner_free() {
    let world = World::scripted().await;
    write(&world, "a.jpg", &photo(TAKEN, None));
    write(&world, "a.dng", &raw());
    let files = process(&world, &["a.dng", "a.jpg"], false).await;
    let still = accepted(&files[1]);
    world.tell(DeleteUpload { owner: world.owner.clone(), upload: still }).await.expect("deleted");
    let files = process(&world, &["a.dng"], false).await;
    accepted(&files[0]);
    assert!(world.path("a.jpg").exists() && world.path("a.dng").exists(), "files in place stay");
}

#[actix_rt::test]
async fn different_times_or_folders_make_no_pair() {
    let world = World::scripted().await;
    fs::create_dir(world.path("sub")).expect("made");
    write(&world, "a.jpg", &photo(b"2018:05:04 10:11:12\0", None));
    write(&world, "a.dng", &raw());
    write(&world, "b.jpg", &photo(TAKEN, None));
    write(&world, "sub/b.dng", &[raw(), vec![0]].concat());
    let names = ["a.jpg", "a.dng", "b.jpg", "sub/b.dng"];
    process(&world, &names, false).await.iter().map(accepted).for_each(drop);
}

#[actix_rt::test]
async fn the_configuration_can_forbid_pairs() {
    let world = World::scripted_with(|config| config.intake.pairs = false).await;
    write(&world, "a.jpg", &photo(TAKEN, None));
    write(&world, "a.dng", &raw());
    process(&world, &["a.jpg", "a.dng"], false).await.iter().map(accepted).for_each(drop);
}

#[cfg(feature = "video-tests")]
#[actix_rt::test]
async fn a_live_photo_is_found_by_its_identifier_or_by_name_and_time() {
    let clip = |name: &str, how: &str| {
        let path = support::clips::made(
            name,
            support::clips::QUARTERS,
            1.0,
            &format!("{} {how}", support::clips::H264),
        );
        fs::read(path).expect("there")
    };
    let world = World::scripted().await;
    let marked = clip(
        "marked.mov",
        "-movflags use_metadata_tags -metadata com.apple.quicktime.content.identifier=7F-1",
    );
    let timed = clip("timed.mov", "-metadata creation_time=2019-05-04T08:11:13Z");
    let other = clip("other.mov", "-metadata creation_time=2019-05-04T08:17:13Z");
    write(&world, "IMG_1.jpg", &photo(TAKEN, Some("7F-1")));
    write(&world, "renamed.mov", &marked);
    write(&world, "IMG_2.jpg", &photo(TAKEN, Some("other")));
    write(&world, "IMG_2.mov", &timed);
    write(&world, "IMG_3.jpg", &photo(TAKEN, None));
    write(&world, "IMG_3.MOV", &other);
    let names = ["IMG_1.jpg", "renamed.mov", "IMG_2.jpg", "IMG_2.mov", "IMG_3.jpg", "IMG_3.MOV"];
    let files = process(&world, &names, false).await;
    assert_eq!(companion(&files[1]), accepted(&files[0]));
    assert_eq!(companion(&files[3]), accepted(&files[2]));
    accepted(&files[5]);
}
