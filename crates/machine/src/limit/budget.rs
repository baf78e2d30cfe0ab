//! A budget of bytes that many owners share and that cannot leak: what is taken comes back when its guard is dropped.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A shared count of bytes in use, with a limit. Clones are the same budget.
///
/// ```
/// use tercet_machine::ByteBudget;
/// let budget = ByteBudget::new(1000);
/// let guard = budget.try_acquire(800).ok_or("full")?;
/// assert!(budget.try_acquire(300).is_none());
/// drop(guard);
/// assert_eq!(budget.used(), 0);
/// # Ok::<(), &str>(())
/// ```
#[derive(Debug, Clone)]
pub struct ByteBudget(Arc<Account>);

#[derive(Debug)]
struct Account {
    limit: usize,
    used: AtomicUsize,
}

/// Bytes taken from a [`ByteBudget`]; travels with what occupies them.
#[derive(Debug)]
pub struct BudgetGuard {
    account: Arc<Account>,
    bytes: usize,
}

impl ByteBudget {
    /// A budget of `limit` bytes.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self(Arc::new(Account {
            limit,
            used: AtomicUsize::new(0),
        }))
    }

    /// Takes `bytes`, or nothing if fewer are left.
    #[must_use]
    pub fn try_acquire(&self, bytes: usize) -> Option<BudgetGuard> {
        // The count guards no other memory, so it needs no ordering with it.
        self.0
            .used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
                used.checked_add(bytes).filter(|used| *used <= self.0.limit)
            })
            .ok()?;
        Some(BudgetGuard {
            account: Arc::clone(&self.0),
            bytes,
        })
    }

    /// The limit, in bytes.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.0.limit
    }

    /// Bytes taken and not yet given back.
    #[must_use]
    pub fn used(&self) -> usize {
        self.0.used.load(Ordering::Relaxed)
    }

    /// Bytes left.
    #[must_use]
    pub fn available(&self) -> usize {
        self.limit().saturating_sub(self.used())
    }
}

impl BudgetGuard {
    /// How many bytes it holds.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for BudgetGuard {
    fn drop(&mut self) {
        self.account.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}
