use super::*;
use crate::vectors::{array, bytes, public, secret, vectors};
use proptest::prelude::*;

#[test]
fn ecdh_vector() {
    let v = &vectors()["rlpx"]["ecies_ecdh"];
    let shared = secret(&v["secret_key"]).ecdh_x(&public(&v["public_key"]));
    assert_eq!(shared.to_vec(), bytes(&v["shared_secret_x"]));
}

#[test]
fn computed_message_vector() {
    let v = &vectors()["rlpx"]["ecies_computed"];
    let recipient = secret(&v["recipient_private_key"]);
    let ephemeral = secret(&v["ephemeral_private_key"]);
    let (plaintext, authdata) = (bytes(&v["plaintext"]), bytes(&v["authdata"]));

    let keys = Keys::agree(&ephemeral, &recipient.public_key());
    assert_eq!(keys.encryption.to_vec(), bytes(&v["kE"]));
    assert_eq!(keys.mac.to_vec(), bytes(&v["kM_sha256"]));

    let mut message = Vec::new();
    let iv = array(&v["iv"]);
    encrypt(
        &recipient.public_key(),
        &ephemeral,
        &iv,
        &plaintext,
        &authdata,
        &mut message,
    );
    assert_eq!(message, bytes(&v["message"]));
    assert_eq!(decrypt(&recipient, &message, &authdata), Ok(plaintext));
}

/// All six handshake packets of EIP-8, those from before it included: the encryption is the same.
#[test]
fn handshake_packet_vectors() {
    let v = &vectors()["rlpx"]["handshake"];
    for packet in v["packets"].as_array().unwrap() {
        let recipient = match packet["direction"].as_str().unwrap() {
            "A->B" => secret(&v["keys"]["static_key_B"]),
            _ => secret(&v["keys"]["static_key_A"]),
        };
        let wire = bytes(&packet["packet"]);
        let prefix = if packet["size_prefix"].is_string() {
            2
        } else {
            0
        };
        let (authdata, message) = wire.split_at(prefix);
        let keys = Keys::agree(&recipient, &public(&packet["ecies_ephemeral_pubkey"]));
        assert_eq!(keys.encryption.to_vec(), bytes(&packet["kE"]));
        assert_eq!(keys.mac.to_vec(), bytes(&packet["kM"]));
        assert_eq!(
            decrypt(&recipient, message, authdata),
            Ok(bytes(&packet["plaintext"]))
        );
    }
}

#[test]
fn every_altered_byte_is_noticed() {
    let v = &vectors()["rlpx"]["ecies_computed"];
    let recipient = secret(&v["recipient_private_key"]);
    let (message, authdata) = (bytes(&v["message"]), bytes(&v["authdata"]));
    for index in 0..message.len() {
        let mut altered = message.clone();
        altered[index] ^= 1;
        // A changed coordinate is off the curve, the tag before it must still be that of an uncompressed point.
        let expected = if index < TAGGED_POINT {
            EciesError::Point
        } else {
            EciesError::Tag
        };
        assert_eq!(
            decrypt(&recipient, &altered, &authdata),
            Err(expected),
            "byte {index}"
        );
    }
    assert_eq!(
        decrypt(&recipient, &message, &[0, 0]),
        Err(EciesError::Tag),
        "other authdata"
    );
    assert_eq!(
        decrypt(&secret(&v["ephemeral_private_key"]), &message, &authdata),
        Err(EciesError::Tag)
    );
}

/// The oracle attack on early clients: points off the curve leak the key through ECDH if they are not refused first.
#[test]
fn points_off_the_curve_are_refused() {
    let recipient = secret(&vectors()["rlpx"]["ecies_computed"]["recipient_private_key"]);
    for fill in [0x00, 0x01, 0xff] {
        let mut message = vec![fill; OVERHEAD];
        message[0] = UNCOMPRESSED;
        assert_eq!(decrypt(&recipient, &message, &[]), Err(EciesError::Point));
    }
}

proptest! {
    #[test]
    fn decryption_is_total(message in prop::collection::vec(any::<u8>(), 0..300)) {
        let recipient = secret(&vectors()["rlpx"]["ecies_computed"]["recipient_private_key"]);
        let refused = decrypt(&recipient, &message, &[]).unwrap_err();
        prop_assert_eq!(message.len() < OVERHEAD, matches!(refused, EciesError::TooShort { .. }));
    }

    #[test]
    fn what_is_encrypted_comes_back(plaintext in prop::collection::vec(any::<u8>(), 0..300), iv: [u8; 16]) {
        let v = &vectors()["rlpx"]["ecies_computed"];
        let recipient = secret(&v["recipient_private_key"]);
        let ephemeral = secret(&v["ephemeral_private_key"]);
        let mut message = Vec::new();
        encrypt(&recipient.public_key(), &ephemeral, &iv, &plaintext, &[], &mut message);
        prop_assert_eq!(message.len(), plaintext.len() + OVERHEAD);
        prop_assert_eq!(decrypt(&recipient, &message, &[]), Ok(plaintext));
    }
}
