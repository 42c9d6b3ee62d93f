//! Sessions that were ended by signing out, until they would have expired. They are kept in a file of the data
//! folder, since a session survives a restart.

use std::{
    collections::{HashMap, HashSet},
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use mediamill_actors::{id::Owner, private};
use serde::{Deserialize, Serialize};

/// Most ended sessions of an owner that are known by themselves. Beyond them all sessions that an owner has begun
/// are ended, so that signing in and out in a loop fills neither memory nor disk.
const MAX_PER_OWNER: usize = 1000;

/// The ended sessions.
pub(super) struct Ended {
    path: PathBuf,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    /// Ids with their ends, by owner.
    sessions: HashMap<Owner, HashMap<String, i64>>,
    /// All sessions of the owner that began at this second or earlier.
    all_until: HashMap<Owner, i64>,
    /// Lines of the file.
    lines: usize,
}

/// A line of the file.
#[derive(Serialize, Deserialize)]
struct Line {
    owner: Owner,
    /// The session; all that began by then, if there is no id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    /// With an id, when the session would have expired, otherwise the last beginning; Unix time in seconds.
    at: i64,
}

impl Ended {
    /// Reads the file, and leaves out the sessions that have expired by `now`.
    pub(super) fn open(data_dir: &Path, now: i64) -> io::Result<Self> {
        let path = data_dir.join("sessions.ended");
        let bytes = match private::read_secret(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            bytes => bytes?,
        };
        let mut known = Known::default();
        for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            // A line that a crash cut short was not acknowledged.
            if let Ok(line) = serde_json::from_slice(line) {
                known.take(line, now);
            }
        }
        let ended = Self { path, known: Mutex::default() };
        if known.lines > 0 {
            ended.write_all(&mut known)?;
        }
        *ended.known.lock().unwrap_or_else(PoisonError::into_inner) = known;
        Ok(ended)
    }

    /// Whether a session, which began at a second, was ended.
    pub(super) fn contains(&self, owner: &Owner, id: &str, began: i64) -> bool {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.all_until.get(owner).is_some_and(|until| began <= *until)
            || known.sessions.get(owner).is_some_and(|ended| ended.contains_key(id))
    }

    /// Ends a session that would expire at `until`. It is ended even if the file cannot be written. Blocks.
    pub(super) fn insert(&self, owner: &Owner, id: &str, until: i64, now: i64) -> io::Result<()> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let full = known.sessions.get(owner).is_some_and(|ended| ended.len() >= MAX_PER_OWNER);
        let line = match full {
            true => Line { owner: owner.clone(), id: None, at: now },
            false => Line { owner: owner.clone(), id: Some(id.to_owned()), at: until },
        };
        let text = serde_json::to_string(&line)? + "\n";
        known.take(line, now);
        // The file is written anew when most of its lines say nothing any more.
        if known.lines > 2 * known.count() + MAX_PER_OWNER {
            return self.write_all(&mut known);
        }
        let mut file = private::unlinked().append(true).create(true).open(&self.path)?;
        file.write_all(text.as_bytes())?;
        file.sync_data()
    }

    fn write_all(&self, known: &mut Known) -> io::Result<()> {
        let mut text = String::new();
        let lines = known.lines();
        for line in &lines {
            text.push_str(&serde_json::to_string(line)?);
            text.push('\n');
        }
        let unfinished = self.path.with_extension("tmp");
        match fs::remove_file(&unfinished) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let mut file = private::unlinked().write(true).create_new(true).open(&unfinished)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&unfinished, &self.path)?;
        known.lines = lines.len();
        Ok(())
    }
}

impl Known {
    fn take(&mut self, line: Line, now: i64) {
        self.lines += 1;
        match line.id {
            Some(id) if line.at > now => {
                let ended = self.sessions.entry(line.owner).or_default();
                ended.retain(|_, until| *until > now);
                ended.insert(id, line.at);
            }
            Some(_) => {}
            None => {
                self.sessions.remove(&line.owner);
                let until = self.all_until.entry(line.owner).or_insert(line.at);
                *until = line.at.max(*until);
            }
        }
    }

    fn count(&self) -> usize {
        self.all_until.len() + self.sessions.values().map(HashMap::len).sum::<usize>()
    }

    fn lines(&self) -> Vec<Line> {
        let all = self.all_until.iter().map(|(owner, at)| Line { owner: owner.clone(), id: None, at: *at });
        let each = self.sessions.iter().flat_map(|(owner, ended)| {
            ended.iter().map(|(id, at)| Line { owner: owner.clone(), id: Some(id.clone()), at: *at })
        });
        let mut seen = HashSet::new();
        all.chain(each).filter(|line| seen.insert((line.owner.clone(), line.id.clone()))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ended_session_stays_ended_after_a_restart_until_it_expires() {
        let folder = tempfile::tempdir().expect("a folder");
        let (ann, bob) = (Owner::local(), Owner::new("bob").expect("an owner"));
        let ended = Ended::open(folder.path(), 0).expect("opened");
        ended.insert(&ann, "one", 100, 0).expect("written");
        for ended in [ended, Ended::open(folder.path(), 50).expect("opened")] {
            assert!(ended.contains(&ann, "one", 0));
            assert!(!ended.contains(&ann, "two", 0) && !ended.contains(&bob, "one", 0));
        }
        // It has expired by then, which its cookie says by itself.
        assert!(!Ended::open(folder.path(), 100).expect("opened").contains(&ann, "one", 0));
        assert_eq!(fs::read(folder.path().join("sessions.ended")).expect("there"), b"");
    }

    #[test]
    fn an_owner_who_signs_out_in_a_loop_ends_all_sessions_and_fills_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let ann = Owner::local();
        let ended = Ended::open(folder.path(), 0).expect("opened");
        for n in 0..=MAX_PER_OWNER {
            ended.insert(&ann, &n.to_string(), 1000, 10).expect("written");
        }
        for ended in [ended, Ended::open(folder.path(), 20).expect("opened")] {
            assert!(ended.contains(&ann, "another", 10) && !ended.contains(&ann, "another", 11));
            let known = ended.known.lock().expect("sound");
            assert_eq!(known.count(), 1);
        }
    }
}
