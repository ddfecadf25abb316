use std::time::Duration;

/// The real time at the start of every run, since the Unix epoch: 2000-01-01T00:00:00Z. Part of the run key.
pub const EPOCH: Duration = Duration::from_secs(946_684_800);

/// How far each reading advances the clock, in nanoseconds. Part of the run key.
pub const CLOCK_QUANTUM: u64 = 1_000;

/// The virtual clock of a run. It advances only when the guest reads it or sleeps.
#[derive(Default)]
pub(super) struct Clock {
    now: u64,
}

impl Clock {
    /// Advances the clock, and returns the nanoseconds since the run started.
    pub(super) fn read(&mut self) -> u64 {
        self.now = self.now.saturating_add(CLOCK_QUANTUM);
        self.now
    }

    /// Advances the clock, and returns the nanoseconds since the Unix epoch.
    pub(super) fn read_real(&mut self) -> u64 {
        Self::real(self.read())
    }

    /// Returns the nanoseconds since the run started, without advancing the clock.
    pub(super) fn peek(&self) -> u64 {
        self.now
    }

    /// Converts a time since the start of the run to a time since the Unix epoch.
    pub(super) fn real(now: u64) -> u64 {
        now.saturating_add(EPOCH.as_nanos() as u64)
    }

    /// Advances the clock to `moment`, unless that is in the past.
    pub(super) fn sleep_until(&mut self, moment: u64) {
        self.now = self.now.max(moment);
    }
}
