//! Culling of idle kernels.

use std::time::{Duration, SystemTime};

use super::hosted::Model;
use crate::Settings;

/// Which kernels to shut down.
#[derive(Debug, Clone, Copy)]
pub struct Cull {
    /// Minimum time without messages from or to a kernel.
    idle: Duration,
    /// Include kernels with connected clients.
    connected: bool,
    /// Include kernels that are running a cell.
    busy: bool,
}

impl Cull {
    /// Reads the settings; `None` if culling is off.
    pub fn new(settings: &Settings) -> Option<Self> {
        Some(Self {
            idle: settings.cull_idle()?,
            connected: settings.cull_connected(),
            busy: settings.cull_busy(),
        })
    }

    /// Returns the interval between checks.
    pub fn interval(&self) -> Duration {
        (self.idle / 4).clamp(Duration::from_millis(50), Duration::from_secs(60))
    }

    /// Whether to shut down `kernel`.
    pub fn takes(&self, kernel: &Model, now: SystemTime) -> bool {
        let idle = now.duration_since(kernel.last_activity).unwrap_or_default();
        idle >= self.idle && (self.connected || kernel.connections == 0) && (self.busy || kernel.execution_state != "busy")
    }
}

#[cfg(test)]
mod tests {
    use super::super::hosted::Details;
    use super::*;

    #[test]
    fn what_is_used_is_spared_unless_the_settings_say_otherwise() {
        let now = SystemTime::now();
        let kernel = |idle: u64, execution_state: &str, connections: usize| Model {
            id: String::new(),
            last_activity: now - Duration::from_secs(idle),
            execution_state: execution_state.to_owned(),
            connections,
            details: Details::default(),
        };
        let takes = |connected: bool, busy: bool| {
            let idle = Duration::from_secs(60);
            let cull = Cull { idle, connected, busy };
            let kernels = [
                kernel(59, "idle", 0),
                kernel(60, "idle", 0),
                kernel(60, "idle", 1),
                kernel(60, "busy", 0),
            ];
            kernels.map(|kernel| cull.takes(&kernel, now))
        };
        assert_eq!(takes(false, false), [false, true, false, false]);
        assert_eq!(takes(true, false), [false, true, true, false]);
        assert_eq!(takes(false, true), [false, true, false, true]);
    }
}
