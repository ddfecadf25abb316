//! Comms: channels that a front end opens. The only target is [`VARIABLES`]. It sends the session's variables when opened
//! and after each cell, so that a front end can list them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jupyter_protocol::{CommId, CommInfo, CommInfoReply, ReplyStatus};

use super::message::Header;

/// The target's name.
pub(super) const VARIABLES: &str = "lockstep.variables";

/// The open comms, each with the header of the request that opened it.
#[derive(Debug, Default)]
pub(super) struct Comms(Mutex<BTreeMap<String, Arc<Header>>>);

impl Comms {
    fn open_ones(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Header>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a comm to the target.
    pub fn open(&self, id: String, by: Arc<Header>) {
        self.open_ones().insert(id, by);
    }

    /// Removes a comm.
    pub fn close(&self, id: &str) {
        self.open_ones().remove(id);
    }

    /// Returns whether the comm is open.
    pub fn is_open(&self, id: &str) -> bool {
        self.open_ones().contains_key(id)
    }

    /// Returns the ids of all comms, each with the header of the request that opened it.
    pub fn all(&self) -> Vec<(String, Arc<Header>)> {
        self.open_ones().iter().map(|(id, by)| (id.clone(), by.clone())).collect()
    }

    /// Returns the content of `comm_info_reply`.
    pub fn info(&self, target: Option<&str>) -> CommInfoReply {
        let asked = target.is_none_or(|target| target == VARIABLES);
        let comm = |id: &String| {
            let target_name = VARIABLES.to_owned();
            (CommId(id.clone()), CommInfo { target_name })
        };
        CommInfoReply {
            status: ReplyStatus::Ok,
            comms: self.open_ones().keys().filter(|_| asked).map(comm).collect(),
            error: None,
        }
    }
}
