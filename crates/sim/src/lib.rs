//! A network of state machines in virtual time: links with latency, loss, duplication, reordering and an MTU, NATs, partitions,
//! churn and byte streams, from one seed, on one thread or, for datagrams, on several with the same result. Anything that
//! implements [`tercet_machine::Machine`] runs in it as it does under a socket.
//!
//! An [`Adapter`] stands between a machine and the network. This one plays ping-pong:
//!
//! ```
//! use std::net::SocketAddr;
//! use std::time::Duration;
//! use tercet_machine::{Machine, MonoTime, Now};
//! use tercet_sim::{Actions, Adapter, Event, LinkProfile, Place, Simulation};
//!
//! /// Counts what it receives and sends one less back.
//! #[derive(Default)]
//! struct Player { balls: u32, out: Option<(SocketAddr, u8)> }
//!
//! impl Machine for Player {
//!     type Input = (SocketAddr, u8);
//!     type Output = (SocketAddr, u8);
//!     fn handle(&mut self, _: Now, (from, left): (SocketAddr, u8)) {
//!         self.balls += 1;
//!         self.out = left.checked_sub(1).map(|left| (from, left));
//!     }
//!     fn handle_timeout(&mut self, _: Now) {}
//!     fn deadline(&self) -> Option<MonoTime> { None }
//!     fn poll(&mut self) -> Option<(SocketAddr, u8)> { self.out.take() }
//! }
//!
//! struct Table;
//!
//! impl Adapter for Table {
//!     type Machine = Player;
//!     type Packet = Vec<u8>;
//!     fn deliver(&mut self, _: Now, event: Event<Vec<u8>>) -> Option<(SocketAddr, u8)> {
//!         match event {
//!             Event::Datagram { from, packet } => Some((from, *packet.first()?)),
//!             _ => None,
//!         }
//!     }
//!     fn act(&mut self, _: Now, (to, left): (SocketAddr, u8), actions: &mut Actions<Vec<u8>, (SocketAddr, u8)>) {
//!         actions.send(to, vec![left]);
//!     }
//! }
//!
//! let mut sim = Simulation::new(7);
//! sim.set_default_link(LinkProfile::default().latency(Duration::from_millis(10), Duration::from_millis(30)));
//! let (a, b) = ("10.0.0.1:1".parse()?, "10.0.0.2:1".parse()?);
//! let first = sim.add_node(Place::public(a), Table, Player::default())?;
//! let second = sim.add_node(Place::public(b), Table, Player::default())?;
//! sim.input(first, (b, 9))?;
//! sim.run_for(Duration::from_secs(1))?;
//! assert_eq!(sim.machine(first).map(|player| player.balls), Some(5));
//! assert_eq!(sim.machine(second).map(|player| player.balls), Some(5));
//! println!("{:?}, trace {}", sim.counts(), sim.trace_hash());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod adapter;
mod agenda;
mod datagrams;
mod error;
mod link;
mod nat;
mod node;
mod share;
mod simulation;
mod stream;
mod streams;
mod trace;
mod windows;
mod world;

pub use adapter::{Actions, Adapter, Event, Packet, StreamId};
pub use error::SimError;
pub use link::LinkProfile;
pub use nat::NatKind;
pub use simulation::{Counts, NatKey, NodeKey, START, Simulation};
pub use stream::MAX_IN_FLIGHT;
pub use trace::TraceHash;
pub use world::Place;

/// Runs the README's example as a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
