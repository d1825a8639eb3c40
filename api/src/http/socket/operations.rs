//! What runs on one socket. An operation is polled only when its socket asks for the next answer, so that
//! a client that does not read holds up its own operations and nothing else.

use std::task::{Context, Poll};

use async_graphql::{Response as Answer, Value};
use domain::limits::{SOCKET_REQUESTS_MAX, SOCKET_SUBSCRIPTIONS_MAX};
use futures::StreamExt;
use futures::stream::BoxStream;

/// The operations of one socket.
#[derive(Default)]
pub(super) struct Operations {
    /// The one that is polled first comes first.
    running: Vec<Running>,
}

struct Running {
    id: String,
    is_subscription: bool,
    answers: BoxStream<'static, Answer>,
}

/// What comes of an operation.
pub(super) struct Event {
    pub id: String,
    /// None when it has ended.
    pub answer: Option<Answer>,
    /// Whether a subscription was refused where it should have begun, or ends with an answer that failed.
    pub has_failed: bool,
}

impl Operations {
    pub(super) fn contains(&self, id: &str) -> bool {
        self.running.iter().any(|running| running.id == id)
    }

    pub(super) fn is_full(&self) -> bool {
        self.count(true) >= SOCKET_SUBSCRIPTIONS_MAX
    }

    /// Whether the answer to one more query or mutation may wait here.
    pub(super) fn has_room(&self) -> bool {
        self.count(false) < SOCKET_REQUESTS_MAX
    }

    fn count(&self, is_subscription: bool) -> usize {
        self.running.iter().filter(|running| running.is_subscription == is_subscription).count()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.running.is_empty()
    }

    pub(super) fn start(&mut self, id: String, is_subscription: bool, answers: BoxStream<'static, Answer>) {
        self.running.push(Running { id, is_subscription, answers });
    }

    /// Drops an operation; a mutation that has begun goes on.
    pub(super) fn stop(&mut self, id: &str) {
        self.running.retain(|running| running.id != id);
        self.shrink();
    }

    /// Drops what would not end by itself.
    pub(super) fn stop_subscriptions(&mut self) {
        self.running.retain(|running| !running.is_subscription);
    }

    /// What comes next, of whichever operation. Waits for ever when there is none.
    pub(super) async fn next(&mut self) -> Event {
        std::future::poll_fn(|context| self.poll(context)).await
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Event> {
        for index in 0..self.running.len() {
            let Poll::Ready(answer) = self.running[index].answers.poll_next_unpin(context) else {
                continue;
            };
            let running = self.running.remove(index);
            let id = running.id.clone();
            let is_failure = |answer: &Answer| !answer.errors.is_empty() && answer.data == Value::Null;
            let has_failed = running.is_subscription && answer.as_ref().is_some_and(is_failure);
            if answer.is_some() {
                // To the end of the row: a busy one does not starve the others.
                self.running.push(running);
            } else {
                self.shrink();
            }
            return Poll::Ready(Event { id, answer, has_failed });
        }
        Poll::Pending
    }

    /// A socket that once was busy holds no more than one that never was.
    fn shrink(&mut self) {
        if self.running.is_empty() {
            self.running = Vec::new();
        }
    }
}
