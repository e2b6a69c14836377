//! What a key costs does not depend on how many others wait.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use super::*;

/// Counts how often a future is polled.
struct Polled<F> {
    inner: Pin<Box<F>>,
    polls: Arc<AtomicUsize>,
}

impl<F> Polled<F> {
    fn new(inner: F, polls: &Arc<AtomicUsize>) -> Self {
        Self {
            inner: Box::pin(inner),
            polls: polls.clone(),
        }
    }
}

impl<F: Future> Future for Polled<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        self.polls.fetch_add(1, Ordering::SeqCst);
        self.inner.as_mut().poll(context)
    }
}

/// Polls of the loop and of the reconciles together, for each key.
#[expect(clippy::cast_precision_loss, reason = "small numbers")]
async fn polls_per_key(keys: usize) -> f64 {
    let objects = Objects::new(100);
    let (polls, ended) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (counted, count) = (polls.clone(), ended.clone());
    let run = objects.pool.clone().run(
        move || (0..keys).map(|n| n.to_string()).collect(),
        move |_| {
            let count = count.clone();
            let reconcile = async move {
                sleep(secs(1)).await;
                count.fetch_add(1, Ordering::SeqCst);
                Requeue::AwaitChange
            };
            Polled::new(reconcile, &counted)
        },
    );
    let run = Polled::new(run, &polls);
    let run = tokio::spawn(async move {
        run.await;
    });
    while ended.load(Ordering::SeqCst) < keys {
        sleep(secs(1)).await;
    }
    stop(run).await;
    objects.is_at_rest();
    polls.load(Ordering::SeqCst) as f64 / keys as f64
}

#[tokio::test(start_paused = true)]
async fn c10_a_key_takes_as_many_polls_among_sixteen_thousand_as_among_one_thousand() {
    let (few, many) = (polls_per_key(1_000).await, polls_per_key(16_000).await);
    assert!(many < 1.1 * few, "{few} polls, {many} polls");
}
