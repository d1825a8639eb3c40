//! Runs a future to its end, even if its caller is dropped.
//!
//! The future is polled by its caller, and moves into a task only if the caller is dropped. A task from the
//! start would cost a system call to wake the caller, and would wake another thread of the runtime (decision
//! 0054).

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::runtime::Handle;

/// The future panicked. It is dropped, so everything that it held is released.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Panicked;

/// A future that its caller polls. If it is dropped before its end, it goes on in a task of tokio.
pub struct Detached<T: Send + 'static> {
    /// `None` once the future has ended.
    future: Option<BoxFuture<'static, Result<T, Box<dyn Any + Send>>>>,
}

/// Wraps a future, so that it goes on in a task if the wrapper is dropped before the end. That works only if
/// it is dropped within a tokio runtime. A panic of the future becomes [`Panicked`].
pub fn detach_on_drop<F: Future<Output: Send> + Send + 'static>(future: F) -> Detached<F::Output> {
    Detached { future: Some(AssertUnwindSafe(future).catch_unwind().boxed()) }
}

impl<T: Send + 'static> Future for Detached<T> {
    type Output = Result<T, Panicked>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(future) = &mut self.future else { return Poll::Pending };
        let output = ready!(future.as_mut().poll(context));
        self.future = None;
        Poll::Ready(output.map_err(|_| Panicked))
    }
}

impl<T: Send + 'static> Drop for Detached<T> {
    fn drop(&mut self) {
        if let (Some(future), Ok(runtime)) = (self.future.take(), Handle::try_current()) {
            runtime.spawn(future);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::sync::oneshot;
    use tokio::time::{sleep, timeout};

    use super::*;

    #[tokio::test]
    async fn a_future_that_is_dropped_halfway_runs_to_its_end() {
        let (done, result) = oneshot::channel();
        let slow = detach_on_drop(async move {
            sleep(Duration::from_millis(50)).await;
            done.send(7).is_ok()
        });
        assert!(timeout(Duration::from_millis(1), slow).await.is_err());
        assert_eq!(result.await, Ok(7));
    }

    #[tokio::test]
    async fn a_panic_is_caught_and_returned_as_an_error() {
        let broken = detach_on_drop(async { panic!("this panic is part of the test") });
        assert_eq!(broken.await, Err::<(), _>(Panicked));
        assert_eq!(detach_on_drop(async { 7 }).await, Ok(7));
    }
}
