//! Room for file descriptors. Every connection and every database file takes one, and the limit a shell hands on is often
//! 1024; a process may raise it to the hard limit by itself.

use std::io;

/// The system does not let this process open as many files as it would need.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum DescriptorError {
    /// The hard limit is too low.
    #[error(
        "{wanted} open files are needed and {limit} are allowed: raise the limit (ulimit -Hn) or run fewer nodes"
    )]
    Limit { wanted: u64, limit: u64 },
    /// The limit could not be changed.
    #[error("cannot raise the limit of open files to {wanted}")]
    Raise { wanted: u64, source: io::Error },
}

/// Makes sure that `wanted` files can be open at the same time.
#[cfg(unix)]
pub(crate) fn ensure(wanted: usize) -> Result<(), DescriptorError> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let wanted = wanted as u64;
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    // No limit is `None`.
    if current.is_none_or(|current| current >= wanted) {
        return Ok(());
    }
    if let Some(limit) = maximum.filter(|limit| *limit < wanted) {
        return Err(DescriptorError::Limit { wanted, limit });
    }
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: Some(wanted),
            maximum,
        },
    )
    .map_err(|error| DescriptorError::Raise {
        wanted,
        source: error.into(),
    })
}

/// Elsewhere there is no such limit to raise.
#[cfg(not(unix))]
pub(crate) fn ensure(_wanted: usize) -> Result<(), DescriptorError> {
    Ok(())
}

#[cfg(all(test, unix))]
mod tests {
    use super::{DescriptorError, ensure};

    #[test]
    fn what_is_allowed_is_raised_and_more_is_refused() {
        ensure(64).unwrap();
        if let Err(DescriptorError::Limit { wanted, limit }) = ensure(usize::MAX) {
            assert!(limit < wanted);
        }
    }
}
