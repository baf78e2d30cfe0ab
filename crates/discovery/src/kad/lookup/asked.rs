//! Who has been asked on behalf of a lookup, on which path, and how it ended.

use std::net::SocketAddr;
use std::num::NonZeroU16;

use tercet_enode::NodeId;

use super::MAX_PLACES;
use super::candidates::{State, lead};

/// A node that was asked, in the order in which they were first asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Number(NonZeroU16);

#[derive(Debug)]
pub(super) struct Asked {
    pub(super) id: NodeId,
    pub(super) path: usize,
    /// `None` once it has failed.
    pub(super) state: Option<State>,
    /// Where it did not answer.
    pub(super) failed_at: Vec<SocketAddr>,
}

/// Everybody ever asked, so that a node forgotten as too far is not asked again: as many as there are questions, at most.
///
/// Nearly every name that a path does not hold is looked for here, and nearly none is found, so what is searched lies apart.
#[derive(Debug, Default)]
pub(super) struct AllAsked {
    /// By the leading bits of the id, and by the rest of it where those are the same.
    index: Vec<(u64, Number)>,
    nodes: Vec<Asked>,
}

impl AllAsked {
    pub(super) fn find(&self, id: &NodeId) -> Option<Number> {
        let at = self.place(id).ok()?;
        self.index.get(at).map(|(_, number)| *number)
    }

    pub(super) fn get(&self, number: Number) -> Option<&Asked> {
        self.nodes.get(number.at())
    }

    pub(super) fn get_mut(&mut self, number: Number) -> Option<&mut Asked> {
        self.nodes.get_mut(number.at())
    }

    /// A node is asked, for the first time or once more.
    pub(super) fn ask(&mut self, id: NodeId, path: usize) {
        match self.place(&id) {
            Ok(at) => {
                let number = self.index.get(at).map(|(_, number)| *number);
                if let Some(asked) = number.and_then(|number| self.get_mut(number)) {
                    asked.path = path;
                    asked.state = Some(State::Asked);
                }
            }
            Err(at) => {
                // All paths together ask far fewer than there are numbers.
                let Some(number) = Number::nth(self.nodes.len()) else {
                    return;
                };
                self.index.insert(at, (lead(&id), number));
                self.nodes.push(Asked {
                    id,
                    path,
                    state: Some(State::Asked),
                    failed_at: Vec::new(),
                });
            }
        }
    }

    fn place(&self, id: &NodeId) -> Result<usize, usize> {
        let leading = lead(id);
        self.index.binary_search_by(|(other, number)| {
            other
                .cmp(&leading)
                .then_with(|| self.get(*number).map(|asked| &asked.id).cmp(&Some(id)))
        })
    }
}

impl Asked {
    /// Whether a node that has failed may be asked where it is now said to be.
    pub(super) fn may_be_at(&self, place: SocketAddr) -> bool {
        self.failed_at.len() < MAX_PLACES && !self.failed_at.contains(&place)
    }
}

impl Number {
    /// The node that is asked after `before` others.
    fn nth(before: usize) -> Option<Self> {
        let number = u16::try_from(before).ok()?.checked_add(1)?;
        NonZeroU16::new(number).map(Self)
    }

    fn at(self) -> usize {
        usize::from(self.0.get() - 1)
    }
}
