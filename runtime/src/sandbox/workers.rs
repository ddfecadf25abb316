use std::io;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, Weak};

/// Maximum number of idle threads kept for later runs.
const MAX_IDLE: usize = 64;

type Job = Box<dyn FnOnce() + Send>;
type Idle = Mutex<Vec<SyncSender<Job>>>;

/// A pool of threads for guests. Handing a run to an idle thread takes some microseconds; starting a
/// thread takes several times as long. The threads end when the pool is dropped.
#[derive(Clone, Default)]
pub(super) struct Workers(Arc<Idle>);

impl Workers {
    /// Runs `job` on an idle thread, or on a new one.
    pub(super) fn start(&self, job: impl FnOnce() + Send + 'static) -> io::Result<()> {
        let job: Job = Box::new(job);
        let job = match lock(&self.0).pop() {
            None => job,
            Some(worker) => match worker.try_send(job) {
                Ok(()) => return Ok(()),
                Err(refused) => match refused {
                    std::sync::mpsc::TrySendError::Full(job) | std::sync::mpsc::TrySendError::Disconnected(job) => job,
                },
            },
        };
        let idle = Arc::downgrade(&self.0);
        std::thread::Builder::new()
            .name("lockstep-guest".to_owned())
            .spawn(move || work(job, &idle))
            .map(drop)
    }
}

fn work(mut job: Job, idle: &Weak<Idle>) {
    loop {
        job();
        let (sender, jobs) = sync_channel(1);
        match idle.upgrade() {
            Some(idle) if lock(&idle).len() < MAX_IDLE => lock(&idle).push(sender),
            _ => return,
        }
        match soon(|| jobs.try_recv().ok()).map_or_else(|| jobs.recv(), Ok) {
            Ok(next) => job = next,
            Err(_) => return,
        }
    }
}

/// How often to poll before a thread goes to sleep: waking it takes longer than many runs. Zero on a single core, where polling would
/// delay the other thread.
static LOOKS: LazyLock<u32> = LazyLock::new(|| match std::thread::available_parallelism() {
    Ok(cores) if cores.get() > 1 => 2_000,
    _ => 0,
});

/// Polls `look` for a short time.
pub(super) fn soon<T>(mut look: impl FnMut() -> Option<T>) -> Option<T> {
    (0..*LOOKS).find_map(|_| {
        let found = look();
        std::hint::spin_loop();
        found
    })
}

fn lock(idle: &Idle) -> MutexGuard<'_, Vec<SyncSender<Job>>> {
    idle.lock().unwrap_or_else(PoisonError::into_inner)
}
