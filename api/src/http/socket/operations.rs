//! Runs the operations of one socket.
//!
//! The operations are polled only when the socket requests the next event. A client that does not read
//! therefore delays its own operations and nothing else.

use std::task::{Context, Poll};

use async_graphql::{Response as GraphqlResponse, Value};
use domain::limits::{SOCKET_REQUESTS_MAX, SOCKET_SUBSCRIPTIONS_MAX};
use futures::StreamExt;
use futures::stream::BoxStream;

/// The running GraphQL operations of one WebSocket.
#[derive(Default)]
pub(super) struct Operations {
    /// The running operations, in the order in which they are polled.
    running: Vec<RunningOperation>,
}

struct RunningOperation {
    id: String,
    is_subscription: bool,
    responses: BoxStream<'static, GraphqlResponse>,
}

/// A response of a running operation, or its end.
pub(super) struct OperationEvent {
    pub id: String,
    /// `None` if the operation has ended.
    pub response: Option<GraphqlResponse>,
    /// Whether this is the response of a subscription that has errors and no data. The subscription ends with
    /// it.
    pub has_failed: bool,
}

impl Operations {
    pub(super) fn contains_id(&self, id: &str) -> bool {
        self.running.iter().any(|running| running.id == id)
    }

    pub(super) fn has_max_subscriptions(&self) -> bool {
        self.count_running(true) >= SOCKET_SUBSCRIPTIONS_MAX
    }

    /// Whether one more query or mutation may run on this socket.
    pub(super) fn has_room_for_request(&self) -> bool {
        self.count_running(false) < SOCKET_REQUESTS_MAX
    }

    fn count_running(&self, is_subscription: bool) -> usize {
        self.running.iter().filter(|running| running.is_subscription == is_subscription).count()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.running.is_empty()
    }

    pub(super) fn add_operation(
        &mut self,
        id: String,
        is_subscription: bool,
        responses: BoxStream<'static, GraphqlResponse>,
    ) {
        self.running.push(RunningOperation { id, is_subscription, responses });
    }

    /// Removes the operation with this id, if there is one. It ends, except that a mutation that has begun
    /// runs to its end without a response.
    pub(super) fn remove_operation(&mut self, id: &str) {
        self.running.retain(|running| running.id != id);
        self.free_list_if_empty();
    }

    /// Removes all subscriptions, which ends them, because they would not end by themselves.
    pub(super) fn remove_subscriptions(&mut self) {
        self.running.retain(|running| !running.is_subscription);
    }

    /// Waits for the next response or the end of any operation, and removes an operation that has ended.
    /// Never returns while there is no operation.
    pub(super) async fn next_operation_event(&mut self) -> OperationEvent {
        std::future::poll_fn(|context| self.poll_next_operation_event(context)).await
    }

    fn poll_next_operation_event(&mut self, context: &mut Context<'_>) -> Poll<OperationEvent> {
        for index in 0..self.running.len() {
            let Poll::Ready(response) = self.running[index].responses.poll_next_unpin(context) else {
                continue;
            };
            let running = self.running.remove(index);
            let id = running.id.clone();
            let is_failure =
                |response: &GraphqlResponse| !response.errors.is_empty() && response.data == Value::Null;
            let has_failed = running.is_subscription && response.as_ref().is_some_and(is_failure);
            if response.is_some() {
                // The operation moves to the end of the list, so that a busy one does not starve the others.
                self.running.push(running);
            } else {
                self.free_list_if_empty();
            }
            return Poll::Ready(OperationEvent { id, response, has_failed });
        }
        Poll::Pending
    }

    /// Releases the memory of the list of operations if it is empty. A socket that was busy once then
    /// occupies no more memory than any other.
    fn free_list_if_empty(&mut self) {
        if self.running.is_empty() {
            self.running = Vec::new();
        }
    }
}
