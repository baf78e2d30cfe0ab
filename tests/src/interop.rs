//! Builds and starts the independent peers under `interop/`: go-ethereum's `p2p`
//! packages, @ethereumjs/devp2p and @chainsafe/discv5. Their dependencies come from their registries
//! on first use and stay in the target folder.
//!
//! Where a tool is missing the caller skips, unless `TERCET_INTEROP=required`.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use serde_json::Value;

use crate::Child;
use crate::workspace::{profile_dir, say, target_dir, workspace_dir};

/// Building the Go peer compiles go-ethereum once: 40 s on 2 idle cores.
const BUILD_LIMIT: Duration = Duration::from_secs(900);

/// The programs that run on Node.js.
const JS_PROGRAMS: [&str; 2] = ["peer.mjs", "discovery.mjs"];

/// Starts the Go peer and waits until it is up: its enode URL is in the event's
/// field `enode`. `None`: a reason was printed and the test skips.
///
/// # Panics
/// Under `TERCET_INTEROP=required` where the peer cannot be had.
pub fn go_peer(name: &str, config: &Value) -> Option<(Child, Value)> {
    started(name, config, go_program())
}

/// Starts the JavaScript peer and waits until it is up, as [`go_peer`] does.
///
/// # Panics
/// Under `TERCET_INTEROP=required` where the peer cannot be had.
pub fn js_peer(name: &str, config: &Value) -> Option<(Child, Value)> {
    started(name, config, js_program("peer.mjs"))
}

fn started(name: &str, config: &Value, command: Result<Command, String>) -> Option<(Child, Value)> {
    match command {
        Ok(mut command) => {
            let mut child = Child::spawn(name, command.arg(config.to_string()));
            let up = child.event("up");
            Some((child, up))
        }
        Err(reason) => skip(&reason),
    }
}

/// Says why the caller's test skips.
///
/// # Panics
/// Under `TERCET_INTEROP=required`.
pub(crate) fn skip<T>(reason: &str) -> Option<T> {
    if std::env::var_os("TERCET_INTEROP").is_some_and(|value| value == "required") {
        panic!("live interop is required: {reason}");
    }
    say(&format!("skipped: {reason}"));
    None
}

/// The Go peer, built once a test process.
pub(crate) fn go_program() -> Result<Command, String> {
    static PROGRAM: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    PROGRAM.get_or_init(build_go).clone().map(Command::new)
}

/// A program of `interop/js`, its packages installed once a test process.
pub(crate) fn js_program(name: &str) -> Result<Command, String> {
    static FOLDER: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let folder = FOLDER.get_or_init(install_js).clone()?;
    let mut node = Command::new("node");
    node.arg(folder.join(name));
    Ok(node)
}

/// A program of this package, which Cargo builds for its tests.
pub(crate) fn rust_program(name: &str) -> Result<Command, String> {
    let program = profile_dir().join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
    Ok(Command::new(program))
}

fn build_go() -> Result<PathBuf, String> {
    let (folder, _lock) = cache("interop-go");
    let program = folder.join(format!("peer{}", std::env::consts::EXE_SUFFIX));
    // Go finds out by itself whether anything has changed.
    let mut build = Command::new("go");
    build
        .args(["build", "-buildvcs=false", "-o"])
        .arg(&program)
        .arg(".")
        .current_dir(sources("go"));
    complete("go", build)?;
    Ok(program)
}

fn install_js() -> Result<PathBuf, String> {
    let (folder, _lock) = cache("interop-js");
    let sources = sources("js");
    let installed = folder.join("installed.json");
    let lock_file = fs::read(sources.join("package-lock.json")).unwrap();
    if fs::read(&installed).ok().as_deref() != Some(&lock_file) {
        for file in ["package.json", "package-lock.json", ".npmrc"] {
            fs::copy(sources.join(file), folder.join(file)).unwrap();
        }
        let mut install = Command::new("npm");
        install
            .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"])
            .current_dir(&folder);
        complete("npm", install)?;
        fs::write(&installed, &lock_file).unwrap();
    }
    // Modules are looked up beside a program, so it lies with them.
    for program in JS_PROGRAMS {
        fs::copy(sources.join(program), folder.join(program)).unwrap();
    }
    let mut version = Command::new("node");
    version.arg("--version");
    complete("node", version)?;
    Ok(folder)
}

/// Runs a tool to its end; the error is the reason to skip.
fn complete(tool: &str, mut command: Command) -> Result<(), String> {
    if let Err(error) = Command::new(tool).arg("--help").output() {
        return Err(format!("{tool} is not there ({error})"));
    }
    let mut child = Child::spawn(tool, &mut command);
    let (_, status) = child.finish(BUILD_LIMIT);
    if status.success() {
        return Ok(());
    }
    Err(format!("{tool} failed ({status})\n{}", child.said()))
}

fn sources(peer: &str) -> PathBuf {
    workspace_dir().join("tests/interop").join(peer)
}

/// A folder of the target folder, locked until the file is dropped: several test
/// processes may want the same peer.
fn cache(name: &str) -> (PathBuf, File) {
    let folder = target_dir().join("tmp").join(name);
    fs::create_dir_all(&folder).unwrap();
    let lock = File::create(folder.join(".lock")).unwrap();
    lock.lock().unwrap();
    (folder, lock)
}
