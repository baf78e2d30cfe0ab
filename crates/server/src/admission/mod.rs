//! Who is let in before and apart from the slots: allowed networks, the inbound
//! throttle, bans.

mod bans;
mod netrestrict;
mod throttle;

pub(crate) use bans::Bans;
pub use netrestrict::Netrestrict;
pub(crate) use throttle::Throttle;
