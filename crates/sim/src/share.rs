//! A share of a simulation's nodes, with what is going to happen to them. One thread plays a share; there is one share until a
//! run on several threads asks for more.

use crate::adapter::Adapter;
use crate::agenda::Agenda;
use crate::datagrams::Flight;
use crate::node::Node;
use crate::simulation::NodeKey;
use crate::streams::Due;

/// What waits for its time.
pub(crate) enum Pending<P> {
    Wake(NodeKey),
    Datagram(Flight<P>),
    Stream(Due),
}

pub(crate) struct Share<A: Adapter> {
    pub(crate) agenda: Agenda<Pending<A::Packet>>,
    /// By key, as keys are given out in order; those of other shares and those removed leave gaps.
    nodes: Vec<Option<Box<Node<A>>>>,
}

impl<A: Adapter> Share<A> {
    pub(crate) const fn new() -> Self {
        Self {
            agenda: Agenda::new(),
            nodes: Vec::new(),
        }
    }

    pub(crate) fn insert(&mut self, node: Box<Node<A>>) {
        let index = node.key.index();
        if self.nodes.len() <= index {
            self.nodes.resize_with(index + 1, || None);
        }
        if let Some(place) = self.nodes.get_mut(index) {
            *place = Some(node);
        }
    }

    pub(crate) fn remove(&mut self, key: NodeKey) -> Option<Box<Node<A>>> {
        self.nodes.get_mut(key.index())?.take()
    }

    pub(crate) fn node(&self, key: NodeKey) -> Option<&Node<A>> {
        self.nodes.get(key.index())?.as_deref()
    }

    pub(crate) fn node_mut(&mut self, key: NodeKey) -> Option<&mut Node<A>> {
        self.nodes.get_mut(key.index())?.as_deref_mut()
    }

    /// All nodes and the agenda.
    pub(crate) fn into_parts(
        self,
    ) -> (
        impl Iterator<Item = Box<Node<A>>>,
        Agenda<Pending<A::Packet>>,
    ) {
        (self.nodes.into_iter().flatten(), self.agenda)
    }
}
