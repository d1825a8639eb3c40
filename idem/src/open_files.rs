//! How many files and connections this process may have open.
//!
//! Most systems start a process with a soft limit of 1 024, for the sake of programs that use `select(2)`, and let it
//! raise that up to a hard limit (getrlimit(2)). A server has a connection for each client.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Beside the connections of clients: those to database, queue and object store, and files.
const OTHERS_MAX: u64 = 256;

/// Raises the soft limit to the hard one, and warns if that is too low for so many connections.
pub(crate) fn raise_limit(connections_max: usize) {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    let most = if raised.is_ok() { maximum } else { current };
    // None is no limit.
    let wanted = connections_max as u64 + OTHERS_MAX;
    if let Some(most) = most.filter(|most| *most < wanted) {
        tracing::warn!(
            open_files_max = most,
            wanted,
            "too few files may be open for IDEM_CONNECTIONS_MAX: raise the limit (`LimitNOFILE` in systemd)"
        );
    }
}
