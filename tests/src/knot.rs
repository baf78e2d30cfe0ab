//! A DNS server (knot, from Debian) on loopback for the tests of lists of nodes in DNS.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU8, Ordering};

use crate::Child;
use crate::workspace::say;

/// A running server with a zone file for each zone, and where it listens. `None`: there is no knot, and the reason was printed.
///
/// # Panics
/// Where `CI` is set and there is none, and when it does not start.
pub fn knot(folder: &Path, zones: &[(&str, String)]) -> Option<(Child, SocketAddr)> {
    let program = ["/usr/sbin/knotd", "/usr/local/sbin/knotd"];
    let Some(program) = program.into_iter().find(|path| Path::new(path).exists()) else {
        assert!(
            std::env::var_os("CI").is_none(),
            "knot is required: apt-get install knot"
        );
        say("skipped: knot is not there ('sudo apt-get install knot')");
        return None;
    };
    let address = own_address();
    let (ip, port) = (address.ip(), address.port());
    let at = folder.display();
    let mut config = format!(
        "server:\n  rundir: \"{at}\"\n  listen: {ip}@{port}\nlog:\n  - target: stdout\n    any: info\ndatabase:\n  storage: \"{at}\"\nzone:\n"
    );
    for (name, content) in zones {
        std::fs::write(folder.join(format!("{name}.zone")), content).unwrap();
        writeln!(
            config,
            "  - domain: {name}\n    file: \"{at}/{name}.zone\"\n    journal-content: none"
        )
        .unwrap();
    }
    let file = folder.join("knot.conf");
    std::fs::write(&file, config).unwrap();
    let mut child = Child::spawn("knot", Command::new(program).arg("-c").arg(file));
    for _ in zones {
        child.wait_for("a loaded zone", |line| {
            line.contains("loaded, serial").then_some(())
        });
    }
    Some((child, address))
}

/// An address that no other server of this machine's tests has: the whole of 127.0.0.0/8 is this machine, and the place in it
/// is made of the process and a count. Below the ports the system chooses from.
fn own_address() -> SocketAddr {
    static SERVERS: AtomicU8 = AtomicU8::new(1);
    let server = SERVERS.fetch_add(1, Ordering::Relaxed);
    let [_, _, high, low] = std::process::id().to_be_bytes();
    SocketAddr::from(([127, server, high, low], 15_353))
}
