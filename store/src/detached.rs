//! Futures that run to their end, even if whoever waits for them goes away.
//!
//! A task of its own would do that as well, but to wake whoever waits for it is a call of the kernel, and another
//! thread that looks for work (docs/decisions.md).

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::runtime::Handle;

/// It panicked. What it held is given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Panicked;

/// Polled by whoever waits for it; dropped before its end, it goes on in a task of its own.
pub struct Detached<T: Send + 'static> {
    /// None: at its end.
    rest: Option<BoxFuture<'static, Result<T, Box<dyn Any + Send>>>>,
}

/// Lets a future run to its end. Must be called within a tokio runtime, and dropped within it.
pub fn detached<F: Future<Output: Send> + Send + 'static>(future: F) -> Detached<F::Output> {
    Detached { rest: Some(AssertUnwindSafe(future).catch_unwind().boxed()) }
}

impl<T: Send + 'static> Future for Detached<T> {
    type Output = Result<T, Panicked>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(rest) = &mut self.rest else { return Poll::Pending };
        let output = ready!(rest.as_mut().poll(context));
        self.rest = None;
        Poll::Ready(output.map_err(|_| Panicked))
    }
}

impl<T: Send + 'static> Drop for Detached<T> {
    fn drop(&mut self) {
        if let (Some(rest), Ok(runtime)) = (self.rest.take(), Handle::try_current()) {
            runtime.spawn(rest);
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
    async fn left_in_the_middle_it_runs_to_its_end() {
        let (done, told) = oneshot::channel();
        let slow = detached(async move {
            sleep(Duration::from_millis(50)).await;
            done.send(7).is_ok()
        });
        assert!(timeout(Duration::from_millis(1), slow).await.is_err());
        assert_eq!(told.await, Ok(7));
    }

    #[tokio::test]
    async fn a_panic_is_told_and_goes_no_further() {
        let broken = detached(async { panic!("this one is meant to") });
        assert_eq!(broken.await, Err::<(), _>(Panicked));
        assert_eq!(detached(async { 7 }).await, Ok(7));
    }
}
