//! This machine: room on the disk, free ports.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;

use super::Finding;

const MIB: u64 = 1 << 20;

/// Whether a folder can be written, and has room.
pub(super) fn disk(folder: &Path, wanted_mib: u64) -> Finding {
    const WHAT: &str = "disk";
    let name = folder.display();
    if let Err(error) = tempfile::tempfile_in(folder) {
        return Finding::bad(
            WHAT,
            format!("nothing can be written into {name}: {error}; name another folder with --data"),
        );
    }
    match rustix::fs::statvfs(folder) {
        Ok(disk) => {
            let free_mib = disk.f_bavail * disk.f_frsize / MIB;
            if free_mib < wanted_mib {
                let sentence = format!(
                    "{free_mib} MiB are free in {name}, and {wanted_mib} should be: make room, or name another folder with --data"
                );
                return Finding::bad(WHAT, sentence);
            }
            Finding::ok(WHAT, format!("{free_mib} MiB free in {name}"))
        }
        Err(error) => Finding::bad(WHAT, format!("the room in {name} cannot be asked for: {error}")),
    }
}

/// Whether an address can be listened on.
pub(super) fn port(address: SocketAddr) -> Finding {
    const WHAT: &str = "port";
    match TcpListener::bind(address) {
        Ok(_) => Finding::ok(WHAT, format!("{address} is free")),
        Err(error) => Finding::bad(
            WHAT,
            format!(
                "{address} cannot be listened on: {error}; end what listens there (`ss -ltnp` shows it), or take another with --http"
            ),
        ),
    }
}
