//! Raises the limit of open files of this process.
//!
//! Most systems start a process with a soft limit of 1 024, for programs that use `select(2)`, and let it
//! raise that up to a hard limit (getrlimit(2)). A server needs one file descriptor for each client
//! connection.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// How many file descriptors are reserved for all but client connections: database, queue, object store and
/// files.
const OTHER_FILES_MAX: u64 = 256;

/// Raises the soft limit of open files of this process to the hard limit, if that is permitted. Logs a
/// warning if the limit is then too low for `connections_max` clients.
pub(crate) fn raise_open_files_limit(connections_max: usize) {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    let most = if raised.is_ok() { maximum } else { current };
    // `None` means that there is no limit.
    let wanted = connections_max as u64 + OTHER_FILES_MAX;
    if let Some(most) = most.filter(|most| *most < wanted) {
        tracing::warn!(
            open_files_max = most,
            wanted,
            "too few files may be open: raise the limit (`LimitNOFILE` in systemd) or lower IDEM_CONNECTIONS_MAX"
        );
    }
}
