use std::time::Duration;

/// The real time at which every run starts, since 1970: 2000-01-01T00:00:00Z. Part of the run key.
pub const EPOCH: Duration = Duration::from_secs(946_684_800);

/// How far a look at a clock moves it, in nanoseconds. Part of the run key.
pub const CLOCK_QUANTUM: u64 = 1_000;

/// The time of a run. It moves when the guest looks at it and when the guest sleeps, and never otherwise.
#[derive(Default)]
pub(super) struct Clock {
    now: u64,
}

impl Clock {
    /// Nanoseconds since the run started; later each time.
    pub(super) fn read(&mut self) -> u64 {
        self.now = self.now.saturating_add(CLOCK_QUANTUM);
        self.now
    }

    /// Nanoseconds since 1970; later each time.
    pub(super) fn read_real(&mut self) -> u64 {
        Self::real(self.read())
    }

    /// The moment without moving on.
    pub(super) fn peek(&self) -> u64 {
        self.now
    }

    /// What the real clock shows at a moment of the virtual one.
    pub(super) fn real(now: u64) -> u64 {
        now.saturating_add(EPOCH.as_nanos() as u64)
    }

    /// Moves on to `moment`, if it is not past yet.
    pub(super) fn sleep_until(&mut self, moment: u64) {
        self.now = self.now.max(moment);
    }
}
