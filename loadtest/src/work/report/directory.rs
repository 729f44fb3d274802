//! Results of a directory, as far as they are of a form that is known.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::de::DeserializeOwned;

use super::{Sources, peers};
use crate::bench::recorded::Recorded;

/// Size of a file up to which it is read: a long bench has some megabytes.
const MOST_BYTES: u64 = 64 << 20;

/// Reads all files of `directory` that end in `.json`. One that has another form becomes a note.
pub fn read(directory: &Path) -> Result<Sources> {
    let entries = fs::read_dir(directory);
    let entries = entries.with_context(|| format!("can't read {}", directory.display()))?;
    let paths: std::io::Result<Vec<PathBuf>> = entries.map(|entry| Ok(entry?.path())).collect();
    let mut paths = paths.with_context(|| format!("can't read {}", directory.display()))?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    paths.sort();
    let mut sources = Sources::default();
    for path in paths {
        if let Err(error) = add(&mut sources, &path) {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            sources.notes.push(format!("{name} is left out: {error:#}"));
        }
    }
    sources.runs.sort_by(|a, b| {
        let key =
            |run: &super::Run| (run.scenario.clone(), run.target.clone(), run.machine.date.clone());
        key(a).cmp(&key(b))
    });
    Ok(sources)
}

fn add(sources: &mut Sources, path: &Path) -> Result<()> {
    let text = text(path)?;
    match path.file_name().and_then(|name| name.to_str()) {
        Some("bench.json") => sources.bench = Some(Recorded::parse(&text)?),
        Some(name) if name.starts_with("fleet") => sources.fleets.push(parse(&text)?),
        Some("peers.json") => sources.peers = Some(peers::parse(&text)?),
        _ => sources.runs.push(parse(&text).context("it isn't the result of a run")?),
    }
    Ok(())
}

/// The text of a file of results.
pub fn text(path: &Path) -> Result<String> {
    let cant = || format!("can't read {}", path.display());
    let bytes = fs::metadata(path).with_context(cant)?.len();
    ensure!(bytes <= MOST_BYTES, "it has {bytes} bytes, at most {MOST_BYTES} are read");
    fs::read_to_string(path).with_context(cant)
}

fn parse<T: DeserializeOwned>(text: &str) -> Result<T> {
    Ok(serde_json::from_str(text)?)
}
