//! Live against three independent implementations of discv5: go-ethereum, @chainsafe/discv5 and the `discv5` crate.
//!
//! What they do in ways of their own, as found here and in their sources:
//!
//! | | go-ethereum 1.17 | @chainsafe/discv5 11 | `discv5` crate 0.12 |
//! |---|---|---|---|
//! | keys of crossing handshakes | the last sent or received | the last that was read under | both |
//! | a packet it cannot read | keeps the session | ends the session | ends the session |
//! | requests to a node at a time | one | one | many over a session |
//! | request id | bytes | a number: leading zeros are lost, an empty one is not read | bytes |
//! | a record that is not from where it says | no matter | no session | a session, no place in the table |
//! | FINDNODE is answered with | who has answered it | all in the table | all in the table |
//! | NODES of 16 records | by size | six of three, whatever their size | by size |
//! | NODES read for a question | five | five more than the first | the first, outside a lookup |
//! | a wrong record in NODES | left out | voids the message | voids the message |
//! | a newer record is fetched on | a pong | a ping or a pong | a ping or a pong |
//! | an IPv6 address without `udp6` | takes its port from `udp` | is none | is none |
//! | of two addresses it goes to | IPv4 if both reach as far, whatever it listens on | IPv6 if it listens there | IPv6 if it listens there |
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and is a driver"
)]

mod families;
mod network;
mod service;
mod sessions;
mod wire;

/// Each test with each client over each family.
macro_rules! with_each_client {
    (@family $family:ident, $on:ident: $($list:tt)*) => {
        mod $family {
            with_each_client!(@client go, Go, $on: $($list)*);
            with_each_client!(@client js, Js, $on: $($list)*);
            with_each_client!(@client rust, Rust, $on: $($list)*);
        }
    };
    (@client $name:ident, $client:ident, $on:ident: $($module:ident: $($test:ident),+;)+) => {
        mod $name {
            use tercet_tests::Loopback::$on;
            use tercet_tests::peer::Client::$client;
            $($(with_each_client!(@test $module, $test, $client, $on);)+)+
        }
    };
    (@test sessions, $test:ident, $client:ident, $on:ident) => {
        #[test]
        fn $test() {
            crate::sessions::$test($client, $on);
        }
    };
    (@test service, $test:ident, $client:ident, $on:ident) => {
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $test() {
            crate::service::$test($client, $on).await;
        }
    };
    ($($list:tt)*) => {
        with_each_client!(@family ipv4, V4: $($list)*);
        with_each_client!(@family ipv6, V6: $($list)*);
    };
}

with_each_client!(
    sessions:
        we_begin,
        they_begin,
        a_request_id_is_echoed,
        we_lose_the_session,
        they_lose_the_session,
        both_begin_at_once,
        a_new_record_is_fetched,
        many_handshakes_and_requests;
    service:
        every_request_in_both_directions,
        a_session_lost_by_either_is_made_again,
        a_changed_record_is_noticed;
);

mod two_families {
    use crate::families::{both_may_have_both, who_has_one_family_is_told_of_the_other};
    use tercet_tests::peer::Client;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn between_go() {
        who_has_one_family_is_told_of_the_other(Client::Go).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn between_js() {
        who_has_one_family_is_told_of_the_other(Client::Js).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn between_rust() {
        who_has_one_family_is_told_of_the_other(Client::Rust).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn with_rust() {
        both_may_have_both().await;
    }
}

mod everybody_finds_everybody {
    use crate::network::{Kind, every_node_finds_every_other};
    use tercet_tests::Loopback;
    use tercet_tests::peer::Client;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn around_tercet() {
        every_node_finds_every_other(Kind::Tercet, Loopback::V4).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn around_tercet_over_ipv6() {
        every_node_finds_every_other(Kind::Tercet, Loopback::V6).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn around_go() {
        every_node_finds_every_other(Kind::Other(Client::GoBoth), Loopback::V4).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn around_js() {
        every_node_finds_every_other(Kind::Other(Client::Js), Loopback::V4).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn around_rust() {
        every_node_finds_every_other(Kind::Other(Client::Rust), Loopback::V4).await;
    }
}
