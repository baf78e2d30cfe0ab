//! A queue that cannot grow past its bound.

use std::collections::VecDeque;

/// A first-in-first-out queue of at most `capacity` items. When it is full, the caller chooses who loses: the newcomer
/// ([`push`](Self::push)) or the oldest ([`push_evicting`](Self::push_evicting)); either is handed back, so that it can be
/// counted. Memory grows with use and shrinks back when the queue runs empty.
///
/// ```
/// use tercet_machine::BoundedQueue;
/// let mut queue = BoundedQueue::new(2);
/// assert!(queue.push(1).is_ok() && queue.push(2).is_ok());
/// assert_eq!(queue.push(3).unwrap_err().0, 3);
/// assert_eq!(queue.push_evicting(3), Some(1));
/// assert_eq!(queue.pop(), Some(2));
/// ```
#[derive(Debug, Clone)]
pub struct BoundedQueue<T> {
    items: VecDeque<T>,
    capacity: usize,
}

/// The queue was full; here is the item back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the queue is full")]
pub struct Full<T>(pub T);

/// Room kept when the queue runs empty, so that a short queue does not allocate at every turn.
const KEPT: usize = 64;

impl<T> BoundedQueue<T> {
    /// An empty queue for at most `capacity` items.
    #[must_use]
    pub const fn new(capacity: usize) -> Self {
        Self {
            items: VecDeque::new(),
            capacity,
        }
    }

    /// Appends `item`.
    ///
    /// # Errors
    /// [`Full`] with the item.
    pub fn push(&mut self, item: T) -> Result<(), Full<T>> {
        if self.is_full() {
            return Err(Full(item));
        }
        self.items.push_back(item);
        Ok(())
    }

    /// Appends `item`; when full, the oldest makes room and is returned (with capacity 0, the item itself is).
    pub fn push_evicting(&mut self, item: T) -> Option<T> {
        if self.capacity == 0 {
            return Some(item);
        }
        let evicted = if self.is_full() {
            self.items.pop_front()
        } else {
            None
        };
        self.items.push_back(item);
        evicted
    }

    /// Takes the oldest item.
    pub fn pop(&mut self) -> Option<T> {
        let item = self.items.pop_front();
        if self.items.is_empty() && self.items.capacity() > KEPT {
            self.items.shrink_to(KEPT);
        }
        item
    }

    /// The oldest item.
    #[must_use]
    pub fn peek(&self) -> Option<&T> {
        self.items.front()
    }

    /// The items, oldest first.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &T> {
        self.items.iter()
    }

    /// How many items wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Whether the bound is reached.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.items.len() >= self.capacity
    }

    /// The bound.
    #[must_use]
    pub const fn capacity(&self) -> usize {
        self.capacity
    }
}
