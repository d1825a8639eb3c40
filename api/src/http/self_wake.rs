//! Polls a future again at once if it woke itself while it was polled.
//!
//! hyper wakes itself for each request body: the handler that reads the body notifies the connection that
//! there is room, and both belong to the same task. Without this wrapper the runtime would queue the task and
//! wake another thread to look for it.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures::task::AtomicWaker;

/// The most polls of a future in a row. After that its task yields, so that other tasks can run.
const POLLS_MAX: usize = 4;

/// Wraps a future, and polls it again at once if it was woken during its poll, up to [`POLLS_MAX`] times in a
/// row.
pub(super) struct SelfWake<F> {
    inner: Pin<Box<F>>,
    flag: Arc<WakeFlag>,
    waker: Waker,
}

#[derive(Default)]
struct WakeFlag {
    is_polled: AtomicBool,
    was_woken: AtomicBool,
    task: AtomicWaker,
}

impl Wake for WakeFlag {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.was_woken.store(true, Ordering::SeqCst);
        // During a poll the wake is only recorded: `poll` clears `is_polled` first and checks `was_woken`
        // after that. A wake is therefore never lost between the two.
        if !self.is_polled.load(Ordering::SeqCst) {
            self.task.wake();
        }
    }
}

impl<F: Future> SelfWake<F> {
    pub(super) fn new(future: F) -> Self {
        let flag = Arc::new(WakeFlag::default());
        Self { inner: Box::pin(future), waker: Waker::from(Arc::clone(&flag)), flag }
    }
}

impl<F: Future> Future for SelfWake<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let Self { inner, flag, waker } = &mut *self;
        flag.task.register(context.waker());
        flag.was_woken.swap(false, Ordering::SeqCst);
        for _ in 0..POLLS_MAX {
            flag.is_polled.store(true, Ordering::SeqCst);
            let polled = inner.as_mut().poll(&mut Context::from_waker(waker));
            flag.is_polled.store(false, Ordering::SeqCst);
            // The swap also makes everything that happened before the wake visible to the next poll.
            if polled.is_ready() || !flag.was_woken.swap(false, Ordering::SeqCst) {
                return polled;
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::time::Duration;

    use futures::task::noop_waker;
    use tokio::sync::oneshot;
    use tokio::time::timeout;

    use super::*;

    /// A future that is pending `times` times and wakes itself each time.
    fn waking(times: usize) -> impl Future<Output = usize> {
        let mut polls = 0;
        poll_fn(move |context| {
            polls += 1;
            context.waker().wake_by_ref();
            if polls > times { Poll::Ready(polls) } else { Poll::Pending }
        })
    }

    #[test]
    fn a_future_that_wakes_itself_is_polled_again_at_once_within_bounds() {
        let waker = noop_waker();
        let mut context = Context::from_waker(&waker);
        let mut few = Box::pin(SelfWake::new(waking(POLLS_MAX - 1)));
        assert_eq!(few.as_mut().poll(&mut context), Poll::Ready(POLLS_MAX));
        let mut many = Box::pin(SelfWake::new(waking(POLLS_MAX)));
        assert_eq!(many.as_mut().poll(&mut context), Poll::Pending);
        assert_eq!(many.as_mut().poll(&mut context), Poll::Ready(POLLS_MAX + 1));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn no_wake_of_other_tasks_is_lost() {
        for _ in 0..1_000 {
            let (senders, receivers): (Vec<_>, Vec<_>) = (0..8).map(|_| oneshot::channel::<()>()).unzip();
            let reader = tokio::spawn(SelfWake::new(async move {
                for receiver in receivers {
                    receiver.await.expect("the message is sent");
                }
                waking(2 * POLLS_MAX).await
            }));
            let writer = tokio::spawn(async move {
                for sender in senders {
                    sender.send(()).expect("the receiver still waits");
                    tokio::task::yield_now().await;
                }
            });
            writer.await.expect("the writer ends");
            let read = timeout(Duration::from_secs(60), reader).await.expect("no wake is lost");
            assert_eq!(read.expect("the reader ends"), 2 * POLLS_MAX + 1);
        }
    }
}
