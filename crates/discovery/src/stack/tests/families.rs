//! A node of both families among nodes of one: it is where each says, for as long as that family is visited.

use super::own::unaware;
use super::*;
use crate::reach::SILENCE;
use crate::vote::Family;

const MINUTE: Duration = Duration::from_secs(60);

/// Where its record says that the first node is.
fn published(net: &Net) -> Vec<SocketAddr> {
    let endpoints = net.stack(0).record().endpoints();
    endpoints.map(|endpoint| endpoint.udp_addr()).collect()
}

/// Has one family, and knows the first node's address there.
fn newcomer(n: u64, family: Family) -> StackConfig {
    let mut config = config(n, Protocols::ALL);
    let first = match family {
        Family::V4 => address(0),
        Family::V6 => {
            config.listen = [None, Some("[::]:30306".parse().unwrap())];
            config.advertised = [None, Some(address6(n))];
            address6(0)
        }
    };
    config.core.bootnodes = vec![node_at(0, first)];
    config
}

#[test]
fn each_family_is_voted_on_published_and_withdrawn_by_itself() {
    let mut first = unaware(Protocols::ALL);
    first.listen[1] = Some("[::]:30306".parse().unwrap());
    let mut net = Net::new();
    net.add(0, first);
    for n in 1..=6 {
        net.add(n, newcomer(n, Family::V4));
    }
    for n in 7..=12 {
        net.add(n, newcomer(n, Family::V6));
    }
    assert_eq!(published(&net), []);
    let both = [address(0), address6(0)];
    assert!(net.until(2 * MINUTE, |net| published(net) == both));
    let record = net.stack(0).record().clone();
    assert_eq!((record.udp4(), record.udp6()), (Some(30303), Some(30306)));
    // Everybody learns of it, and knows the node at the address of his own family.
    let known = |net: &Net| {
        net.stacks[1..].iter().all(|(_, stack, _)| {
            let known = stack.table().get(&record.id());
            let at = known.map(|node| node.endpoint().udp_addr());
            let own = stack.record().endpoint().unwrap().ip;
            at == Some(both[usize::from(own.is_ipv6())])
                && known.and_then(Node::record) == Some(&record)
        })
    };
    assert!(net.until(5 * MINUTE, known));
    // From now on new visitors come over IPv4 alone.
    net.stacks.truncate(7);
    net.wait(SILENCE);
    assert_eq!(published(&net), both);
    for n in 13..=14 {
        net.add(n, newcomer(n, Family::V4));
    }
    net.wait(SILENCE + MINUTE);
    assert_eq!(published(&net), both[..1]);
}
