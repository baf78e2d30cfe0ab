//! What a handle asks of the driver.

use std::fmt;
use std::net::{SocketAddrV4, SocketAddrV6};
use std::pin::Pin;

use bytes::Bytes;
use tokio::sync::oneshot;

use crate::core::{Command, Reply, RequestError};
use crate::error::TalkError;
use crate::local::EntryError;
use crate::v5::TalkRequest;

type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A handler of talk requests behind one type.
pub(crate) struct TalkHandler(pub(crate) Box<dyn Fn(TalkRequest) -> Work + Send + Sync>);

impl fmt::Debug for TalkHandler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TalkHandler(..)")
    }
}

/// A change to this node's record.
#[derive(Debug)]
pub(crate) enum RecordChange {
    Set { key: Vec<u8>, rlp: Bytes },
    Remove { key: Vec<u8> },
    TcpPort(u16),
    Advertised(Option<SocketAddrV4>),
    Advertised6(Option<SocketAddrV6>),
}

/// A request and where its result goes.
#[derive(Debug)]
pub(crate) enum Request {
    Run {
        command: Command,
        reply: oneshot::Sender<Result<Reply, RequestError>>,
    },
    Change {
        change: RecordChange,
        reply: oneshot::Sender<Result<bool, EntryError>>,
    },
    Register {
        protocol: Bytes,
        handler: TalkHandler,
        reply: oneshot::Sender<Result<(), TalkError>>,
    },
    Unregister {
        protocol: Bytes,
        reply: oneshot::Sender<bool>,
    },
}
