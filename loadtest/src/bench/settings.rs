//! The settings file of a node whose topics keep history.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Messages that each topic keeps; what the function at Redis takes without being told is the same.
pub(super) const KEPT_MESSAGES: u32 = 100;
/// How long it keeps them.
pub(super) const KEPT_SECONDS: u32 = 300;

/// Writes the file into `out`, where it stays with the results.
pub(super) fn write(out: &Path) -> Result<PathBuf> {
    let path = out.join("node.toml");
    let text = format!(
        "[[topics]]\n\
         match = \"**\"\n\
         subscribe = \"anyone\"\n\
         publish = \"anyone\"\n\
         history = {{ messages = {KEPT_MESSAGES}, seconds = {KEPT_SECONDS} }}\n"
    );
    fs::write(&path, text).with_context(|| format!("can't write {}", path.display()))?;
    Ok(path)
}
