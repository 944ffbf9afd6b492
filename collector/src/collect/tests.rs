//! The tick with a kernel that hangs, fails or goes away. HAProxy's side is in `tests/haproxy.rs`, with a real one.

use std::sync::mpsc;

use super::probe::Loaded;
use super::*;
use crate::kernel::{Listener, Process, Sample};

const PATIENCE: Duration = Duration::from_secs(60);

fn settings(ebpf: Ebpf) -> Settings {
    Settings {
        stats_sockets: Vec::new(),
        interval: Duration::from_millis(5),
        limits: Limits::default(),
        ebpf,
        faces: Arc::default(),
    }
}

fn start(ebpf: Ebpf, probe: Probe) -> (Arc<Published>, impl Future<Output = Result<Infallible, CollectError>>) {
    let published = Published::new();
    (published.clone(), Collection::new(settings(ebpf), published, Some(probe)).collect())
}

/// Runs the collection until a snapshot is as `wanted`.
async fn until_published(
    published: &Published,
    collection: &mut (impl Future<Output = Result<Infallible, CollectError>> + Unpin),
    wanted: impl Fn(&Snapshot) -> bool,
) -> Arc<Snapshot> {
    let mut changes = published.changes();
    let wait = async {
        while published.load().generation == 0 || !wanted(&published.load()) {
            changes.changed().await.unwrap();
        }
        published.load()
    };
    tokio::select! {
        snapshot = wait => snapshot,
        ended = collection => panic!("the collection ended: {ended:?}"),
        () = tokio::time::sleep(PATIENCE) => panic!("never published: {:?}", published.load()),
    }
}

#[tokio::test]
async fn a_sample_that_hangs_delays_no_publication() {
    let (release, held) = mpsc::channel::<()>();
    let probe = Probe::start(move || {
        let sampler = move |_: &[Process]| {
            let _ = held.recv();
            (Ok(Sample::default()), Vec::new())
        };
        Ok(Loaded { hooks: Vec::new(), log: None, sampler: Box::new(sampler) })
    });
    let (published, collection) = start(Ebpf::Auto, probe);
    let mut collection = std::pin::pin!(collection);
    let hanging = until_published(&published, &mut collection, |s| s.generation > 5).await;
    assert_eq!(hanging.sources[0].succeeded, None);
    release.send(()).unwrap();
    let snapshot = until_published(&published, &mut collection, |s| s.sources[0].succeeded.is_some()).await;
    assert_eq!(snapshot.sources[0].error, None);
    // The next sample hangs again, and dropping the collection does not wait for it.
}

#[tokio::test]
async fn rows_stay_when_a_sample_fails() {
    let probe = Probe::start(|| {
        let mut samples = 0;
        let sampler = move |_: &[Process]| {
            samples += 1;
            let sample = if samples == 1 {
                Ok(Sample { listeners: vec![listener()], ..Sample::default() })
            } else {
                Err("no more".to_owned())
            };
            (sample, Vec::new())
        };
        Ok(Loaded { hooks: Vec::new(), log: None, sampler: Box::new(sampler) })
    });
    let (published, collection) = start(Ebpf::On, probe);
    let mut collection = std::pin::pin!(collection);
    let snapshot = until_published(&published, &mut collection, |s| s.sources[0].errors > 1).await;
    assert_eq!(snapshot.sources[0].error.as_deref(), Some("no more"));
    assert_eq!(snapshot.listeners.len(), 1);
    assert!(snapshot.sources[0].succeeded.is_some());
}

#[tokio::test]
async fn refused_programs_are_a_reason_or_the_end() {
    let (published, collection) = start(Ebpf::Auto, Probe::start(|| Err("no right".to_owned())));
    let mut collection = std::pin::pin!(collection);
    let snapshot = until_published(&published, &mut collection, |s| s.sources[0].errors > 0 && s.generation > 3).await;
    assert_eq!(snapshot.sources[0].error.as_deref(), Some("no right"));
    assert_eq!((snapshot.sources[0].collections, snapshot.sources[0].errors), (1, 1));

    let (_, collection) = start(Ebpf::On, Probe::start(|| Err("no right".to_owned())));
    let ended = tokio::time::timeout(PATIENCE, collection).await.expect("it ends at once");
    assert_eq!(ended.unwrap_err(), CollectError::Ebpf("no right".to_owned()));
}

#[tokio::test]
async fn a_thread_that_dies_is_a_reason() {
    let probe = Probe::start(|| {
        let sampler = |_: &[Process]| -> (Result<Sample, String>, Vec<lbstats::Hook>) {
            std::panic::resume_unwind(Box::new("without a message on the terminal"))
        };
        Ok(Loaded { hooks: Vec::new(), log: None, sampler: Box::new(sampler) })
    });
    let (published, collection) = start(Ebpf::Auto, probe);
    let mut collection = std::pin::pin!(collection);
    let snapshot = until_published(&published, &mut collection, |s| s.sources[0].errors > 0 && s.generation > 3).await;
    assert!(snapshot.sources[0].error.as_ref().unwrap().contains("restart lbstatd"));
}

fn listener() -> Listener {
    Listener { owned: true, accepted: 1, open: 1, ..Listener::new(0, "127.0.0.1:80".parse().unwrap()) }
}
