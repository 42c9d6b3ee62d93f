//! Limits of the system that the program needs: better a sentence at the start than an abort in the middle.

use rlimit::Resource;

/// Files that the program wants to have open: connections, pictures and the files of the store.
const OPEN_FILES: u64 = 1 << 16;
/// Fewest open files with which it works.
const FEWEST_OPEN_FILES: u64 = 128;
/// Least address space with which it works, in bytes. The store and the decoders take less memory, but they
/// reserve addresses.
const LEAST_ADDRESS_SPACE: u64 = 2 << 30;

/// Raises the limit of open files as far as allowed, and makes sure that the limits suffice.
///
/// # Errors
/// A sentence that says which limit to raise.
pub(super) fn check() -> Result<(), String> {
    // A system without such a limit needs no check.
    let files = rlimit::increase_nofile_limit(OPEN_FILES).unwrap_or(OPEN_FILES);
    let (space, _) = rlimit::getrlimit(Resource::AS).unwrap_or((u64::MAX, u64::MAX));
    suffices(files, space)
}

fn suffices(files: u64, space: u64) -> Result<(), String> {
    if files < FEWEST_OPEN_FILES {
        return Err(format!(
            "only {files} files may be open, and {FEWEST_OPEN_FILES} are needed; raise the limit (`ulimit -n`)"
        ));
    }
    if space < LEAST_ADDRESS_SPACE {
        return Err(format!(
            "only {} MiB of addresses may be used, and {} MiB are needed; raise the limit (`ulimit -v`)",
            space >> 20,
            LEAST_ADDRESS_SPACE >> 20
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_that_are_too_low_are_named() {
        assert_eq!(suffices(1024, u64::MAX), Ok(()));
        assert!(suffices(64, u64::MAX).is_err_and(|it| it.contains("64 files") && it.contains("ulimit -n")));
        assert!(suffices(1024, 1_024_000_000).is_err_and(|it| it.contains("976 MiB") && it.contains("-v")));
    }
}
