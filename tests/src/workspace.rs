//! Where things are: the workspace, the target folder of this very build, the
//! `tercet` program, the chain data beside the project.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The root of the workspace.
pub fn workspace_dir() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the package lies in the workspace")
}

/// The folder that the running test was built into: `target/debug` or its like.
pub(crate) fn profile_dir() -> PathBuf {
    let test = std::env::current_exe().expect("the path of this test");
    let deps = test.parent().expect("a folder");
    deps.parent().expect("deps lies in a folder").to_owned()
}

/// Cargo's target folder, found from the running test: whatever set it applies.
pub fn target_dir() -> PathBuf {
    profile_dir().parent().expect("a target folder").to_owned()
}

/// A command that runs the `tercet` program of this build.
///
/// Cargo builds a package's program for that package's own tests only, so it is
/// built here, once a test process: as `./run` builds it, with the features of the
/// whole workspace, so that no dependency is built twice.
///
/// # Panics
/// When it does not build.
pub fn tercet() -> Command {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    let program = PROGRAM.get_or_init(|| {
        let profile_dir = profile_dir();
        let profile = match profile_dir.file_name().and_then(|name| name.to_str()) {
            Some("debug") | None => "dev",
            Some(name) => name,
        };
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let built = Command::new(cargo)
            .args(["build", "--quiet", "--workspace", "--bin", "tercet"])
            .arg("--profile")
            .arg(profile)
            .arg("--target-dir")
            .arg(target_dir())
            .current_dir(workspace_dir())
            .status()
            .expect("cargo runs");
        assert!(built.success(), "tercet does not build");
        profile_dir.join(format!("tercet{}", std::env::consts::EXE_SUFFIX))
    });
    Command::new(program)
}

/// The 600-block chain beside the project, or `None` where it is absent; the
/// caller says that it skips.
pub fn chain_folder() -> Option<PathBuf> {
    let folder = workspace_dir().join("../shared/data/chain");
    folder.join("chain.rlp").exists().then_some(folder)
}

/// Prints a line that a passing test's captured output would hide.
pub fn say(line: &str) {
    // Only a closed standard error can fail this, and then nobody reads it.
    let _ = writeln!(std::io::stderr(), "{line}");
}
