//! The contract of machines, on what a node in a network really hears.

use tercet_machine::check::{Limits, Step, contract};

use super::*;

#[test]
fn the_machine_contract_holds() {
    let mut net = Net::of(&[Protocols::ALL, Protocols::V4, Protocols::V5, Protocols::ALL]);
    net.wait(Duration::from_secs(5));
    let talk = Command::Talk {
        node: recorded(net.stack(2)),
        protocol: Bytes::from_static(b"echo"),
        payload: Bytes::from_static(b"abc"),
    };
    net.run(0, talk).unwrap();
    let target = net.stack(3).record().id();
    net.run(0, Command::Lookup(target.into())).unwrap();
    net.input(0, StackInput::Close);
    let mut steps = Vec::new();
    let mut now = START.mono;
    for (at, input) in &net.script {
        if *at > now {
            steps.push(Step::Advance(*at - now));
            now = *at;
        }
        steps.push(Step::Input(input.clone()));
    }
    steps.push(Step::Advance(Duration::from_secs(60)));
    let limits = Limits {
        queued: 64,
        ..Limits::default()
    };
    let first = || stack(0, config(0, Protocols::ALL));
    let report = contract(first, &steps, limits).unwrap();
    // It was a conversation: most of what it was told, it was told in answer.
    assert!(report.outputs > net.script.len() / 2, "{report:?}");
}
