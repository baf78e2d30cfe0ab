use bytes::{BufMut, Bytes, BytesMut};
use proptest::prelude::*;

use super::header::split_id;
use super::reader::MAX_BASE_MESSAGE;
use super::*;
use crate::disconnect::DisconnectReason;
use crate::hello::p2p;
use crate::mac::FrameMac;
use crate::payload::Payload;
use crate::snappy::SnappyError;
use crate::vectors::{array, bytes, vectors};

/// Both directions of a connection whose keys are `fill`: writer and reader of one direction.
fn pair(snappy: bool) -> (FrameWriter, FrameReader) {
    let mac = || FrameMac::new(tercet_enode::Keccak256::new(), &[2; 32]);
    let mut writer = FrameWriter::new(Egress::new(&[1; 32], mac()));
    let mut reader = FrameReader::new(Ingress::new(&[1; 32], mac()), BytesMut::new());
    reader.start_messages(snappy);
    if snappy {
        writer.enable_snappy();
    }
    (writer, reader)
}

/// Gives `wire` to the reader as a transport would, in reads of `chunk` bytes, and collects the messages.
fn receive(
    reader: &mut FrameReader,
    mut wire: &[u8],
    chunk: usize,
) -> Result<Vec<Message>, FrameError> {
    let mut messages = Vec::new();
    loop {
        while let Some(message) = reader.decode()? {
            messages.push(message);
        }
        if wire.is_empty() {
            return Ok(messages);
        }
        let mut buffer = reader.buffer();
        let (now, later) = wire.split_at(wire.len().min(chunk).min(buffer.remaining_mut()));
        assert!(!now.is_empty(), "the reader always has room");
        buffer.put_slice(now);
        wire = later;
    }
}

/// Seals `body`, whatever it holds, with the keys of [`pair`].
fn seal_body(body: &[u8]) -> Vec<u8> {
    use cipher::StreamCipher;
    let mut cipher = frame_cipher(&[1; 32]);
    let mut mac = FrameMac::new(tercet_enode::Keccak256::new(), &[2; 32]);
    let mut header = header::encode(body.len() as u32);
    cipher.apply_keystream(&mut header);
    let mut wire = header.to_vec();
    wire.extend(mac.header(&header));
    let mut padded = body.to_vec();
    padded.resize(body.len().next_multiple_of(BLOCK), 0);
    cipher.apply_keystream(&mut padded);
    let tag = mac.body(&padded);
    wire.extend(padded);
    wire.extend(tag);
    wire
}

/// Bytes that do not compress.
fn random_bytes(length: usize) -> Vec<u8> {
    use rand::{RngExt, SeedableRng};
    let mut bytes = vec![0; length];
    rand::rngs::StdRng::seed_from_u64(1).fill(&mut bytes[..]);
    bytes
}

#[test]
fn frame_vectors_of_both_directions() {
    let v = vectors();
    let (mut a, mut b) = crate::handshake::tests::vector_sessions();
    let frames = v["rlpx"]["frames_computed"]["frames"].as_array().unwrap();
    assert_eq!(frames.len(), 6);
    for frame in frames {
        let (from, to) = match frame["direction"].as_str().unwrap() {
            "A->B" => (&mut a, &mut b),
            _ => (&mut b, &mut a),
        };
        let (data, wire) = (bytes(&frame["frame_data"]), bytes(&frame["wire"]));
        let (id, payload) = split_id(&data).unwrap();
        let mut sealed = Vec::new();
        from.egress.seal(id, payload, &mut sealed).unwrap();
        assert_eq!(sealed, wire, "{}", frame["name"]);

        let mut wire = wire;
        let (header, rest) = wire.split_first_chunk_mut::<HEADER>().unwrap();
        assert_eq!(to.ingress.open_header(header), Ok(data.len()));
        let (body, tag) = rest.split_last_chunk_mut::<BLOCK>().unwrap();
        to.ingress.open_body(body, tag).unwrap();
        assert_eq!(body[..data.len()], data);
        assert!(body[data.len()..].iter().all(|byte| *byte == 0));
    }
}

#[test]
fn the_golden_frame_of_geth_has_our_ciphertext() {
    let v = &vectors()["rlpx"]["frame_golden_geth"];
    // Its MAC is a dummy, so only the encrypted parts can be compared.
    let mac = FrameMac::new(tercet_enode::Keccak256::new(), &array(&v["mac_secret"]));
    let mut egress = Egress::new(&array(&v["aes_secret"]), mac);
    let mut sealed = Vec::new();
    egress
        .seal(8, &bytes(&v["message_payload_rlp"]), &mut sealed)
        .unwrap();
    let wire = bytes(&v["wire"]);
    assert_eq!(sealed.len(), wire.len());
    assert_eq!(sealed[..16], wire[..16]);
    assert_eq!(sealed[32..48], wire[32..48]);
}

#[test]
fn ping_and_pong_vectors() {
    let v = &vectors()["rlpx"]["snappy_p2p_messages"];
    for (name, id) in [("ping", p2p::PING), ("pong", p2p::PONG)] {
        let data = bytes(&v[name]);
        assert_eq!(
            split_id(&data),
            Some((id, &Payload::empty_list().compressed()[..]))
        );
        let (_, mut reader) = pair(true);
        let message = Message {
            id,
            payload: Bytes::from_static(&[0xc0]),
        };
        assert_eq!(
            receive(&mut reader, &seal_body(&data), 1),
            Ok(vec![message])
        );
    }
}

#[test]
fn a_batch_is_one_buffer_and_a_full_one_takes_no_more() {
    let (mut writer, mut reader) = pair(false);
    let payload = Payload::from(vec![1; 1000]);
    let mut queued = 0;
    while writer.has_room() {
        writer.queue(0x10, &payload).unwrap();
        queued += 1;
    }
    assert_eq!(writer.queue(0x10, &payload), Err(QueueError::Full));
    assert!((WRITE_BUFFER..WRITE_BUFFER + 1100).contains(&writer.buffered()));
    // The refused message has not moved the cipher or the MAC: all that was queued opens.
    let wire = writer.pending().to_vec();
    assert_eq!(receive(&mut reader, &wire, 7777).unwrap().len(), queued);
    // Room comes back with what is sent.
    writer.sent(1100);
    assert_eq!(writer.queue(0x10, &payload), Ok(()));
}

#[test]
fn the_write_buffer_shrinks_after_a_burst() {
    let (mut writer, mut reader) = pair(false);
    let large = Payload::from(vec![1; 4 << 20]);
    for _ in 0..3 {
        writer.queue(0x10, &large).unwrap();
        assert!(writer.capacity() > 4 << 20);
        let wire = writer.pending().to_vec();
        // As a socket takes it: bit by bit, and the last of it small.
        while writer.buffered() > 0 {
            writer.sent(100_000);
        }
        assert!(
            writer.capacity() <= 2 * WRITE_BUFFER,
            "{}",
            writer.capacity()
        );
        assert_eq!(
            receive(&mut reader, &wire, 1 << 20).unwrap()[0].payload,
            *large.raw()
        );
    }
}

#[test]
fn a_write_buffer_that_is_never_empty_does_not_grow() {
    let (mut writer, _) = pair(false);
    let payload = Payload::from(vec![1; 1000]);
    for _ in 0..10_000 {
        while writer.has_room() {
            writer.queue(0x10, &payload).unwrap();
        }
        writer.sent(1500);
    }
    assert!(
        writer.capacity() <= 4 * WRITE_BUFFER,
        "{}",
        writer.capacity()
    );
}

#[test]
fn the_largest_frame_goes_through_and_a_larger_is_refused() {
    let (mut writer, mut reader) = pair(false);
    let largest = Payload::from(vec![3; MAX_FRAME - 1]);
    writer.queue(0x10, &largest).unwrap();
    let wire = writer.pending().to_vec();
    assert_eq!(
        receive(&mut reader, &wire, 1 << 20).unwrap()[0].payload,
        *largest.raw()
    );
    writer.sent(wire.len());
    let refused = writer.queue(0x10, &Payload::from(vec![3; MAX_FRAME]));
    assert_eq!(
        refused,
        Err(QueueError::TooLarge {
            size: MAX_FRAME + 1
        })
    );
    let refused = writer.queue(0x10, &Payload::from(vec![3; MAX_FRAME + 1]));
    assert_eq!(
        refused,
        Err(QueueError::TooLarge {
            size: MAX_FRAME + 1
        })
    );
    assert_eq!(writer.buffered(), 0);
}

#[test]
fn an_announced_frame_takes_no_memory_until_it_comes() {
    let (_, mut reader) = pair(false);
    let wire = seal_body(&vec![5; MAX_FRAME]);
    let (header, body) = wire.split_at(HEADER);
    assert_eq!(receive(&mut reader, header, HEADER), Ok(vec![]));
    assert!(reader.buffer().remaining_mut() > 0);
    assert!(
        reader.allocated() <= 16 * 1024,
        "16 MiB announced, {} taken",
        reader.allocated()
    );
    // From then on at most twice what has come, and never more than the frame.
    let mut came = 0;
    for part in body.chunks(50_000) {
        assert!(came + part.len() == body.len() || receive(&mut reader, part, 9999) == Ok(vec![]));
        came += part.len();
        assert!(reader.allocated() <= (2 * came).max(16 * 1024).min(body_len(MAX_FRAME)));
    }
}

#[test]
fn the_read_buffer_shrinks_after_a_large_frame() {
    for snappy in [false, true] {
        let (mut writer, mut reader) = pair(snappy);
        let random = random_bytes(4 << 20);
        writer.queue(0x10, &Payload::from(random)).unwrap();
        let mut wire = writer.pending().to_vec();
        writer.sent(wire.len());
        writer.queue(0x11, &Payload::empty_list()).unwrap();
        wire.extend_from_slice(&writer.pending()[..20]);
        let messages = receive(&mut reader, &wire, 100_000).unwrap();
        assert_eq!(messages.len(), 1);
        drop(messages);
        assert!(
            reader.allocated() <= 2 * 16 * 1024,
            "{}",
            reader.allocated()
        );
        assert_eq!(
            receive(&mut reader, &writer.pending()[20..], 100)
                .unwrap()
                .len(),
            1
        );
    }
}

#[test]
fn a_grown_read_buffer_goes_with_the_next_small_frame() {
    for snappy in [false, true] {
        let (mut writer, mut reader) = pair(snappy);
        let random = random_bytes(500_000);
        for _ in 0..3 {
            writer.queue(0x10, &Payload::from(random.clone())).unwrap();
            assert_eq!(
                receive(&mut reader, writer.pending(), usize::MAX)
                    .unwrap()
                    .len(),
                1
            );
            writer.sent(usize::MAX);
            reader.buffer();
            assert!(
                (500_000..600_000).contains(&reader.allocated()),
                "kept, and not grown further"
            );
        }
        writer.queue(0x11, &Payload::from(vec![1; 100])).unwrap();
        let messages = receive(&mut reader, writer.pending(), usize::MAX).unwrap();
        assert!(reader.allocated() <= 16 * 1024, "{}", reader.allocated());
        assert!(
            messages
                .into_iter()
                .all(|message| message.payload.is_unique())
        );
    }
}

#[test]
fn small_payloads_do_not_pin_the_read_buffer() {
    let (mut writer, mut reader) = pair(false);
    let mut kept = Vec::new();
    for _ in 0..10 {
        writer.queue(0x10, &Payload::from(vec![1; 100])).unwrap();
        kept.extend(receive(&mut reader, writer.pending(), usize::MAX).unwrap());
        writer.sent(usize::MAX);
    }
    // Sole owners of their bytes: a slice of a shared buffer could not be taken apart like this.
    assert!(kept.into_iter().all(|message| message.payload.is_unique()));
}

#[test]
fn before_hello_frames_have_2_kib() {
    let fresh = || {
        let mac = FrameMac::new(tercet_enode::Keccak256::new(), &[2; 32]);
        FrameReader::new(Ingress::new(&[1; 32], mac), BytesMut::new())
    };
    let mut body = vec![0x80; MAX_BASE_MESSAGE];
    assert_eq!(
        receive(&mut fresh(), &seal_body(&body), 999).unwrap().len(),
        1
    );
    body.push(0);
    let refused = FrameError::TooLarge {
        size: 2049,
        limit: 2048,
    };
    // The header alone decides.
    assert_eq!(
        receive(&mut fresh(), &seal_body(&body)[..HEADER], 999),
        Err(refused)
    );
}

#[test]
fn empty_frames_and_malformed_ids_are_refused() {
    let refuse = |body: &[u8]| {
        let error = receive(&mut pair(false).1, &seal_body(body), 5).unwrap_err();
        assert_eq!(error.reason(), Some(DisconnectReason::ProtocolError));
        error
    };
    assert_eq!(refuse(&[]), FrameError::Empty);
    assert_eq!(refuse(&[0x00]), FrameError::MessageId);
    assert_eq!(refuse(&[0x81, 0x7f]), FrameError::MessageId);
    assert_eq!(refuse(&[0x82, 0x01]), FrameError::MessageId);
    assert_eq!(refuse(&[0xc0]), FrameError::MessageId);
}

#[test]
fn limits_of_messages_act_on_the_decompressed_length() {
    let bomb = Payload::from(vec![0; 11 << 20]);
    for snappy in [true, false] {
        let (mut writer, mut reader) = pair(snappy);
        reader.limit_messages(0x10..0x21, 10 << 20);
        writer.queue(0x21, &bomb).unwrap();
        writer.queue_last(0x20, &bomb).unwrap();
        let wire = writer.pending().to_vec();
        let refused = receive(&mut reader, &wire, 1 << 20).unwrap_err();
        let (len, limit) = (11 << 20, 10 << 20);
        let expected = match snappy {
            true => FrameError::Snappy {
                id: 0x20,
                source: SnappyError::TooLarge { len, limit },
            },
            false => FrameError::MessageTooLarge {
                id: 0x20,
                len,
                limit,
            },
        };
        assert_eq!(refused, expected, "0x21 had no limit of its own");
        assert_eq!(reader.decode(), Err(expected), "and so it stays");
        assert_eq!(reader.allocated(), 0, "a failed reader keeps no memory");
    }
}

#[test]
fn the_latest_limit_counts_and_base_messages_have_one() {
    let (mut writer, mut reader) = pair(true);
    writer
        .queue(p2p::PING, &Payload::from(vec![0; MAX_BASE_MESSAGE + 1]))
        .unwrap();
    let wire = writer.pending().to_vec();
    assert!(matches!(
        receive(&mut reader, &wire, 99),
        Err(FrameError::Snappy { .. })
    ));

    let (mut writer, mut reader) = pair(true);
    reader.limit_messages(0x10..0x20, 5);
    reader.limit_messages(0x10..0x20, 6);
    writer.queue(0x10, &Payload::from(vec![0; 6])).unwrap();
    assert_eq!(receive(&mut reader, writer.pending(), 99).unwrap().len(), 1);
    reader.limit_messages(0x10..0x11, 5);
    writer.sent(usize::MAX);
    writer.queue(0x10, &Payload::from(vec![0; 6])).unwrap();
    assert!(receive(&mut reader, writer.pending(), 99).is_err());
}

#[test]
fn a_disconnect_is_understood_compressed_or_not() {
    let v = vectors();
    for case in v["rlpx"]["disconnect"]["encodings"].as_array().unwrap() {
        let reason = DisconnectReason::from(case["reason"].as_u64().unwrap() as u8);
        let forms = ["rlp_list", "rlp_bare", "rlp_legacy_zero_byte"];
        let mut bodies: Vec<_> = forms
            .iter()
            .map(|form| &case[*form])
            .filter(|f| f.is_string())
            .map(bytes)
            .collect();
        bodies.extend(
            bodies
                .clone()
                .iter()
                .map(|raw| crate::snappy::compress(raw).to_vec()),
        );
        for body in bodies {
            let wire = seal_body(&[&[p2p::DISCONNECT as u8], &body[..]].concat());
            let messages = receive(&mut pair(true).1, &wire, 3).unwrap();
            assert_eq!(messages[0].id, p2p::DISCONNECT);
            assert_eq!(
                DisconnectReason::decode(&messages[0].payload),
                Ok(reason),
                "{body:02x?}"
            );
        }
    }
    // Nothing at all is a Disconnect too; other messages are not let off compression.
    let empty = receive(&mut pair(true).1, &seal_body(&[1]), 3).unwrap();
    assert_eq!(
        DisconnectReason::decode(&empty[0].payload),
        Ok(DisconnectReason::Requested)
    );
    let ping = receive(&mut pair(true).1, &seal_body(&[2, 0xc0]), 3);
    assert!(matches!(ping, Err(FrameError::Snappy { id: 2, .. })));
}

#[test]
fn payloads_are_compressed_once_for_all_writers() {
    let payload = Payload::from(vec![9; 5000]);
    let before = payload.compressed().as_ptr();
    for _ in 0..3 {
        let (mut writer, mut reader) = pair(true);
        writer.queue(0x10, &payload.clone()).unwrap();
        assert_eq!(
            receive(&mut reader, writer.pending(), 99).unwrap()[0].payload,
            *payload.raw()
        );
    }
    assert_eq!(payload.compressed().as_ptr(), before);
}

proptest! {
    #[test]
    fn messages_come_out_as_they_went_in_however_they_are_cut(
        messages in prop::collection::vec((any::<u64>(), prop::collection::vec(any::<u8>(), 0..3000)), 1..20),
        zeros in 0usize..60_000,
        chunk in 1usize..40_000,
        snappy: bool,
    ) {
        let (mut writer, mut reader) = pair(snappy);
        reader.limit_messages(0..16, MAX_FRAME);
        let mut wire = Vec::new();
        let mut expected = Vec::new();
        for (index, (id, mut payload)) in messages.into_iter().enumerate() {
            if index == 0 {
                payload.resize(payload.len() + zeros, 0);
            }
            writer.queue(id, &Payload::from(payload.clone())).unwrap();
            wire.extend_from_slice(writer.pending());
            writer.sent(usize::MAX);
            expected.push(Message { id, payload: payload.into() });
        }
        prop_assert_eq!(receive(&mut reader, &wire, chunk), Ok(expected));
    }

    #[test]
    fn any_altered_bit_is_noticed(index in 0usize..200, bit in 0u8..8, chunk in 1usize..100) {
        let (mut writer, mut reader) = pair(true);
        writer.queue(0x10, &Payload::from((0..130u8).collect::<Vec<_>>())).unwrap();
        let mut wire = writer.pending().to_vec();
        let index = index % wire.len();
        wire[index] ^= 1 << bit;
        let error = receive(&mut reader, &wire, chunk).unwrap_err();
        prop_assert_eq!(&error, &FrameError::Tag(TagMismatch));
        prop_assert_eq!(error.reason(), None);
    }

    #[test]
    fn opening_is_total(wire in prop::collection::vec(any::<u8>(), 32..500)) {
        prop_assert_eq!(receive(&mut pair(true).1, &wire, 50), Err(FrameError::Tag(TagMismatch)));
    }

    /// Frames whose tags are right but whose bodies are anything: what a hostile peer can send.
    #[test]
    fn any_authentic_body_is_a_message_or_refused(body in prop::collection::vec(any::<u8>(), 0..300), snappy: bool) {
        let _ = receive(&mut pair(snappy).1, &seal_body(&body), 64);
    }
}
