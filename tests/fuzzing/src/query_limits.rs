//! Checks the query limits with any text as a GraphQL document.

use std::thread;

use api::query_limits::{Refusal, parse_document_within_limits};
use domain::limits::QUERY_BYTES_MAX;

/// The stack size of the threads that run requests. The parser is recursive and must not overflow it.
const STACK_BYTES: usize = 2 * 1024 * 1024;
/// The longest detail of a refusal. It has a position and does not quote the document.
const DETAIL_BYTES_MAX: usize = 200;

/// Checks a document on a thread with the stack of a server thread.
pub(crate) fn check(text: &str) {
    thread::scope(|scope| {
        let thread =
            thread::Builder::new().stack_size(STACK_BYTES).spawn_scoped(scope, || check_document(text));
        let result = thread.expect("a thread can be started").join();
        result.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}

fn check_document(text: &str) {
    let result = parse_document_within_limits(text).map(drop);
    assert_eq!(parse_document_within_limits(text).map(drop), result, "the query limits are deterministic");
    match &result {
        Ok(()) => {
            assert!(text.len() <= QUERY_BYTES_MAX, "a document of {} bytes is admitted", text.len());
            let commented = format!("{text}\n#");
            let is_short = commented.len() <= QUERY_BYTES_MAX;
            assert!(
                !is_short || parse_document_within_limits(&commented).is_ok(),
                "a comment does not matter"
            );
        }
        Err(Refusal::Limit { detail, .. } | Refusal::Syntax { detail }) => {
            assert!(detail.len() <= DETAIL_BYTES_MAX, "{detail}");
        }
    }
}
