//! Where the servers of a run write what they have to write.

use std::path::{Path, PathBuf};
use std::{env, fs, process};

use anyhow::{Context, Result};

/// A directory of its own, which is removed with this.
#[derive(Debug)]
pub struct Directory(PathBuf);

impl Directory {
    /// Makes it, in the system's directory for such things.
    pub fn make() -> Result<Self> {
        let name = format!("umbel-loadtest-{}-{:08x}", process::id(), fastrand::u32(..));
        let path = env::temp_dir().join(name);
        fs::create_dir(&path).with_context(|| format!("can't make {}", path.display()))?;
        Ok(Self(path))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Leaves it there, for somebody who wants to know what went wrong.
    pub fn keep(mut self) -> PathBuf {
        std::mem::take(&mut self.0)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if !self.0.as_os_str().is_empty() {
            // Nothing depends on it.
            let _ = fs::remove_dir_all(&self.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_removed_unless_it_is_kept() {
        let directory = Directory::make().unwrap();
        let path = directory.path().to_owned();
        fs::write(path.join("x"), "x").unwrap();
        drop(directory);
        assert!(!path.exists());
        let kept = Directory::make().unwrap().keep();
        assert!(kept.exists());
        fs::remove_dir(kept).unwrap();
    }
}
