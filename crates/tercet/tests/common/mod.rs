//! Runs the program and reads what it says.
#![allow(dead_code, unreachable_pub)] // each test file uses its share
#![allow(clippy::unwrap_used)] // a failed expectation is the test's result

use std::process::{Command, Output};

/// The key of EIP-778's example record.
pub const KEY: &str = "b71c71a67e1177ad4e901695e1b4b9ee17ae16c6668d313eac2f96dbcda3f291";

/// The program with `args`, not yet started.
pub fn tercet(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tercet"));
    command.args(args);
    command
}

/// Runs the program to its end.
pub fn run(args: &[&str]) -> Output {
    tercet(args).output().unwrap()
}

/// Runs the program, which must succeed, and returns what it printed.
pub fn ok(args: &[&str]) -> String {
    let output = run(args);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {stderr}");
    String::from_utf8(output.stdout).unwrap()
}

/// Runs the program, which must succeed, and returns its one line of JSON.
pub fn json(args: &[&str]) -> serde_json::Value {
    let text = ok(args);
    assert_eq!(text.lines().count(), 1, "{text}");
    serde_json::from_str(&text).unwrap()
}

/// Runs the program, which must refuse its input: exit code 2, nothing on stdout, one line on stderr that holds `part`.
pub fn bad_input(args: &[&str], part: &str) {
    fails(args, 2, part);
}

/// Runs the program, which must fail with `code` and one line on stderr that holds `part`.
pub fn fails(args: &[&str], code: i32, part: &str) {
    let output = run(args);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{args:?}: {stderr}");
    assert!(output.stdout.is_empty(), "{args:?} printed on stdout");
    assert_eq!(stderr.lines().count(), 1, "{args:?}: {stderr}");
    assert!(
        stderr.starts_with("error: ") && stderr.contains(part),
        "{args:?}: {stderr}"
    );
}
