use std::io::{self, Read};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use super::confine::Confinement;

/// How often an interrupt is checked.
const POLL: Duration = Duration::from_millis(20);

/// A line of a program's output.
pub enum Said {
    /// A line on stdout.
    Out(String),
    /// A line on stderr. A carriage return also ends a line.
    Err(String),
}

/// Runs `command` to its end. Once `interrupt` is true, kills it with all its child processes and returns no exit status.
pub fn run(
    command: &mut Command,
    confinement: Option<&Confinement>,
    interrupt: &dyn Fn() -> bool,
    heard: &mut dyn FnMut(Said),
) -> io::Result<Option<ExitStatus>> {
    follow(start(command, confinement)?, interrupt, heard)
}

/// Like [`run`], for long commands: also kills the command and its child processes when this process ends for any reason.
pub fn run_guarded(
    command: &mut Command,
    confinement: Option<&Confinement>,
    interrupt: &dyn Fn() -> bool,
    heard: &mut dyn FnMut(Said),
) -> io::Result<Option<ExitStatus>> {
    let child = start(command, confinement)?;
    let guard = Guard::over(&child);
    let status = follow(child, interrupt, heard);
    drop(guard);
    status
}

/// A process in the command's group that kills the group when this process ends. Its stdin is a pipe from this process.
struct Guard(Option<Child>);

impl Guard {
    fn over(child: &Child) -> Self {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "read -r _; kill -KILL 0"]).stdin(Stdio::piped());
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let group = i32::try_from(child.id()).unwrap_or_default();
        // Without a guard the build still works, but may outlive this process.
        Self(command.process_group(group).spawn().ok())
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(guard) = &mut self.0 {
            let _ = guard.kill();
            let _ = guard.wait();
        }
    }
}

fn start(command: &mut Command, confinement: Option<&Confinement>) -> io::Result<Child> {
    // Use a separate group, so that the linker started by rustc is killed too.
    let command = command.process_group(0).stdout(Stdio::piped()).stderr(Stdio::piped());
    match confinement {
        Some(confinement) => confinement.spawn(command),
        None => command.spawn(),
    }
}

fn follow(mut child: Child, interrupt: &dyn Fn() -> bool, heard: &mut dyn FnMut(Said)) -> io::Result<Option<ExitStatus>> {
    let (sender, receiver) = mpsc::channel();
    if let Some(stdout) = child.stdout.take() {
        let sender = sender.clone();
        thread::spawn(move || lines(stdout, |line| drop(sender.send(Said::Out(line)))));
    }
    if let Some(stderr) = child.stderr.take() {
        thread::spawn(move || lines(stderr, |line| drop(sender.send(Said::Err(line)))));
    }
    loop {
        match receiver.recv_timeout(POLL) {
            Ok(said) => heard(said),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return child.wait().map(Some),
        }
        if interrupt() {
            kill(&mut child)?;
            return Ok(None);
        }
    }
}

fn kill(child: &mut Child) -> io::Result<()> {
    let group = rustix::process::Pid::from_child(child);
    // The process may have just ended by itself.
    let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
    child.wait().map(drop)
}

fn lines(mut from: impl Read, mut emit: impl FnMut(String)) {
    let mut line = Vec::new();
    let mut buffer = [0; 16 * 1024];
    loop {
        let read = match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => break,
        };
        let mut pieces = buffer[..read].split(|byte| matches!(byte, b'\n' | b'\r')).peekable();
        while let Some(piece) = pieces.next() {
            line.extend_from_slice(piece);
            if pieces.peek().is_some() {
                emit(String::from_utf8_lossy(&line).into_owned());
                line.clear();
            }
        }
    }
    if !line.is_empty() {
        emit(String::from_utf8_lossy(&line).into_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn returns_all_lines_and_the_exit_code() {
        let mut heard = Vec::new();
        let status = run(
            Command::new("sh").args(["-c", "printf 'a\\rb\\nc'; echo d >&2; exit 3"]),
            None,
            &|| false,
            &mut |said| {
                heard.push(match said {
                    Said::Out(line) => format!("out {line}"),
                    Said::Err(line) => format!("err {line}"),
                });
            },
        );
        heard.sort();
        assert_eq!(heard, ["err d", "out a", "out b", "out c"]);
        assert_eq!(status.unwrap().unwrap().code(), Some(3));
    }

    #[test]
    fn a_guard_kills_the_group_when_its_pipe_closes() {
        let mut child = start(Command::new("sh").args(["-c", "sleep 30 & sleep 30; true"]), None).unwrap();
        let mut guard = Guard::over(&child);
        drop(guard.0.as_mut().unwrap().stdin.take());
        let start = Instant::now();
        assert!(!child.wait().unwrap().success());
        assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    }

    #[test]
    fn an_interrupt_also_kills_child_processes() {
        let start = Instant::now();
        let late = || start.elapsed() > Duration::from_millis(100);
        let status = run(
            Command::new("sh").args(["-c", "sleep 30 & sleep 30; true"]),
            None,
            &late,
            &mut |_| {},
        );
        assert!(status.unwrap().is_none());
        assert!(start.elapsed() < Duration::from_millis(400), "{:?}", start.elapsed());
    }
}
