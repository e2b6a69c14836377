//! A run that ends, and the next one.

use tokio::sync::Notify;

use super::*;

#[tokio::test(start_paused = true)]
async fn a_dropped_run_lets_what_runs_finish_and_starts_nothing() {
    let objects = Objects::new(1);
    for n in 0..3 {
        objects.put(&n.to_string(), n);
    }
    let (finished, done) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
    let (count, tell) = (finished.clone(), done.clone());
    let work = objects.run(move |_| {
        let (count, tell) = (count.clone(), tell.clone());
        async move {
            sleep(secs(10)).await;
            count.fetch_add(1, Ordering::SeqCst);
            tell.notify_one();
            Requeue::Backoff
        }
    });
    sleep(secs(1)).await;
    stop(work).await;
    assert_eq!(objects.tasks.len(), 1, "one is still running");
    assert_eq!(objects.figures.depth(), 0, "nobody waits for a run that is gone");
    done.notified().await;
    sleep(secs(100)).await;
    assert_eq!(finished.load(Ordering::SeqCst), 1);
    assert_eq!(objects.log.lock().len(), 1);
    assert_eq!(objects.tasks.len(), 0);
    objects.is_at_rest();
    assert_eq!(objects.pool.len(), 1, "its failure counts for the next run");
}

#[tokio::test(start_paused = true)]
async fn a_new_run_adds_every_key_but_waits_for_what_the_old_one_left_running() {
    let objects = Objects::new(4);
    objects.put("slow", 1);
    let slow = |object| async move {
        if object == 1 {
            sleep(secs(10)).await;
        }
        Requeue::AwaitChange
    };
    let old = objects.run(slow);
    sleep(secs(1)).await;
    stop(old).await;
    objects.put("meanwhile", 2);
    sleep(secs(1)).await;
    assert_eq!(objects.starts(2), [] as [u64; 0], "no run, no reconcile");
    let new = objects.run(slow);
    sleep(secs(1)).await;
    assert_eq!(objects.starts(2), [2]);
    assert_eq!(objects.starts(1), [0], "the old one still runs");
    sleep(secs(60)).await;
    assert_eq!(objects.starts(1), [0, 10]);
    objects.is_at_rest();
    stop(new).await;

    // And when the second run goes as well before the old reconcile ends, nothing more is started.
    let old = objects.run(slow);
    sleep(secs(1)).await;
    stop(old).await;
    let new = objects.run(slow);
    sleep(secs(1)).await;
    stop(new).await;
    sleep(secs(100)).await;
    assert_eq!(objects.starts(1), [0, 10, 63]);
    objects.is_at_rest();
    assert_eq!((objects.pool.len(), objects.tasks.len()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn b8_every_key_is_looked_at_again_every_quarter_of_an_hour_and_no_delay_is_shortened() {
    let objects = Objects::new(4);
    objects.put("waits for a change", 1);
    objects.put("waits for a moment", 2);
    objects.put("is slow", 3);
    let _run = objects.run(|object| async move {
        match object {
            1 => Requeue::AwaitChange,
            2 => Requeue::After(secs(1000)),
            _ => {
                sleep(secs(1200)).await;
                Requeue::AwaitChange
            }
        }
    });
    sleep(secs(2000)).await;
    assert_eq!(objects.starts(1), [0, 900, 1800]);
    assert_eq!(objects.starts(2), [0, 1000]);
    assert_eq!(objects.starts(3), [0, 1800]);
}
