//! RLPx: handshake packets, frames, and the messages of the base protocol.

use bytes::{BufMut, Bytes, BytesMut};
use tercet_enode::SecretKey;
use tercet_machine::MachineRng;
use tercet_rlpx::{
    Capability, DisconnectReason, FIRST_OFFSET, FrameReader, FrameWriter, Hello, Initiator,
    MAX_FRAME, MAX_HANDSHAKE_PACKET, Message, Payload, Responder, SIZE_PREFIX, Session,
    SharedCapabilities, handshake_packet_len,
};

use crate::input::{Script, keys};

/// The static keys of EIP-8's published packets, which are the seeds here.
const DIALLER: &str = "49a7b37aa6f6645917e7b807e9d1c00d4fa71f18343b0d4122a4d2df64dd6fee";
const LISTENER: &str = "b71c71a67e1177ad4e901695e1b4b9ee17ae16c6668d313eac2f96dbcda3f291";

fn rng() -> MachineRng {
    MachineRng::from_seed([5; 32])
}

/// The first packet of whoever dials us.
pub fn rlpx_auth(data: &[u8]) -> bool {
    if let Some(prefix) = data.first_chunk()
        && let Ok(len) = handshake_packet_len(*prefix)
    {
        assert!(len <= SIZE_PREFIX + MAX_HANDSHAKE_PACKET);
    }
    let key: SecretKey = LISTENER.parse().unwrap();
    let Ok(responder) = Responder::open(&key, data) else {
        return false;
    };
    assert_ne!(responder.remote_key(), key.public_key());
    let (_, ack) = responder.accept(&mut rng());
    assert!(ack.len() <= SIZE_PREFIX + MAX_HANDSHAKE_PACKET);
    true
}

/// The answer to our own first packet.
pub fn rlpx_ack(data: &[u8]) -> bool {
    let listener: SecretKey = LISTENER.parse().unwrap();
    let remote = listener.public_key();
    let dialler = DIALLER.parse().unwrap();
    let initiator = Initiator::new(&dialler, remote, &mut rng()).unwrap();
    let Ok(session) = initiator.finish(data) else {
        return false;
    };
    assert_eq!(session.remote, remote);
    true
}

fn sessions() -> (Session, Session) {
    let initiator = Initiator::new(&keys()[0], keys()[1].public_key(), &mut rng()).unwrap();
    let responder = Responder::open(&keys()[1], initiator.auth()).unwrap();
    let (theirs, ack) = responder.accept(&mut rng());
    (initiator.finish(&ack).unwrap(), theirs)
}

/// Puts `wire` into the reader in pieces as long as the script says.
fn deliver(reader: &mut FrameReader, mut wire: &[u8], script: &mut Script<'_>) -> Vec<Message> {
    let mut messages = Vec::new();
    loop {
        match reader.decode() {
            Ok(Some(message)) => {
                messages.push(message);
                continue;
            }
            Ok(None) if !wire.is_empty() => {}
            _ => return messages,
        }
        let mut buffer = reader.buffer();
        let piece = (1 + usize::from(script.byte()) * 8)
            .min(wire.len())
            .min(buffer.remaining_mut());
        assert!(piece > 0, "there is always room for the next byte");
        let (now, later) = wire.split_at(piece);
        buffer.put_slice(now);
        wire = later;
    }
}

/// Bytes of any kind where frames should be.
pub fn rlpx_ingress(data: &[u8]) -> bool {
    let (session, _) = sessions();
    let mut reader = FrameReader::new(session.ingress, BytesMut::new());
    let mut script = Script::new(data);
    if script.byte() & 1 == 1 {
        reader.start_messages(true);
    }
    let messages = deliver(&mut reader, script.rest(), &mut Script::new(&[]));
    assert!(messages.is_empty(), "a forged frame was accepted");
    !data.is_empty()
}

/// Messages that are written, cut anywhere on the way, and read.
pub fn rlpx_frames(data: &[u8]) -> bool {
    let mut script = Script::new(data);
    let (ours, theirs) = sessions();
    let mut writer = FrameWriter::new(ours.egress);
    let mut reader = FrameReader::new(theirs.ingress, BytesMut::new());
    let snappy = script.byte() & 1 == 1;
    reader.start_messages(snappy);
    if snappy {
        writer.enable_snappy();
    }
    let mut expected = Vec::new();
    for _ in 0..1 + script.below(8) {
        let id = FIRST_OFFSET + u64::from(script.byte());
        let len = script.below(200);
        let payload = script.take(len).repeat(1 + script.below(100));
        let payload = Payload::new(Bytes::from(payload));
        if writer.queue(id, &payload).is_err() {
            assert!(!writer.has_room(), "refused although there was room");
            break;
        }
        expected.push(Message {
            id,
            payload: payload.raw().clone(),
        });
    }
    let wire = writer.pending().to_vec();
    assert_eq!(deliver(&mut reader, &wire, &mut script), expected);
    !wire.is_empty()
}

/// A frame that authenticates and holds anything: message id, snappy, limits.
pub fn rlpx_payload(data: &[u8]) -> bool {
    let mut script = Script::new(data);
    let (mut ours, theirs) = sessions();
    let mut reader = FrameReader::new(theirs.ingress, BytesMut::new());
    let limit = 16 + usize::from(script.byte()) * 16;
    let snappy = script.byte() & 1 == 1;
    reader.start_messages(snappy);
    reader.limit_messages(FIRST_OFFSET..u64::MAX, limit);
    let id = u64::from(script.byte());
    let mut wire = Vec::new();
    ours.egress.seal(id, script.rest(), &mut wire).unwrap();
    let messages = deliver(&mut reader, &wire, &mut Script::new(&[]));
    for message in &messages {
        assert_eq!(message.id, id);
        assert!(message.payload.len() <= if id < FIRST_OFFSET { MAX_FRAME } else { limit });
    }
    !messages.is_empty()
}

/// The body of a Hello, and what comes of its capabilities.
pub fn hello(data: &[u8]) -> bool {
    let Ok(hello) = Hello::decode(data) else {
        return false;
    };
    let again = Hello::decode(hello.to_payload().raw());
    assert_eq!(again.as_ref(), Ok(&hello));
    let local: Vec<_> = [
        ("eth", 68, 17),
        ("eth", 69, 18),
        ("mork", 22, 3),
        ("snap", 1, 8),
    ]
    .map(|(name, version, length)| (Capability::new(name, version).unwrap(), length))
    .into();
    let shared = SharedCapabilities::match_capabilities(&local, &hello.capabilities);
    let mut next = FIRST_OFFSET;
    for index in 0..shared.len() {
        assert_eq!(
            shared.locate(next),
            Some((index, 0)),
            "ranges follow each other"
        );
        while shared.locate(next).is_some_and(|(at, _)| at == index) {
            next += 1;
        }
    }
    assert_eq!(next, shared.next_free());
    true
}

/// The body of a Disconnect.
pub fn disconnect(data: &[u8]) -> bool {
    let Ok(reason) = DisconnectReason::decode(data) else {
        return false;
    };
    let again = DisconnectReason::decode(reason.to_payload().raw());
    assert_eq!(again, Ok(reason));
    true
}
