//! Attempts that overtake each other.

use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::time::timeout;

/// Makes the attempts in their order, the next as soon as one fails or has hung for `stagger`.
/// The first success ends all others. Without one: every failure, in the order they came.
pub(super) async fn race<T, E, F>(
    attempts: impl Iterator<Item = F>,
    stagger: Duration,
) -> Result<T, Vec<E>>
where
    F: Future<Output = Result<T, E>>,
{
    let mut running = FuturesUnordered::new();
    let mut failures = Vec::new();
    for attempt in attempts {
        running.push(attempt);
        match timeout(stagger, running.next()).await {
            Ok(Some(Ok(success))) => return Ok(success),
            Ok(Some(Err(failure))) => failures.push(failure),
            Ok(None) | Err(_) => {}
        }
    }
    while let Some(ended) = running.next().await {
        match ended {
            Ok(success) => return Ok(success),
            Err(failure) => failures.push(failure),
        }
    }
    Err(failures)
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::future::ready;
    use std::pin::Pin;

    use tokio::sync::Notify;

    use super::*;

    type Attempt<'a> = Pin<Box<dyn Future<Output = Result<&'static str, &'static str>> + 'a>>;

    const AT_ONCE: Duration = Duration::from_millis(1);
    const NEVER: Duration = Duration::from_secs(3600);

    #[tokio::test]
    async fn the_next_is_tried_while_those_before_hang() {
        let attempts: [Attempt<'_>; 3] = [
            Box::pin(pending()),
            Box::pin(pending()),
            Box::pin(ready(Ok("third"))),
        ];
        assert_eq!(race(attempts.into_iter(), AT_ONCE).await, Ok("third"));
    }

    #[tokio::test]
    async fn the_next_is_tried_at_once_when_one_fails() {
        let attempts = [ready(Err("first")), ready(Ok("second"))];
        assert_eq!(race(attempts.into_iter(), NEVER).await, Ok("second"));
    }

    #[tokio::test]
    async fn a_slow_first_may_still_win() {
        let second_began = Notify::new();
        let attempts: [Attempt<'_>; 2] = [
            Box::pin(async {
                second_began.notified().await;
                Ok("first")
            }),
            Box::pin(async {
                second_began.notify_one();
                pending().await
            }),
        ];
        assert_eq!(race(attempts.into_iter(), AT_ONCE).await, Ok("first"));
    }

    #[tokio::test]
    async fn without_a_success_every_failure_is_told() {
        let second_failed = Notify::new();
        let attempts: [Attempt<'_>; 2] = [
            Box::pin(async {
                second_failed.notified().await;
                Err("first")
            }),
            Box::pin(async {
                second_failed.notify_one();
                Err("second")
            }),
        ];
        let failures = race(attempts.into_iter(), AT_ONCE).await;
        assert_eq!(failures, Err(vec!["second", "first"]));
    }
}
