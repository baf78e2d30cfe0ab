//! One peer's conversation: the exchange of Status, and then which message is
//! what, which of our requests it answers, and what breaks the rules.

mod core;
mod handshake;
mod requests;

pub use core::SessionError;
pub use core::{Ask, SessionCore, SessionInput, SessionOutput};
pub use handshake::{StatusError, check_status, local_status};
pub use requests::RequestError;
