//! Files of one shot become one upload: a Live Photo's still and video, and a JPEG with its raw file. Pairs
//! form among the files in place of one submission that are in the same folder.
//!
//! The still is the upload's file, of JPEG and raw file the JPEG; the partner is its companion. A pair of
//! which both files were known before stays as it is, unless one of them is submitted anew.

use std::{
    collections::HashMap,
    ffi::OsString,
    io::BufReader,
    path::{Path, PathBuf},
};

use super::{
    admission::Admission,
    classify::{Verdict, stamp_of},
};
use crate::{
    id::UploadId,
    media::{self, Format, Shot},
    regular_file,
    store::Companionship,
    upload::{Companion, PlacePath, Status},
};

/// Most seconds between the still and the video of one shot.
const VIDEO_S: i64 = 3;
/// Most seconds between a JPEG and its raw file: the time has whole seconds.
const RAW_S: i64 = 1;

/// A file that may belong to a pair.
struct Candidate {
    /// Its place among the verdicts.
    at: usize,
    path: PathBuf,
    format: Format,
    /// It becomes a new upload.
    is_new: bool,
}

/// Forms pairs among verdicts, whose files have these paths. The verdicts on partners become
/// [`Admission::Companion`]; the changes are to be written after the uploads.
pub(super) fn form(paths: &[Option<PathBuf>], verdicts: &mut [Verdict]) -> Vec<Companionship> {
    let mut changes = lost(verdicts);
    let mut folders: HashMap<PathBuf, Vec<Candidate>> = HashMap::new();
    for (at, (path, verdict)) in paths.iter().zip(verdicts.iter()).enumerate() {
        let Some(path) = path else { continue };
        let Ok(path) = std::path::absolute(path) else { continue };
        if let (Some(folder), Some(candidate)) = (path.parent(), candidate(at, &path, verdict)) {
            folders.entry(folder.to_owned()).or_default().push(candidate);
        }
    }
    for candidates in folders.into_values().filter(|it| it.iter().any(|it| it.is_new)) {
        for (main, partner) in Folder::new(&candidates).pairs() {
            let (main, partner) = (&candidates[main], &candidates[partner]);
            if main.is_new || partner.is_new {
                changes.extend(joined(verdicts, main, partner));
            }
        }
    }
    changes
}

/// The companions of known uploads whose files are gone.
fn lost(verdicts: &[Verdict]) -> Vec<Companionship> {
    let known = verdicts.iter().filter_map(|verdict| match verdict {
        Verdict::Decided(Admission::Done(upload)) | Verdict::Elsewhere { upload, .. } => Some(upload),
        _ => None,
    });
    let companions = known.flat_map(|upload| upload.companions.iter().map(|it| (upload.id, &it.path)));
    // A folder that cannot be looked into says nothing about its files.
    let gone = |path: &Path| matches!(path.try_exists(), Ok(false));
    companions
        .filter(|(_, path)| gone(path.as_path()))
        .map(|(upload, path)| Companionship::Detach { upload, path: path.clone() })
        .collect()
}

fn candidate(at: usize, path: &Path, verdict: &Verdict) -> Option<Candidate> {
    let claimed = || Format::by_extension(path.extension()?.to_str()?);
    let (format, is_new) = match verdict {
        Verdict::New { upload, .. } => (upload.format, true),
        Verdict::Elsewhere { upload, .. } | Verdict::Decided(Admission::Done(upload)) => {
            (upload.format, false)
        }
        Verdict::Decided(Admission::Unfinished(_) | Admission::Companion { .. }) => (claimed()?, false),
        Verdict::Decided(Admission::Accepted(_))
        | Verdict::Decided(Admission::Failed(_) | Admission::Refused(_) | Admission::NotMedia(_)) => {
            return None;
        }
    };
    let pairs = is_still(format) || matches!(format, Format::Raw | Format::Mov | Format::Mp4);
    pairs.then(|| Candidate { at, path: path.to_owned(), format, is_new })
}

fn is_still(format: Format) -> bool {
    matches!(format, Format::Jpeg | Format::Heic)
}

/// Makes one file the companion of another one's upload.
fn joined(verdicts: &mut [Verdict], main: &Candidate, partner: &Candidate) -> Option<Companionship> {
    let (upload, ended) = match &verdicts[main.at] {
        Verdict::New { upload, .. } => (upload.id, None),
        Verdict::Elsewhere { upload, .. } | Verdict::Decided(Admission::Done(upload)) => {
            (upload.id, Some(Status::Completed))
        }
        Verdict::Decided(Admission::Unfinished(upload)) => (*upload, None),
        Verdict::Decided(_) => return None,
    };
    // The upload that the partner was.
    let displaces: Option<UploadId> = match &verdicts[partner.at] {
        Verdict::New { upload, .. } => upload.replaces.as_ref().map(|it| it.upload),
        Verdict::Elsewhere { displaces, .. } => *displaces,
        Verdict::Decided(Admission::Done(upload)) => Some(upload.id),
        Verdict::Decided(Admission::Unfinished(upload)) => Some(*upload),
        Verdict::Decided(_) => None,
    };
    let stamp = stamp_of(&partner.path).ok()?;
    let companion =
        Companion { path: PlacePath::new(&partner.path), file_size: stamp.size, format: partner.format };
    verdicts[partner.at] = Verdict::Decided(Admission::Companion { upload, of: main.path.clone(), ended });
    Some(Companionship::Attach { upload, companion, stamp, displaces: displaces.filter(|it| *it != upload) })
}

/// The candidates of one folder.
struct Folder<'a> {
    files: &'a [Candidate],
    by_stem: HashMap<OsString, Vec<usize>>,
    shots: Vec<Option<Shot>>,
}

impl<'a> Folder<'a> {
    fn new(files: &'a [Candidate]) -> Self {
        let mut by_stem: HashMap<OsString, Vec<usize>> = HashMap::new();
        for (i, file) in files.iter().enumerate() {
            let stem = file.path.file_stem().unwrap_or_default().to_ascii_lowercase();
            by_stem.entry(stem).or_default().push(i);
        }
        Self { files, by_stem, shots: files.iter().map(|_| None).collect() }
    }

    /// The pairs: main file and partner.
    fn pairs(mut self) -> Vec<(usize, usize)> {
        let mut pairs = Vec::new();
        let by_stem = std::mem::take(&mut self.by_stem);
        let videos =
            self.files.iter().enumerate().filter(|(_, it)| matches!(it.format, Format::Mov | Format::Mp4));
        let mut alone: Vec<usize> = Vec::new();
        for video in videos.map(|(i, _)| i).collect::<Vec<_>>() {
            let stem = self.files[video].path.file_stem().unwrap_or_default().to_ascii_lowercase();
            let beside = by_stem.get(&stem).map_or(&[][..], Vec::as_slice);
            match self.still_of(video, beside) {
                Some(still) => pairs.push((still, video)),
                None => alone.push(video),
            }
        }
        pairs.extend(self.by_identifier(&alone));
        for same in by_stem.values() {
            let raws = same.iter().copied().filter(|&i| self.files[i].format == Format::Raw);
            for raw in raws.collect::<Vec<_>>() {
                let stills: Vec<usize> =
                    same.iter().copied().filter(|&i| is_still(self.files[i].format)).collect();
                let same_time = |folder: &mut Self, still| {
                    let (raw, still) = (folder.shot(raw).clone(), folder.shot(still));
                    raw.is_near(still, RAW_S) != Some(false)
                };
                pairs.extend(stills.into_iter().find(|&it| same_time(&mut self, it)).map(|it| (it, raw)));
            }
        }
        pairs
    }

    /// The still with the name of a video, and with its identifier or, without one, its time.
    fn still_of(&mut self, video: usize, beside: &[usize]) -> Option<usize> {
        // Of a photo in two formats the one that the camera wrote.
        let mut stills: Vec<usize> =
            beside.iter().copied().filter(|&i| is_still(self.files[i].format)).collect();
        stills.sort_by_key(|&i| self.files[i].format != Format::Heic);
        stills.into_iter().find(|&still| {
            let (still, video) = (self.shot(still).clone(), self.shot(video));
            match (&still.content_id, &video.content_id) {
                (Some(of_still), Some(of_video)) => of_still == of_video,
                _ => still.is_near(video, VIDEO_S) == Some(true),
            }
        })
    }

    /// Pairs of other names, by their identifiers.
    fn by_identifier(&mut self, videos: &[usize]) -> Vec<(usize, usize)> {
        let marked = |folder: &mut Self, i: usize| folder.shot(i).content_id.clone().map(|id| (id, i));
        let videos: Vec<(String, usize)> = videos.iter().filter_map(|&i| marked(self, i)).collect();
        if videos.is_empty() {
            return Vec::new();
        }
        let mut stills: Vec<usize> =
            (0..self.files.len()).filter(|&i| is_still(self.files[i].format)).collect();
        stills.sort_by_key(|&i| self.files[i].format == Format::Heic);
        // The last one counts.
        let stills: HashMap<String, usize> = stills.into_iter().filter_map(|i| marked(self, i)).collect();
        videos.into_iter().filter_map(|(id, video)| Some((*stills.get(&id)?, video))).collect()
    }

    /// The marks of a file, which is read once.
    fn shot(&mut self, i: usize) -> &Shot {
        let Candidate { path, format, .. } = &self.files[i];
        self.shots[i].get_or_insert_with(|| {
            // A panic of a reader concerns this file alone.
            std::panic::catch_unwind(|| read(path, *format)).ok().flatten().unwrap_or_default()
        })
    }
}

fn read(path: &Path, format: Format) -> Option<Shot> {
    let (file, metadata) = regular_file::open(path).ok()?;
    Some(media::shot(&mut BufReader::new(file), metadata.len(), format))
}
