//! Single rules of the protocol.
