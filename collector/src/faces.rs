//! How the daemon's faces fare: each counts for itself, and every snapshot shows the counts.
//!
//! A face that has nothing to tell (pass_persist, the control socket, Prometheus) is not here.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use lbstats::Face;

/// All faces of a daemon that keep a state.
#[derive(Debug, Default)]
pub struct Faces(Mutex<Vec<Arc<FaceState>>>);

/// The state of one face. Its counters are added to without waiting for anybody.
#[derive(Debug)]
pub struct FaceState {
    kind: &'static str,
    target: String,
    error: Mutex<Option<String>>,
    /// As [`Face::connects`].
    pub connects: AtomicU64,
    /// As [`Face::requests`].
    pub requests: AtomicU64,
    /// As [`Face::varbinds`].
    pub varbinds: AtomicU64,
    /// As [`Face::refused`].
    pub refused: AtomicU64,
}

impl Faces {
    /// Adds a face; it does not work yet.
    pub fn add(&self, kind: &'static str, target: impl Into<String>) -> Arc<FaceState> {
        let state = Arc::new(FaceState {
            kind,
            target: target.into(),
            error: Mutex::new(Some("not started yet".to_owned())),
            connects: AtomicU64::new(0),
            requests: AtomicU64::new(0),
            varbinds: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        });
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(state.clone());
        state
    }

    /// All of them as they stand.
    pub fn read(&self) -> Vec<Face> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().map(|state| state.read()).collect()
    }
}

impl FaceState {
    /// It works: a session began, a socket is bound.
    pub fn up(&self) {
        self.connects.fetch_add(1, Relaxed);
        self.set(None);
    }

    /// It works again, in the session or on the socket that it had.
    pub fn up_again(&self) {
        self.set(None);
    }

    /// It does not work, and why, in one line.
    pub fn down(&self, reason: impl Into<String>) {
        self.set(Some(reason.into()));
    }

    fn set(&self, error: Option<String>) {
        *self.error.lock().unwrap_or_else(PoisonError::into_inner) = error;
    }

    fn read(&self) -> Face {
        Face {
            kind: self.kind.to_owned(),
            target: self.target.clone(),
            error: self.error.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            connects: self.connects.load(Relaxed),
            requests: self.requests.load(Relaxed),
            varbinds: self.varbinds.load(Relaxed),
            refused: self.refused.load(Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_face_shows_what_became_of_it() {
        let faces = Faces::default();
        let state = faces.add("agentx", "/var/agentx/master");
        assert!(faces.read()[0].error.is_some());
        state.up();
        state.requests.fetch_add(3, Relaxed);
        let [face] = &faces.read()[..] else { panic!("one face was added") };
        assert_eq!((face.kind.as_str(), face.error.as_deref(), face.connects, face.requests), ("agentx", None, 1, 3));
        state.down("the master closed the session");
        assert_eq!(faces.read()[0].error.as_deref(), Some("the master closed the session"));
    }
}
