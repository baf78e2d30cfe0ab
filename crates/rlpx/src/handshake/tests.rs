use rand::SeedableRng;
use rand::rngs::StdRng;
use serde_json::Value;
use tercet_enode::{Keccak256, RecoverableSignature};

use super::messages::{AckBody, AuthBody};
use super::*;
use crate::secrets::Secrets;
use crate::vectors::{array, bytes, public, secret, vectors};

fn handshake() -> Value {
    vectors()["rlpx"]["handshake"].clone()
}

fn packet(name: &str) -> Value {
    let packets = handshake()["packets"].as_array().unwrap().clone();
    packets
        .into_iter()
        .find(|packet| packet["name"] == name)
        .unwrap()
}

fn key(name: &str) -> SecretKey {
    secret(&handshake()["keys"][name])
}

fn nonce(name: &str) -> Nonce {
    array(&handshake()["keys"][name])
}

fn digest(state: &Keccak256) -> Vec<u8> {
    state.clone().finalize().to_vec()
}

#[test]
fn auth_vectors_of_any_version_with_extra_elements_open() {
    for name in ["auth2", "auth3"] {
        let packet = packet(name);
        let body = open(&key("static_key_B"), &bytes(&packet["packet"])).unwrap();
        assert_eq!(body, bytes(&packet["plaintext"]));
        let auth = AuthBody::decode(&body).unwrap();
        let decoded = &packet["decoded"];
        assert_eq!(
            auth.signature.as_bytes().to_vec(),
            bytes(&decoded["signature"])
        );
        assert_eq!(auth.public_key, public(&decoded["static_pubkey"]));
        assert_eq!(auth.nonce.to_vec(), bytes(&decoded["nonce"]));

        let responder = Responder::open(&key("static_key_B"), &bytes(&packet["packet"])).unwrap();
        assert_eq!(responder.remote_key(), key("static_key_A").public_key());
    }
}

#[test]
fn ack_vectors_of_any_version_with_extra_elements_open() {
    for name in ["ack2", "ack3"] {
        let packet = packet(name);
        let body = open(&key("static_key_A"), &bytes(&packet["packet"])).unwrap();
        assert_eq!(body, bytes(&packet["plaintext"]));
        let ack = AckBody::decode(&body).unwrap();
        assert_eq!(ack.ephemeral, key("ephemeral_key_B").public_key());
        assert_eq!(ack.nonce, nonce("nonce_B"));
    }
}

/// The packets from before EIP-8 are well understood (their bodies are compared here), and refused on the wire.
#[test]
fn packets_from_before_eip_8_are_decrypted_here_and_refused_on_the_wire() {
    let (auth, ack) = (packet("auth1"), packet("ack1"));
    let wire = bytes(&auth["packet"]);
    let body = ecies::decrypt(&key("static_key_B"), &wire, &[]).unwrap();
    let (signature, rest) = body.split_first_chunk::<65>().unwrap();
    let token = token(
        &key("static_key_A"),
        &key("static_key_B").public_key(),
        &nonce("nonce_A"),
    );
    let signature = RecoverableSignature::from_bytes(signature).unwrap();
    let ephemeral = PublicKey::recover(&token, &signature).unwrap();
    assert_eq!(ephemeral, key("ephemeral_key_A").public_key());
    let mut expected = tercet_enode::keccak256(&ephemeral.to_bytes()).to_vec();
    expected.extend(key("static_key_A").public_key().to_bytes());
    expected.extend(nonce("nonce_A"));
    expected.push(0);
    assert_eq!(rest, expected);
    // The first two bytes are read as a size: 0x048c = 1164, not what came.
    assert!(matches!(
        Responder::open(&key("static_key_B"), &wire),
        Err(AuthError::Size { .. })
    ));

    let body = ecies::decrypt(&key("static_key_A"), &bytes(&ack["packet"]), &[]).unwrap();
    let mut expected = key("ephemeral_key_B").public_key().to_bytes().to_vec();
    expected.extend(nonce("nonce_B"));
    expected.push(0);
    assert_eq!(body, expected);
}

#[test]
fn secrets_and_mac_states_match_the_vector() {
    let v = &handshake()["secrets"];
    let secrets = Secrets::agree(
        &key("ephemeral_key_A"),
        &key("ephemeral_key_B").public_key(),
        &nonce("nonce_A"),
        &nonce("nonce_B"),
    );
    assert_eq!(secrets.aes.to_vec(), bytes(&v["aes_secret"]));
    assert_eq!(secrets.mac.to_vec(), bytes(&v["mac_secret"]));

    let signed = token(
        &key("static_key_A"),
        &key("static_key_B").public_key(),
        &nonce("nonce_A"),
    );
    assert_eq!(
        signed.to_vec(),
        bytes(&v["signed_token_static_shared_xor_initiator_nonce"])
    );

    let (a, b) = vector_sessions();
    assert_eq!(
        digest(a.egress.mac().state()),
        bytes(&v["A_egress_mac_digest_initial"])
    );
    assert_eq!(
        digest(a.ingress.mac().state()),
        bytes(&v["A_ingress_mac_digest_initial"])
    );
    assert_eq!(
        digest(b.egress.mac().state()),
        bytes(&v["A_ingress_mac_digest_initial"])
    );
    let mut foo = b.ingress.mac().state().clone();
    foo.update(b"foo");
    assert_eq!(digest(&foo), bytes(&v["B_ingress_mac_foo"]));
}

/// Both ends of the handshake auth2/ack2.
pub(crate) fn vector_sessions() -> (crate::Session, crate::Session) {
    let (auth, ack) = (
        bytes(&packet("auth2")["packet"]),
        bytes(&packet("ack2")["packet"]),
    );
    let initiator = Initiator {
        key: key("static_key_A"),
        remote: key("static_key_B").public_key(),
        ephemeral: key("ephemeral_key_A"),
        nonce: nonce("nonce_A"),
        auth: auth.clone(),
    };
    let responder = Responder::open(&key("static_key_B"), &auth).unwrap();
    let b = responder.session(&key("ephemeral_key_B"), &nonce("nonce_B"), &ack);
    (initiator.finish(&ack).unwrap(), b)
}

/// What we send is what the vector's author sent, up to what is random: the ECIES key, padding and signature nonce.
#[test]
fn our_auth_body_is_that_of_the_vector() {
    let mut rng = StdRng::seed_from_u64(1);
    let envelope = Envelope::random(&mut rng);
    let initiator = Initiator::with(
        &key("static_key_A"),
        key("static_key_B").public_key(),
        key("ephemeral_key_A"),
        nonce("nonce_A"),
        &envelope,
    );
    let initiator = initiator.unwrap();
    let body = open(&key("static_key_B"), initiator.auth()).unwrap();
    let expected = bytes(&packet("auth2")["plaintext"]);
    let rlp = expected.len() - packet("auth2")["padding_length"].as_u64().unwrap() as usize;
    // The vector's signature has a random nonce, ours a deterministic one: both yield the same key, as all tests of
    // whole handshakes show. It takes the 65 bytes after the two headers.
    let after_signature = 2 + 2 + 65;
    assert_eq!(body[..4], expected[..4]);
    assert_eq!(body[after_signature..rlp], expected[after_signature..rlp]);
    assert_eq!(body[rlp..], vec![0; envelope.padding]);
    let opened = Responder::open(&key("static_key_B"), initiator.auth()).unwrap();
    assert_eq!(
        opened.remote_ephemeral(),
        key("ephemeral_key_A").public_key()
    );
}

#[test]
fn both_sides_agree_whatever_the_randomness() {
    let (a, b) = (key("static_key_A"), key("static_key_B"));
    for seed in 0..20 {
        let mut rng = StdRng::seed_from_u64(seed);
        let initiator = Initiator::new(&a, b.public_key(), &mut rng).unwrap();
        let auth = initiator.auth().to_vec();
        assert_eq!(handshake_packet_len([auth[0], auth[1]]), Ok(auth.len()));
        assert!(auth.len() > 307 && auth.len() <= MAX_HANDSHAKE_PACKET);
        let (b_session, ack) = Responder::open(&b, &auth).unwrap().accept(&mut rng);
        let a_session = initiator.finish(&ack).unwrap();
        assert_eq!(b_session.remote, a.public_key());
        assert_eq!(a_session.remote, b.public_key());
        for (egress, ingress) in [
            (a_session.egress, b_session.ingress),
            (b_session.egress, a_session.ingress),
        ] {
            let (mut egress, mut ingress) = (egress, ingress);
            let mut frame = Vec::new();
            egress.seal(7, b"payload", &mut frame).unwrap();
            assert_eq!(ingress.open_header(frame.first_chunk().unwrap()), Ok(8));
        }
    }
}

#[test]
fn nobody_dials_himself_but_a_caller_with_our_key_gets_a_session_to_be_refused_in() {
    let key = key("static_key_A");
    let mut rng = StdRng::seed_from_u64(1);
    let refused = Initiator::new(&key, key.public_key(), &mut rng).unwrap_err();
    assert_eq!(refused, AuthError::OwnKey);

    // An auth whose body names our own key, made by somebody who does not check.
    let body = AuthBody {
        signature: SecretKey::generate(&mut rng).sign_recoverable(&[7; 32]),
        public_key: key.public_key(),
        nonce: [1; 32],
    };
    let auth = Envelope::random(&mut rng).seal(&key.public_key(), body.encode());
    let caller = Responder::open(&key, &auth).unwrap();
    assert_eq!(caller.remote_key(), key.public_key());
}

#[test]
fn bodies_with_impossible_keys_and_signatures_are_refused() {
    let mut rng = StdRng::seed_from_u64(1);
    let b = key("static_key_B");
    let mut refuse = |body: rlp::RlpStream| {
        let auth = Envelope::random(&mut rng).seal(&b.public_key(), body.out().into());
        Responder::open(&b, &auth).unwrap_err()
    };
    let body = |signature: &[u8], public: &[u8], nonce: &[u8]| {
        let mut stream = rlp::RlpStream::new_list(4);
        stream
            .append(&signature)
            .append(&public)
            .append(&nonce)
            .append(&4u8);
        stream
    };
    let public = key("static_key_A").public_key().to_bytes();
    let signature = key("ephemeral_key_A").sign_recoverable(&[1; 32]);
    let good = signature.as_bytes();
    let mut bad_id = *good;
    bad_id[64] = 4;
    assert_eq!(
        refuse(body(good, &[1; 64], &[0; 32])),
        KeyError::NotOnCurve.into()
    );
    assert_eq!(
        refuse(body(&bad_id, &public, &[0; 32])),
        KeyError::RecoveryId { found: 4 }.into()
    );
    assert_eq!(
        refuse(body(&[0; 65], &public, &[0; 32])),
        KeyError::Unrecoverable.into()
    );
    let short = AuthError::Rlp(rlp::DecoderError::RlpIsTooShort);
    let long = AuthError::Rlp(rlp::DecoderError::RlpIsTooBig);
    assert_eq!(refuse(body(good, &public[..63], &[0; 32])), short);
    assert_eq!(refuse(body(good, &public, &[0; 33])), long);
    let missing = AuthError::Rlp(rlp::DecoderError::RlpIncorrectListLen);
    assert_eq!(refuse(rlp::RlpStream::new_list(0)), missing);
}

#[test]
fn sizes_outside_the_cap_are_refused_before_anything_else() {
    for declared in [0u16, 1, 112, 2049, u16::MAX] {
        let refused = AuthError::Size {
            declared: usize::from(declared),
        };
        assert_eq!(handshake_packet_len(declared.to_be_bytes()), Err(refused));
    }
    assert_eq!(handshake_packet_len(113u16.to_be_bytes()), Ok(115));
    assert_eq!(handshake_packet_len(2048u16.to_be_bytes()), Ok(2050));

    let auth = bytes(&packet("auth2")["packet"]);
    let b = key("static_key_B");
    for cut in [0, 1, 2, auth.len() - 1] {
        assert!(matches!(
            Responder::open(&b, &auth[..cut]),
            Err(AuthError::Size { .. })
        ));
    }
    let mut longer = auth;
    longer.push(0);
    assert!(matches!(
        Responder::open(&b, &longer),
        Err(AuthError::Size { .. })
    ));
}

mod properties {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn bodies_decode_or_are_refused(body in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = AuthBody::decode(&body);
            let _ = AckBody::decode(&body);
        }

        #[test]
        fn an_altered_auth_is_refused(index in 0usize..437, bit in 0u8..8) {
            let mut auth = bytes(&packet("auth2")["packet"]);
            prop_assume!(index < auth.len());
            auth[index] ^= 1 << bit;
            prop_assert!(Responder::open(&key("static_key_B"), &auth).is_err());
        }
    }
}
