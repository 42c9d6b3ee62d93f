//! Companions: further files of the shot of an upload.

use super::{
    super::{
        CommandError, Companionship,
        unit_of_work::{Command, Touches, UnitOfWork},
    },
    paths::{claim_path, release_path, relocate_or_delete},
};
use crate::{id::Owner, upload::Upload};

/// Adds and removes companions of an owner's uploads.
pub(in super::super) struct ChangeCompanions {
    pub(in super::super) owner: Owner,
    pub(in super::super) changes: Vec<Companionship>,
}

impl Command for ChangeCompanions {
    type Answer = ();

    fn touches(&self) -> Touches {
        let uploads = self.changes.iter().flat_map(|it| match it {
            Companionship::Attach { upload, displaces, .. } => [Some(*upload), *displaces],
            Companionship::Detach { upload, .. } => [Some(*upload), None],
        });
        let paths = self.changes.iter().map(|it| match it {
            Companionship::Attach { stamp, .. } => stamp.path.clone(),
            Companionship::Detach { path, .. } => path.clone(),
        });
        Touches {
            uploads: uploads.flatten().collect(),
            paths: paths.collect(),
            ..Touches::owner(&self.owner)
        }
    }

    fn apply(self, work: &mut dyn UnitOfWork) -> Result<(), CommandError> {
        let owner = &self.owner;
        for change in self.changes {
            match change {
                Companionship::Attach { upload: id, companion, stamp, displaces } => {
                    let Some(mut record) = work.upload(id)?.filter(|it| it.owner == *owner) else { continue };
                    record.companions.retain(|it| it.path != companion.path);
                    if record.companions.len() >= Upload::MAX_COMPANIONS {
                        continue;
                    }
                    record.companions.push(companion);
                    claim_path(work, owner, &stamp, id)?;
                    work.put_upload(&record)?;
                    if let Some(older) = displaces.filter(|it| *it != id) {
                        relocate_or_delete(work, owner, older)?;
                    }
                }
                Companionship::Detach { upload: id, path } => {
                    let Some(mut record) = work.upload(id)?.filter(|it| it.owner == *owner) else { continue };
                    record.companions.retain(|it| it.path != path);
                    release_path(work, owner, &path, id)?;
                    work.put_upload(&record)?;
                }
            }
        }
        Ok(())
    }
}
