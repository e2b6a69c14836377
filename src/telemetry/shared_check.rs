//! A check that runs once for all who want its answer at the same time.

use tokio::sync::{mpsc, oneshot};

/// How many may wait for one answer, those included who have gone meanwhile; who comes later waits to be let in.
const WAITING: usize = 16 << 10;

/// A way to ask. Clones ask together.
#[derive(Clone)]
pub struct SharedCheck<T>(mpsc::Sender<oneshot::Sender<T>>);

impl<T: Clone + Send + 'static> SharedCheck<T> {
    /// A way to ask, and the work behind it, which is to run until all ways are gone. A check that has begun goes to its
    /// end even if nobody waits for it any more: a client's own timeout is often the shorter one, and what it did not
    /// wait for is to be counted and logged all the same.
    pub fn new<F>(
        mut check: impl FnMut() -> F + Send + 'static,
    ) -> (Self, impl Future<Output = ()> + Send + 'static)
    where
        F: Future<Output = T> + Send + 'static,
    {
        let (ways, mut asked) = mpsc::channel::<oneshot::Sender<T>>(WAITING);
        let work = async move {
            while let Some(first) = asked.recv().await {
                let answer = check().await;
                let mut next = Some(first);
                while let Some(waiting) = next {
                    // It may have gone meanwhile.
                    let _ = waiting.send(answer.clone());
                    next = asked.try_recv().ok();
                }
            }
        };
        (Self(ways), work)
    }

    /// The answer; who asks while a check is under way gets that one's. None without the work, which is a defect.
    pub async fn ask(&self) -> Option<T> {
        let (tell, told) = oneshot::channel();
        self.0.send(tell).await.ok()?;
        told.await.ok()
    }
}
