//! A lookup without any haste: lists that are sorted and counted anew each time.

use super::*;
use crate::kad::bucket::BUCKET_SIZE;

#[derive(Clone)]
struct Known {
    node: Node,
    state: State,
    namer: Option<NodeId>,
    elsewhere: Option<Node>,
}

struct Asked {
    path: usize,
    /// `None` once it has failed.
    state: Option<State>,
    node: Node,
    places: Vec<(IpAddr, u16)>,
}

pub(super) struct Plain {
    local: NodeId,
    target: NodeId,
    paths: Vec<Vec<Known>>,
    queries: Vec<usize>,
    asked: BTreeMap<NodeId, Asked>,
    /// The addresses of all questions.
    asked_at: Vec<(NodeId, IpAddr)>,
}

impl Plain {
    pub(super) fn new(local: NodeId, target: NodeId, start: Vec<Node>, paths: usize) -> Self {
        let mut plain = Self {
            local,
            target,
            paths: vec![Vec::new(); paths],
            queries: vec![0; paths],
            asked: BTreeMap::new(),
            asked_at: Vec::new(),
        };
        plain.learn(None, start);
        plain
    }

    pub(super) fn learn(&mut self, from: Option<NodeId>, nodes: Vec<Node>) {
        for (turn, node) in nodes.into_iter().enumerate() {
            let path = match from {
                Some(from) => self.asked[&from].path,
                None => turn % self.paths.len(),
            };
            self.admit(path, from, node);
        }
    }

    fn next_on(&self, at: usize) -> Option<Node> {
        let alive = self.paths[at].iter().filter(|known| {
            let ip = known.node.endpoint().ip;
            let asked = self.asked_at.iter().copied();
            known.state != State::New
                || self.fits(4, (known.node.id(), ip), &asked.collect::<Vec<_>>())
        });
        let selected = self.spread(alive.collect());
        let next = selected.iter().find(|known| known.state == State::New);
        next.map(|known| known.node.clone())
    }

    pub(super) fn next_query(&mut self) -> Option<Node> {
        let (at, node) = (0..self.paths.len())
            .filter(|at| self.flying(*at) < ALPHA && self.queries[*at] < MAX_QUERIES)
            .find_map(|at| Some((at, self.next_on(at)?)))?;
        let endpoint = *node.endpoint();
        self.queries[at] += 1;
        self.asked_at.push((node.id(), endpoint.ip));
        let asked = self.asked.entry(node.id()).or_insert_with(|| Asked {
            path: at,
            state: None,
            node: node.clone(),
            places: Vec::new(),
        });
        (asked.path, asked.state, asked.node) = (at, Some(State::Asked), node.clone());
        asked.places.push((endpoint.ip, endpoint.udp));
        for known in self.everywhere(&node.id()) {
            known.state = State::Asked;
            if known.node.endpoint() != node.endpoint() {
                let other = std::mem::replace(&mut known.node, node.clone());
                known.elsewhere.get_or_insert(other);
            }
        }
        Some(node)
    }

    pub(super) fn end(&mut self, id: &NodeId, answered: bool) {
        let state = answered.then_some(State::Answered);
        self.asked.get_mut(id).expect("it was asked").state = state;
        if answered {
            for known in self.everywhere(id) {
                known.state = State::Answered;
            }
            return;
        }
        for at in 0..self.paths.len() {
            let gone = self.paths[at].extract_if(.., |known| known.node.id() == *id);
            let elsewhere = gone.filter_map(|gone| gone.elsewhere).next();
            if let Some(node) = elsewhere {
                self.admit(at, None, node);
            }
        }
    }

    pub(super) fn is_done(&self) -> bool {
        (0..self.paths.len()).all(|at| {
            let over = self.queries[at] >= MAX_QUERIES || self.next_on(at).is_none();
            self.flying(at) == 0 && over
        })
    }

    pub(super) fn closest(&self) -> Vec<Node> {
        let mut all = self.all();
        all.retain(|known| known.state == State::Answered);
        let found = self.spread(all.iter().collect());
        found.into_iter().map(|known| known.node.clone()).collect()
    }

    pub(super) fn seen(&self) -> Vec<Node> {
        let all = self.all().into_iter().map(|known| known.node);
        all.take(MAX_CANDIDATES).collect()
    }

    fn all(&self) -> Vec<Known> {
        let mut all = self.paths.concat();
        self.sort(&mut all);
        all.dedup_by_key(|known| known.node.id());
        all
    }

    fn sort(&self, list: &mut [Known]) {
        list.sort_by_key(|known| self.target.distance(&known.node.id()));
    }

    fn everywhere(&mut self, id: &NodeId) -> impl Iterator<Item = &mut Known> {
        let all = self.paths.iter_mut().flatten();
        all.filter(|known| known.node.id() == *id)
    }

    fn flying(&self, at: usize) -> usize {
        let flying = |asked: &&Asked| asked.path == at && asked.state == Some(State::Asked);
        self.asked.values().filter(flying).count()
    }

    fn admit(&mut self, at: usize, namer: Option<NodeId>, node: Node) {
        let mut state = State::New;
        if let Some(asked) = self.asked.get(&node.id()) {
            let place = (node.endpoint().ip, node.endpoint().udp);
            match asked.state {
                Some(known) => {
                    state = known;
                    self.insert(at, asked.node.clone(), namer, state);
                }
                None if asked.places.len() >= MAX_PLACES || asked.places.contains(&place) => return,
                None => {}
            }
        }
        if node.id() != self.local {
            self.insert(at, node, namer, state);
        }
    }

    fn insert(&mut self, at: usize, node: Node, namer: Option<NodeId>, state: State) {
        let mut known = self.paths[at].iter_mut();
        if let Some(known) = known.find(|known| known.node.id() == node.id()) {
            if known.state == State::Answered || known.node.endpoint() == node.endpoint() {
                return;
            }
            if known.state == State::New && node.seq() > known.node.seq() {
                known.elsewhere = Some(std::mem::replace(&mut known.node, node));
            } else {
                known.elsewhere.get_or_insert(node);
            }
            return;
        }
        if state == State::New && !self.make_room(at, &node, namer) {
            return;
        }
        let mut list = std::mem::take(&mut self.paths[at]);
        list.push(Known {
            node,
            state,
            namer,
            elsewhere: None,
        });
        self.sort(&mut list);
        self.paths[at] = list;
    }

    fn make_room(&mut self, at: usize, new: &Node, namer: Option<NodeId>) -> bool {
        let mut left = self.paths[at].clone();
        let of_new = self.subnets(new.id(), new.endpoint().ip);
        let narrow = of_new.map_or(usize::MAX, |(narrow, _)| 2 * limit(narrow));
        let wide = of_new.map_or(usize::MAX, |(_, wide)| 2 * limit(wide));
        for (rule, limit) in [narrow, wide, MAX_NAMED, MAX_CANDIDATES]
            .into_iter()
            .enumerate()
        {
            let group = left.iter().filter(|old| {
                let of_old = self.subnets(old.node.id(), old.node.endpoint().ip);
                let is_one = match rule {
                    0 => of_new.map(|both| both.0) == of_old.map(|both| both.0),
                    1 => of_new.map(|both| both.1) == of_old.map(|both| both.1),
                    2 => namer.is_some() && namer == old.namer,
                    _ => true,
                };
                old.state == State::New && is_one
            });
            let group: Vec<NodeId> = group.map(|old| old.node.id()).collect();
            if group.len() < limit {
                continue;
            }
            let farthest = group[group.len() - 1];
            if self.target.distance(&new.id()) > self.target.distance(&farthest) {
                return false;
            }
            left.retain(|old| old.node.id() != farthest);
        }
        self.paths[at] = left;
        true
    }

    /// The networks a node counts in, if limits apply to it.
    fn subnets(&self, id: NodeId, ip: IpAddr) -> Option<(Subnet, Subnet)> {
        let free = id == self.target || AddressClass::of(ip).is_lan();
        (!free).then(|| (Subnet::of(ip), Subnet::wide(ip)))
    }

    /// Whether one more fits beside those at `present`, with the limits `times` as high as in a bucket.
    fn fits(&self, times: usize, new: (NodeId, IpAddr), present: &[(NodeId, IpAddr)]) -> bool {
        let Some((narrow, wide)) = self.subnets(new.0, new.1) else {
            return true;
        };
        let present = present.iter().filter_map(|(id, ip)| self.subnets(*id, *ip));
        let present: Vec<(Subnet, Subnet)> = present.collect();
        let in_narrow = present.iter().filter(|other| other.0 == narrow).count();
        let in_wide = present.iter().filter(|other| other.1 == wide).count();
        in_narrow < times * limit(narrow) && in_wide < times * limit(wide)
    }

    fn spread<'a>(&self, nodes: Vec<&'a Known>) -> Vec<&'a Known> {
        let mut taken: Vec<&Known> = Vec::new();
        for known in nodes {
            let place = |known: &Known| (known.node.id(), known.node.endpoint().ip);
            let present: Vec<(NodeId, IpAddr)> = taken.iter().map(|other| place(other)).collect();
            if taken.len() < BUCKET_SIZE && self.fits(1, place(known), &present) {
                taken.push(known);
            }
        }
        taken
    }
}
