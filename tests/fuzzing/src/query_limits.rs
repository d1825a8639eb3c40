//! GraphQL documents at the gate.

use std::thread;

use api::query_limits::{Refusal, admit};
use domain::limits::QUERY_BYTES_MAX;

/// The stack of the threads that run requests: what the parser may recurse on.
const STACK_BYTES: usize = 2 * 1024 * 1024;
/// Bytes of a refusal: it tells where, and quotes nothing.
const DETAIL_BYTES_MAX: usize = 200;

/// Gives a document to the gate, on a stack as servers have it.
pub(crate) fn check(text: &str) {
    thread::scope(|scope| {
        let thread = thread::Builder::new().stack_size(STACK_BYTES).spawn_scoped(scope, || judge(text));
        let judged = thread.expect("there is room for a thread").join();
        judged.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}

fn judge(text: &str) {
    let verdict = admit(text).map(drop);
    assert_eq!(admit(text).map(drop), verdict, "a document is judged alike each time");
    match &verdict {
        Ok(()) => {
            assert!(text.len() <= QUERY_BYTES_MAX, "a document of {} bytes is admitted", text.len());
            let commented = format!("{text}\n#");
            let has_room = commented.len() <= QUERY_BYTES_MAX;
            assert!(!has_room || admit(&commented).is_ok(), "a comment says nothing");
        }
        Err(Refusal::Limit { detail, .. } | Refusal::Syntax { detail }) => {
            assert!(detail.len() <= DETAIL_BYTES_MAX, "{detail}");
        }
    }
}
