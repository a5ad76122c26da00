//! The demo's folder.

use std::path::{Path, PathBuf};

use service::Failure;

const TABLE: &str = "edits.db";

/// Makes the folder, sets an older table aside, and gives the place of the new one.
///
/// The embedded broker forgets everything, so an older table belongs to a topic that is gone.
pub(crate) fn prepare(folder: &Path) -> Result<PathBuf, Failure> {
    let failed = |error: std::io::Error| {
        Failure::Config(format!(
            "the data folder {} cannot be written: {error}; give one that this user may write with --data",
            folder.display()
        ))
    };
    std::fs::create_dir_all(folder).map_err(failed)?;
    let probe = folder.join(".writable");
    std::fs::write(&probe, b"").map_err(failed)?;
    std::fs::remove_file(&probe).map_err(failed)?;
    let table = folder.join(TABLE);
    if table.exists() {
        let stamp = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string();
        for suffix in ["", "-wal", "-shm"] {
            let old = folder.join(format!("{TABLE}{suffix}"));
            if old.exists() {
                std::fs::rename(&old, folder.join(format!("edits-until-{stamp}.db{suffix}"))).map_err(failed)?;
            }
        }
        println!("the table of an earlier run is kept as {}", folder.join(format!("edits-until-{stamp}.db")).display());
    }
    Ok(table)
}
