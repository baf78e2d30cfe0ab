//! What a machine has put out and nobody has taken yet.

/// A first-in-first-out queue that is emptied after each input, as [`Machine::poll`](crate::Machine::poll) asks for. Unbounded: what
/// one input puts out is bounded by the machine.
///
/// Whenever it runs empty it starts over at the beginning of its memory. A ring (`VecDeque`) goes round through all of it, and with a few
/// items of 256 bytes at a time meets memory that no cache holds any more: a tenth of all cache misses of a network of
/// discovery nodes.
///
/// ```
/// use tercet_machine::Outputs;
/// let mut out = Outputs::new();
/// out.push("ping");
/// out.push("pong");
/// assert_eq!(out.pop(), Some("ping"));
/// assert_eq!(out.pop(), Some("pong"));
/// assert_eq!(out.pop(), None);
/// ```
#[derive(Debug, Clone)]
pub struct Outputs<T> {
    /// Those before `taken` are gone.
    items: Vec<Option<T>>,
    taken: usize,
}

/// Room kept when it runs empty, so that a burst is not remembered for ever.
const KEPT: usize = 64;

impl<T> Outputs<T> {
    /// An empty queue.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            items: Vec::new(),
            taken: 0,
        }
    }

    /// Appends `item`.
    pub fn push(&mut self, item: T) {
        self.items.push(Some(item));
    }

    /// Takes the oldest item.
    pub fn pop(&mut self) -> Option<T> {
        let item = self.items.get_mut(self.taken)?.take();
        self.taken += 1;
        if self.is_empty() {
            // The next item goes to the beginning again.
            self.items.clear();
            self.taken = 0;
            if self.items.capacity() > KEPT {
                self.items.shrink_to(KEPT);
            }
        }
        item
    }

    /// Whether nothing waits.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.taken >= self.items.len()
    }
}

impl<T> Default for Outputs<T> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)] // a test fails by panicking
mod tests {
    use super::{KEPT, Outputs};

    #[test]
    fn each_turn_begins_at_the_same_place() {
        let mut out = Outputs::new();
        let first = {
            out.push(0);
            std::ptr::from_ref(out.items.first().expect("it was pushed"))
        };
        for turn in 1..100 {
            assert_eq!(out.pop(), Some(turn - 1));
            out.push(turn);
            assert!(std::ptr::eq(
                first,
                out.items.first().expect("it was pushed")
            ));
        }
    }

    #[test]
    fn a_burst_is_not_kept() {
        let mut out = Outputs::new();
        for item in 0..100 * KEPT {
            out.push(item);
        }
        for item in 0..100 * KEPT {
            assert_eq!(out.pop(), Some(item));
        }
        assert!(out.is_empty() && out.items.capacity() <= 2 * KEPT);
    }
}
