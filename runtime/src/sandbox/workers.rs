use std::io;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, Weak};

/// How deeply calls of a guest may nest, in bytes of native stack. Generous, as interpreters recurse on it.
pub(super) const GUEST_STACK: usize = 16 << 20;
/// What host functions may need on top of the deepest guest call.
const HOST_STACK: usize = 2 << 20;
/// Idle threads that are kept for later runs. They cost nothing but the pages of stack that their runs touched.
const MAX_IDLE: usize = 64;

type Job = Box<dyn FnOnce() + Send>;
type Idle = Mutex<Vec<SyncSender<Job>>>;

/// Threads whose stack is large enough for guests, whatever the caller's is. Handing a run to an idle one and waiting for
/// it costs some microseconds, a new thread for each would cost several times that. They end when this is dropped.
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
            .stack_size(GUEST_STACK + HOST_STACK)
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

/// How often to look for something that may come within some microseconds, before a thread goes to sleep: waking it takes longer than
/// many a run. A machine with one core has no time for that.
static LOOKS: LazyLock<u32> = LazyLock::new(|| match std::thread::available_parallelism() {
    Ok(cores) if cores.get() > 1 => 2_000,
    _ => 0,
});

/// What `look` finds, if that is soon.
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
