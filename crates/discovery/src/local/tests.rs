//! What is in the record, and when a new one is signed.

use std::collections::VecDeque;

use tercet_machine::Machine;
use tercet_machine::check::{Limits, Step, contract};

use super::*;

const NOW: UnixTime = UnixTime::from_millis(1_700_000_000_000);

fn local(stored: Option<u64>) -> LocalNode {
    let mut rng = MachineRng::from_seed([7; 32]);
    let key = SecretKey::generate(&mut rng);
    let mut config = LocalConfig::new([None; 2]);
    config.manual = [Some("10.0.0.1:30303".parse().unwrap()), None];
    LocalNode::with_config(key, config, stored, NOW, &mut rng).unwrap()
}

#[test]
fn the_sequence_number_starts_at_the_time_and_never_goes_back() {
    assert_eq!(local(None).record().seq(), NOW.as_millis());
    // The clock may have been ahead, or the last numbers may not have been stored.
    assert_eq!(
        local(Some(NOW.as_millis() + 5)).record().seq(),
        NOW.as_millis() + 6
    );
    assert_eq!(local(Some(1)).record().seq(), NOW.as_millis());
    // A clock that stands at its beginning.
    let mut rng = MachineRng::from_seed([7; 32]);
    let key = SecretKey::generate(&mut rng);
    let config = LocalConfig::new([None; 2]);
    let first = LocalNode::with_config(key, config, None, UnixTime::EPOCH, &mut rng).unwrap();
    assert_eq!(first.record().seq(), 1, "0 stands for no record");
}

#[test]
fn an_entry_that_does_not_fit_changes_nothing() {
    let mut local = local(None);
    let before = local.record().clone();
    let long = rlp::encode(&[0xaa_u8; 250].as_slice()).freeze();
    assert!(matches!(
        local.set_entry(b"long".to_vec(), long),
        Err(EntryError::Record(_))
    ));
    for key in RESERVED {
        let refused = local.set_entry(key.to_vec(), Bytes::from_static(&[0x80]));
        assert_eq!(refused, Err(EntryError::Reserved));
    }
    assert_eq!(*local.record(), before);
    assert_eq!(local.set_tcp_port(30303), Ok(true));
    assert_eq!(local.set_tcp_port(30303), Ok(false));
    assert_eq!(
        (local.record().seq(), local.record().tcp4()),
        (before.seq() + 1, Some(30303))
    );
}

fn any_address() -> LocalConfig {
    LocalConfig {
        min_voices: 3,
        ..LocalConfig::new([
            Some("0.0.0.0:30303".parse().unwrap()),
            Some("[::]:30303".parse().unwrap()),
        ])
    }
}

fn with(config: LocalConfig) -> LocalNode {
    let mut rng = MachineRng::from_seed([7; 32]);
    let key = SecretKey::generate(&mut rng);
    LocalNode::with_config(key, config, None, NOW, &mut rng).unwrap()
}

fn at(seconds: u64) -> Now {
    let start = Now {
        mono: MonoTime::ZERO,
        unix: NOW,
    };
    start.after(Duration::from_secs(seconds))
}

/// Ends with every voter's statement heard; the last record, if there was a new one.
fn vote(local: &mut LocalNode, now: Now, seen_as: &str) -> Option<NodeRecord> {
    let seen_as: SocketAddr = seen_as.parse().unwrap();
    let mut last = None;
    for n in 0..3_u8 {
        let voter = match seen_as {
            SocketAddr::V4(_) => IpAddr::from([40 + n, 0, 0, 1]),
            SocketAddr::V6(_) => IpAddr::from([0x2a10 + u16::from(n), 0, 0, 0, 0, 0, 0, 1]),
        };
        last = local.on_vote(now, voter, seen_as).or(last);
    }
    last
}

fn visit(local: &mut LocalNode, now: Now, family: Family) -> Option<NodeRecord> {
    let visitors = match family {
        Family::V4 => ["50.0.0.1:1", "51.0.0.1:1"],
        Family::V6 => ["[2a20::1]:1", "[2a21::1]:1"],
    };
    let mut last = None;
    for visitor in visitors {
        last = local.on_unsolicited(now, visitor.parse().unwrap()).or(last);
    }
    last
}

/// The record's entries about endpoints.
fn endpoint_keys(record: &NodeRecord) -> String {
    let keys = record.iter().map(|(key, _)| String::from_utf8_lossy(key));
    let keys: Vec<_> = keys
        .filter(|key| key != "id" && key != "secp256k1")
        .collect();
    keys.join(" ")
}

#[test]
fn a_fresh_node_at_any_address_publishes_no_endpoint_until_it_is_voted_and_visited() {
    let mut local = with(any_address());
    assert_eq!(endpoint_keys(local.record()), "");
    assert_eq!(vote(&mut local, at(1), "20.0.0.1:4000"), None);
    let first = local.record().seq();
    let record = visit(&mut local, at(2), Family::V4).unwrap();
    assert_eq!(
        record.endpoint().unwrap().udp_addr(),
        "20.0.0.1:4000".parse().unwrap()
    );
    assert_eq!(
        (endpoint_keys(&record), record.seq()),
        ("ip udp".into(), first + 1)
    );
    assert_eq!(*local.record(), record);
    // Said and visited again, nothing is new.
    assert_eq!(vote(&mut local, at(3), "20.0.0.1:4000"), None);
    assert_eq!(visit(&mut local, at(3), Family::V4), None);
}

#[test]
fn both_families_stand_in_one_record_each_with_its_udp_port() {
    let mut local = with(any_address());
    local.set_tcp_port(30303).unwrap();
    vote(&mut local, at(1), "[2a00::1]:30303");
    let record = visit(&mut local, at(1), Family::V6).unwrap();
    assert_eq!(endpoint_keys(&record), "ip6 tcp6 udp6");
    vote(&mut local, at(100), "20.0.0.1:30303");
    let record = visit(&mut local, at(100), Family::V4).unwrap();
    assert_eq!(endpoint_keys(&record), "ip ip6 tcp udp udp6");
    assert_eq!((record.udp4(), record.udp6()), (Some(30303), Some(30303)));
    vote(&mut local, at(200), "20.0.0.1:4000");
    let endpoints: Vec<_> = local.record().endpoints().map(|e| e.udp_addr()).collect();
    let expected = ["20.0.0.1:4000", "[2a00::1]:30303"].map(|a| a.parse().unwrap());
    assert_eq!(endpoints, expected);
    assert!(local.record().endpoints().all(|e| e.tcp == 30303));
}

#[test]
fn the_hand_goes_before_the_vote_and_the_vote_before_the_socket() {
    let mut config = any_address();
    config.listen[0] = Some("10.0.0.5:30303".parse().unwrap());
    let mut local = with(config);
    let published = |local: &LocalNode| local.record().endpoint().map(|e| e.udp_addr());
    let is = |address: &str| Some(address.parse::<SocketAddr>().unwrap());
    assert_eq!(published(&local), is("10.0.0.5:30303"));
    vote(&mut local, at(1), "20.0.0.1:4000");
    visit(&mut local, at(1), Family::V4).unwrap();
    assert_eq!(published(&local), is("20.0.0.1:4000"));
    let by_hand = is("30.0.0.1:0");
    assert_eq!(local.set_manual(Family::V4, by_hand), Ok(true));
    assert_eq!(local.set_manual(Family::V4, by_hand), Ok(false));
    assert_eq!(published(&local), is("30.0.0.1:30303"));
    // Neither another vote nor a year of silence moves it.
    vote(&mut local, at(100), "20.0.0.2:4000");
    local.handle_timeout(at(365 * 86_400));
    assert_eq!(published(&local), is("30.0.0.1:30303"));
    // Taken back: what was voted was withdrawn meanwhile, the socket is left.
    assert_eq!(local.set_manual(Family::V4, None), Ok(true));
    assert_eq!(published(&local), is("10.0.0.5:30303"));
}

#[test]
fn votes_that_flap_burn_two_numbers_a_minute() {
    let mut local = with(any_address());
    vote(&mut local, at(1), "20.0.0.1:4000");
    visit(&mut local, at(1), Family::V4).unwrap();
    let first = local.record().seq();
    for second in 2..602 {
        let address = format!("20.0.0.{}:4000", second % 200);
        vote(&mut local, at(second), &address);
        visit(&mut local, at(second), Family::V4);
        local.handle_timeout(at(second));
        let deadline = local.deadline().unwrap();
        assert!(deadline > at(second).mono);
    }
    let signed = local.record().seq() - first;
    assert!(
        (10..=20).contains(&signed),
        "{signed} records in ten minutes"
    );
    // The last address is published when its time has come, without another word.
    let last = local.deadline().unwrap();
    local.handle_timeout(at(0).after(last - MonoTime::ZERO));
    let ip = local.record().ip4();
    assert_eq!(ip, Some([20, 0, 0, 1].into()));
}

#[test]
fn an_entry_cannot_take_the_room_of_an_endpoint_to_come() {
    let mut local = with(any_address());
    let fits = |local: &mut LocalNode, len: usize| {
        let value = rlp::encode(&vec![0xaa_u8; len].as_slice()).freeze();
        local.set_entry(b"x".to_vec(), value).is_ok()
    };
    let longest = (1..300).take_while(|len| fits(&mut local, *len)).count();
    assert!((60..200).contains(&longest), "{longest}");
    local.set_tcp_port(u16::MAX).unwrap();
    vote(&mut local, at(1), "20.100.100.100:65535");
    visit(&mut local, at(1), Family::V4).unwrap();
    vote(&mut local, at(100), "[2a00::ffff:ffff:ffff:ffff]:65534");
    let record = visit(&mut local, at(100), Family::V6).unwrap();
    assert_eq!(endpoint_keys(&record), "ip ip6 tcp udp udp6 x");
    assert!(record.raw().len() <= 300);
    assert_eq!(local.remove_entry(b"x"), Ok(true));
    assert_eq!(local.remove_entry(b"x"), Ok(false));
    assert_eq!(local.remove_entry(b"udp"), Err(EntryError::Reserved));
    assert_eq!(endpoint_keys(local.record()), "ip ip6 tcp udp udp6");
}

#[test]
fn only_a_family_with_a_socket_is_voted_on() {
    let mut config = any_address();
    config.listen[1] = None;
    let mut local = with(config);
    assert_eq!(vote(&mut local, at(1), "[2a00::1]:30303"), None);
    assert_eq!(visit(&mut local, at(1), Family::V6), None);
    assert_eq!(endpoint_keys(local.record()), "");
}

/// The record as a machine's output, for the check of the contract.
struct AsMachine {
    local: LocalNode,
    records: VecDeque<NodeRecord>,
}

#[derive(Clone)]
enum Word {
    Vote(IpAddr, SocketAddr),
    Visit(SocketAddr),
}

impl Machine for AsMachine {
    type Input = Word;
    type Output = NodeRecord;

    fn handle(&mut self, now: Now, input: Word) {
        let record = match input {
            Word::Vote(voter, seen_as) => self.local.on_vote(now, voter, seen_as),
            Word::Visit(from) => self.local.on_unsolicited(now, from),
        };
        self.records.extend(record);
    }

    fn handle_timeout(&mut self, now: Now) {
        self.records.extend(self.local.handle_timeout(now));
    }

    fn deadline(&self) -> Option<MonoTime> {
        self.local.deadline()
    }

    fn poll(&mut self) -> Option<NodeRecord> {
        self.records.pop_front()
    }
}

#[test]
fn the_contract_of_machines_holds() {
    use rand::RngExt;

    let mut rng = MachineRng::from_seed([9; 32]);
    let steps: Vec<_> = (0..4000)
        .map(|_| {
            let (net, ours) = (rng.random_range(0..30), rng.random_range(0..20_u8));
            let from = IpAddr::from([40 + net, 0, 0, 1]);
            match rng.random_range(0..10) {
                0..6 => {
                    // Mostly one address, so that there are majorities, and now and then another.
                    let ours = [20, 0, 0, u8::from(ours == 0)];
                    Step::Input(Word::Vote(from, SocketAddr::new(ours.into(), 30303)))
                }
                6 => Step::Input(Word::Visit(SocketAddr::new(from, 1))),
                7 => Step::Advance(Duration::from_millis(rng.random_range(0..100_000))),
                8 if ours == 1 => Step::Advance(Duration::from_secs(10_000)),
                _ => Step::Advance(Duration::from_secs(1)),
            }
        })
        .collect();
    let make = || AsMachine {
        local: with(LocalConfig {
            trials: true,
            ..any_address()
        }),
        records: VecDeque::new(),
    };
    let limits = Limits {
        queued: 1,
        ..Limits::default()
    };
    let report = contract(make, &steps, limits).unwrap();
    assert!(report.outputs > 10, "{report:?}");
}
