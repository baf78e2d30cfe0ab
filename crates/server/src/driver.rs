//! The server's run loop: one task that owns the machine, the listener and every
//! connection that is not yet a peer's task.
#![allow(clippy::disallowed_methods)] // a driver: clock, tasks

mod candidates;
mod command;
mod shutdown;
mod tasks;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tercet_discovery::{Discovery, FairMix};
use tercet_enode::Node;
use tercet_machine::{Clock, Machine, MonoTime, Now};
use tercet_nodedb::NodeDb;
use tercet_rlpx::{Hello, SharedCapabilities};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{broadcast, mpsc, watch};
use tokio_util::sync::CancellationToken;

use self::candidates::Candidates;
pub(crate) use self::command::{Command, Order};
use self::tasks::{Done, Tasks};
use crate::core::{ConnId, ServerCore, ServerInput, ServerOutput};
use crate::event::{DialError, DropReason, ServerEvent};
use crate::limits::Timeouts;
use crate::metrics::Counters;
use crate::peer::{Peer, PeerInfo, PeerStart, PeerTimeouts};
use crate::protocol::Protocol;
use crate::setup::{self, Dialer, Refused};

/// Wait after a failed accept: it is the system that lacks something then, most
/// often file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// What the run loop publishes and hears.
pub(crate) struct Links {
    pub(crate) commands: mpsc::Receiver<Command>,
    pub(crate) events: broadcast::Sender<ServerEvent>,
    pub(crate) peers: watch::Sender<Arc<[PeerInfo]>>,
    pub(crate) counters: Arc<Counters>,
    /// Somebody wants the end.
    pub(crate) cancel: CancellationToken,
    /// The end has come.
    pub(crate) done: CancellationToken,
}

/// What connections need to know of the server.
pub(crate) struct Local {
    pub(crate) dialer: Dialer,
    pub(crate) hello: Hello,
    pub(crate) protocols: Arc<[Arc<dyn Protocol>]>,
    pub(crate) timeouts: Timeouts,
    pub(crate) clock: Clock,
}

/// See the module.
pub(crate) struct ServerDriver {
    core: ServerCore,
    links: Links,
    local: Arc<Local>,
    listener: Option<TcpListener>,
    accept_pause: Option<MonoTime>,
    discovery: Option<Discovery>,
    candidates: Candidates,
    db: NodeDb,
    conns: HashMap<ConnId, Held>,
    tasks: Tasks,
    peers_changed: bool,
}

/// What the run loop holds of a connection while no task has it.
enum Held {
    Accepted(TcpStream, SocketAddr),
    Refusable(Refused),
    Peer(Peer),
}

/// One turn's event, bound plainly so that no `select!` branch can refuse it.
enum Turn {
    Accepted(std::io::Result<(TcpStream, SocketAddr)>),
    Done(Done),
    Command(Option<Command>),
    Candidate(Option<Node>),
    Cancelled,
    Timeout,
}

impl ServerDriver {
    pub(crate) fn new(
        core: ServerCore,
        links: Links,
        local: Local,
        listener: TcpListener,
        discovery: Option<Discovery>,
        sources: FairMix,
        db: NodeDb,
    ) -> Self {
        let protocols = Arc::clone(&local.protocols);
        Self {
            core,
            links,
            local: Arc::new(local),
            listener: Some(listener),
            accept_pause: None,
            candidates: Candidates::new(sources, discovery.clone(), protocols),
            discovery,
            db,
            conns: HashMap::new(),
            tasks: Tasks::new(),
            peers_changed: false,
        }
    }

    /// Runs until the server is told to end and has.
    pub(crate) async fn run(mut self) {
        // However this ends: nobody waits for ever.
        let _done = self.links.done.clone().drop_guard();
        loop {
            self.perform();
            match self.turn().await {
                Turn::Accepted(Ok((stream, addr))) => self.on_accepted(stream, addr),
                Turn::Accepted(Err(error)) => self.on_accept_failed(&error),
                Turn::Done(done) => self.on_done(done),
                Turn::Command(Some(command)) => self.on_command(command),
                Turn::Candidate(node) => self.on_candidate(node),
                Turn::Timeout => {
                    let now = self.now();
                    self.core.handle_timeout(now);
                }
                // Without a handle left nobody can ask for the end any more.
                Turn::Cancelled | Turn::Command(None) => break,
            }
        }
        self.shut_down().await;
    }

    async fn turn(&mut self) -> Turn {
        let now = self.now().mono;
        let accepts_from = self.accepts_from();
        let accepts = accepts_from.is_some_and(|from| from <= now);
        let later = accepts_from.filter(|from| *from > now);
        let deadline = self.core.deadline().into_iter().chain(later).min();
        let wanted = self.core.wanted_candidates();
        let listener = self.listener.as_ref();
        tokio::select! {
            () = self.links.cancel.cancelled() => Turn::Cancelled,
            accepted = accept(listener), if accepts => Turn::Accepted(accepted),
            done = self.tasks.next() => Turn::Done(done),
            command = self.links.commands.recv() => Turn::Command(command),
            node = self.candidates.next(), if self.candidates.wants(wanted) => Turn::Candidate(node),
            () = sleep_until(&self.local.clock, deadline) => Turn::Timeout,
        }
    }

    /// Does what the machine wants.
    fn perform(&mut self) {
        while let Some(output) = self.core.poll() {
            match output {
                ServerOutput::Dial(task) => {
                    Counters::add(&self.links.counters.dials, 1);
                    let local = Arc::clone(&self.local);
                    self.tasks.spawn_setup(task.conn, async move {
                        let proven = local.dialer.dial(task.target, task.key).await;
                        Done::Proven(task.conn, proven.map(Box::new))
                    });
                }
                ServerOutput::Handshake(conn) => self.handshake(conn),
                ServerOutput::Hello(conn) => self.greet(conn),
                ServerOutput::Launch { conn, info } => self.launch(conn, *info),
                ServerOutput::Disconnect { conn, reason } => {
                    if let Some(Held::Peer(peer)) = self.conns.get(&conn) {
                        peer.disconnect(reason);
                    }
                }
                ServerOutput::Reject { conn, reason } => self.reject(conn, reason),
                ServerOutput::Close(conn) => {
                    self.conns.remove(&conn);
                    self.tasks.abort(conn);
                }
                ServerOutput::Resolve(task) => self.resolve(task),
                ServerOutput::Event(event) => self.tell(event),
            }
        }
        if std::mem::take(&mut self.peers_changed) {
            self.links.peers.send_replace(self.core.peers().into());
        }
    }

    fn handshake(&mut self, conn: ConnId) {
        let Some(Held::Accepted(stream, addr)) = self.conns.remove(&conn) else {
            return;
        };
        let local = Arc::clone(&self.local);
        self.tasks.spawn_setup(conn, async move {
            let proven = setup::accept(stream, &local.dialer.key, addr).await;
            Done::Proven(conn, proven.map(Box::new))
        });
    }

    fn greet(&mut self, conn: ConnId) {
        let held = self.conns.remove(&conn);
        let Some(Held::Refusable(Refused::BeforeHello(stream))) = held else {
            return;
        };
        let hello = self.local.hello.clone();
        self.tasks.spawn_setup(conn, async move {
            Done::Greeted(conn, setup::greet(*stream, hello).await.map(Box::new))
        });
    }

    fn reject(&mut self, conn: ConnId, reason: tercet_rlpx::DisconnectReason) {
        match self.conns.remove(&conn) {
            Some(Held::Refusable(refused)) => self.tasks.spawn_setup(conn, async move {
                refused.tell(reason).await;
                Done::Rejected(conn)
            }),
            // Its set-up is in a task of its own: there is no telling it now.
            _ => {
                self.tasks.abort(conn);
                let now = self.now();
                self.core.handle(now, ServerInput::RefusalDone(conn));
            }
        }
    }

    fn launch(&mut self, conn: ConnId, info: PeerInfo) {
        let held = self.conns.remove(&conn);
        let Some(Held::Refusable(Refused::AfterHello(stream))) = held else {
            return;
        };
        let local = &self.local;
        let timeouts = &local.timeouts;
        let offered: Vec<_> = local
            .protocols
            .iter()
            .map(|p| (p.capability(), p.length()))
            .collect();
        let shared =
            SharedCapabilities::match_capabilities(&offered, &stream.remote_hello().capabilities);
        let peer = Peer::new(info);
        self.conns.insert(conn, Held::Peer(peer.clone()));
        let start = PeerStart {
            stream: *stream,
            peer,
            shared,
            protocols: Arc::clone(&local.protocols),
            timeouts: PeerTimeouts {
                ping: timeouts.ping,
                idle: timeouts.idle,
                write: timeouts.write,
                inbox: timeouts.inbox,
            },
            join: timeouts.join,
            clock: local.clock,
            counters: Arc::clone(&self.links.counters),
        };
        self.tasks.spawn_peer(conn, start);
    }

    fn on_accepted(&mut self, stream: TcpStream, addr: SocketAddr) {
        Counters::add(&self.links.counters.accepted, 1);
        let addr = SocketAddr::new(tercet_enode::canonical_ip(addr.ip()), addr.port());
        let conn = self.core.next_conn();
        self.conns.insert(conn, Held::Accepted(stream, addr));
        self.input(ServerInput::Incoming { conn, addr });
    }

    fn on_accept_failed(&mut self, error: &std::io::Error) {
        tracing::warn!(%error, "cannot accept a connection");
        self.accept_pause = Some(self.now().mono + ACCEPT_PAUSE);
    }

    fn on_done(&mut self, done: Done) {
        match done {
            Done::Proven(conn, Ok(proven)) => {
                let (stream, addr) = *proven;
                let key = stream.remote_key();
                let refusable = Refused::BeforeHello(Box::new(stream));
                self.conns.insert(conn, Held::Refusable(refusable));
                self.input(ServerInput::Authenticated { conn, key, addr });
            }
            Done::Greeted(conn, Ok(stream)) => {
                let hello = stream.remote_hello();
                let client_id = hello.client_id.clone();
                let capabilities = hello.capabilities.clone();
                self.conns
                    .insert(conn, Held::Refusable(Refused::AfterHello(stream)));
                self.input(ServerInput::Greeted {
                    conn,
                    client_id,
                    capabilities,
                });
            }
            Done::Proven(conn, Err(error)) | Done::Greeted(conn, Err(error)) => {
                self.input(ServerInput::SetupFailed { conn, error });
            }
            Done::Rejected(conn) => self.input(ServerInput::RefusalDone(conn)),
            Done::Ended(conn, end) => {
                self.conns.remove(&conn);
                let (reason, rule) = (end.reason, end.rule);
                self.input(ServerInput::PeerEnded { conn, reason, rule });
            }
            Done::Resolved(id, found) => self.input(ServerInput::Resolved { id, found }),
            Done::Failed(conn) => self.on_task_failed(conn),
        }
    }

    /// A task panicked. Its connection is lost, nothing else.
    fn on_task_failed(&mut self, conn: ConnId) {
        let input = match self.conns.remove(&conn) {
            Some(Held::Peer(_)) => ServerInput::PeerEnded {
                conn,
                reason: DropReason::Internal,
                rule: None,
            },
            _ => ServerInput::SetupFailed {
                conn,
                error: DialError::Internal,
            },
        };
        self.input(input);
        self.input(ServerInput::RefusalDone(conn));
    }

    fn tell(&mut self, event: ServerEvent) {
        self.links.counters.count(&event);
        let changes = matches!(
            event,
            ServerEvent::PeerAdded { .. } | ServerEvent::PeerDropped { .. }
        );
        self.peers_changed |= changes;
        // An error only says that nobody has subscribed.
        let _ = self.links.events.send(event);
    }

    fn input(&mut self, input: ServerInput) {
        let now = self.now();
        self.core.handle(now, input);
    }

    fn now(&self) -> Now {
        self.local.clock.now()
    }

    fn accepts_from(&self) -> Option<MonoTime> {
        let room = self.core.accepts_from()?;
        Some(self.accept_pause.map_or(room, |pause| pause.max(room)))
    }
}

async fn accept(listener: Option<&TcpListener>) -> std::io::Result<(TcpStream, SocketAddr)> {
    match listener {
        Some(listener) => listener.accept().await,
        None => std::future::pending().await,
    }
}

async fn sleep_until(clock: &Clock, deadline: Option<MonoTime>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(clock.instant(deadline).into()).await,
        None => std::future::pending().await,
    }
}
