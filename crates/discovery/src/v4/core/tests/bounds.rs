//! Every bound is reached once.
