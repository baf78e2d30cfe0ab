//! A child process whose standard output is read line by line in a thread, so
//! that a test can wait for a line with a limit. It knows nothing of what the
//! lines mean.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;

/// How long a wait lasts before it counts as a failure. Nothing takes this long
/// on an idle machine; a busy one with two cores gets there in time.
pub const LIMIT: Duration = Duration::from_secs(60);

/// Lines kept for a test that has not read them; past this the child's writes block.
const UNREAD_LINES: usize = 16_384;
/// Lines of standard error (and of skipped output) shown when a wait fails.
const SHOWN_LINES: usize = 60;
/// Between two looks at whether a child has exited.
const EXIT_POLL: Duration = Duration::from_millis(5);

/// A running program. Dropping it kills it and waits for its end.
#[derive(Debug)]
pub struct Child {
    name: String,
    process: std::process::Child,
    lines: Receiver<String>,
    /// The latest lines read and those of standard error, for messages.
    log: Arc<Mutex<VecDeque<String>>>,
    readers: Vec<JoinHandle<()>>,
}

impl Child {
    /// Starts `command` with its three standard streams connected.
    ///
    /// # Panics
    /// When the program cannot be started.
    pub fn spawn(name: &str, command: &mut Command) -> Self {
        let mut process = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{name}: {command:?} does not start: {error}"));
        let log = Arc::new(Mutex::new(VecDeque::new()));
        let (sender, lines) = sync_channel(UNREAD_LINES);
        let stdout = process.stdout.take().unwrap();
        let stderr = process.stderr.take().unwrap();
        let readers = vec![
            read(stdout, Arc::clone(&log), "", move |line| {
                sender.send(line).is_ok()
            }),
            read(stderr, Arc::clone(&log), "stderr: ", |_| true),
        ];
        Self {
            name: name.to_owned(),
            process,
            lines,
            log,
            readers,
        }
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Writes one line of JSON to the child's standard input.
    ///
    /// # Panics
    /// When the child no longer reads.
    pub fn send(&mut self, command: &Value) {
        let stdin = self.process.stdin.as_mut().expect("standard input is open");
        let written = writeln!(stdin, "{command}").and_then(|()| stdin.flush());
        if let Err(error) = written {
            panic!(
                "{}: cannot send {command}: {error}\n{}",
                self.name,
                self.said()
            );
        }
    }

    /// The next line of standard output, or `None` at its end.
    ///
    /// # Panics
    /// After [`LIMIT`].
    pub fn line(&mut self) -> Option<String> {
        self.line_until(Instant::now() + LIMIT, "a line")
    }

    /// Skips lines until `wanted` gives something for one.
    ///
    /// # Panics
    /// After [`LIMIT`], or when the output ends first; `what` names it in the message.
    pub fn wait_for<T>(&mut self, what: &str, mut wanted: impl FnMut(&str) -> Option<T>) -> T {
        let deadline = Instant::now() + LIMIT;
        while let Some(line) = self.line_until(deadline, what) {
            if let Some(found) = wanted(&line) {
                return found;
            }
        }
        panic!("{}: ended before {what}\n{}", self.name, self.said());
    }

    /// Skips lines until one is a JSON object whose field `event` is `event` and
    /// that `accepts` likes.
    ///
    /// # Panics
    /// As [`wait_for`](Self::wait_for).
    pub fn event_where(&mut self, event: &str, accepts: impl Fn(&Value) -> bool) -> Value {
        self.wait_for(event, |line| {
            let value: Value = serde_json::from_str(line).ok()?;
            (value["event"] == event && accepts(&value)).then_some(value)
        })
    }

    /// Skips lines until the event named `event`.
    ///
    /// # Panics
    /// As [`wait_for`](Self::wait_for).
    pub fn event(&mut self, event: &str) -> Value {
        self.event_where(event, |_| true)
    }

    /// Everything that is still to come on standard output, and how it ended.
    ///
    /// # Panics
    /// When the child is still running after `limit`.
    pub fn finish(&mut self, limit: Duration) -> (Vec<String>, ExitStatus) {
        let deadline = Instant::now() + limit;
        let mut rest = Vec::new();
        while let Some(line) = self.line_until(deadline, "the end of the output") {
            rest.push(line);
        }
        loop {
            if let Some(status) = self.process.try_wait().unwrap() {
                self.join_readers();
                return (rest, status);
            }
            if Instant::now() > deadline {
                panic!(
                    "{}: still running after {limit:?}\n{}",
                    self.name,
                    self.said()
                );
            }
            std::thread::sleep(EXIT_POLL);
        }
    }

    /// Ends the child as a power cut would: SIGKILL, no chance to tidy up.
    pub fn kill(&mut self) {
        // An error means that it has already ended.
        let _ = self.process.kill();
        let _ = self.process.wait();
        self.join_readers();
    }

    /// Asks the child to stop, as Ctrl-C does.
    ///
    /// # Panics
    /// When there is no `kill` command.
    pub fn interrupt(&self) {
        let sent = Command::new("kill")
            .args(["-INT", &self.id().to_string()])
            .status();
        assert!(sent.expect("the kill command").success());
    }

    /// What the child said last on both streams, for a message.
    pub fn said(&self) -> String {
        let log = self.log.lock().unwrap();
        let shown: Vec<_> = log.iter().map(String::as_str).collect();
        format!("--- last lines of {} ---\n{}", self.name, shown.join("\n"))
    }

    fn line_until(&mut self, deadline: Instant, what: &str) -> Option<String> {
        let left = deadline.saturating_duration_since(Instant::now());
        match self.lines.recv_timeout(left) {
            Ok(line) => Some(line),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => {
                panic!("{}: waited in vain for {what}\n{}", self.name, self.said())
            }
        }
    }

    /// Only after the process has ended, so that the streams have too.
    fn join_readers(&mut self) {
        for reader in self.readers.drain(..) {
            // A reader blocked on the full queue ends when the queue is dropped.
            if reader.is_finished() {
                reader.join().unwrap();
            }
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Reads lines in a thread until the end, or until `keep` says that nobody wants more.
fn read(
    stream: impl Read + Send + 'static,
    log: Arc<Mutex<VecDeque<String>>>,
    prefix: &'static str,
    keep: impl Fn(String) -> bool + Send + 'static,
) -> JoinHandle<()> {
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            {
                let mut log = log.lock().unwrap();
                if log.len() == SHOWN_LINES {
                    log.pop_front();
                }
                log.push_back(format!("{prefix}{line}"));
            }
            if !keep(line) {
                return;
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A shell that can be interrupted even where these tests run in the background, whose children ignore interrupts.
    fn shell(script: &str) -> Child {
        let interruptible = ["--default-signal=INT", "sh", "-c", script];
        Child::spawn("shell", Command::new("env").args(interruptible))
    }

    #[test]
    fn events_are_found_among_other_lines() {
        let mut child = shell(r#"read x; echo noise; echo '{"event":"a"}'; echo "$x"; exit 3"#);
        child.send(&serde_json::json!({"event": "b", "n": 7}));
        assert_eq!(child.event_where("b", |b| b["n"] == 7)["n"], 7);
        let (rest, status) = child.finish(LIMIT);
        assert!(rest.is_empty());
        assert_eq!(status.code(), Some(3));
    }

    #[test]
    fn a_killed_child_is_gone() {
        let mut child = shell("exec sleep 1000");
        child.kill();
        assert_eq!(child.line(), None);
        assert!(!child.process.try_wait().unwrap().unwrap().success());
    }

    #[test]
    fn an_interrupt_arrives() {
        let mut child = shell("trap 'echo stopped; exit 0' INT; echo ready; while :; do :; done");
        assert_eq!(child.line().as_deref(), Some("ready"));
        child.interrupt();
        assert_eq!(child.line().as_deref(), Some("stopped"));
        assert!(child.finish(LIMIT).1.success());
    }

    #[test]
    #[should_panic(expected = "ended before the word")]
    fn the_end_of_the_output_ends_a_wait() {
        shell("echo other").wait_for("the word", |line| (line == "word").then_some(()));
    }
}
