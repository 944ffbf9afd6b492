//! Accepting connections: so many at once, and no busy loop when it fails.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

/// Pause after a failure; out of file descriptors, most likely, and without it the loop would spin.
const AFTER_FAILURE: Duration = Duration::from_millis(100);

/// Serves whatever is accepted, `most` at once; more wait in the accept queue. `what` names one in the log.
pub(crate) async fn each<T, A, S>(most: usize, what: &str, accept: impl Fn() -> A, serve: impl Fn(T) -> S) -> Infallible
where
    A: Future<Output = io::Result<T>>,
    S: Future<Output = ()> + Send + 'static,
{
    let permits = Arc::new(Semaphore::new(most));
    loop {
        let permit = permits.clone().acquire_owned().await.expect("the semaphore is never closed");
        match accept().await {
            Ok(accepted) => {
                let serving = serve(accepted);
                tokio::spawn(async move {
                    serving.await;
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!("cannot accept {what}: {error}");
                tokio::time::sleep(AFTER_FAILURE).await;
            }
        }
    }
}
