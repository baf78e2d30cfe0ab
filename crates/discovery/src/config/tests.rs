//! Defaults, refusals, and the form in a file.

use super::*;

/// The defaults as the table in the documentation shows them.
#[test]
fn the_documented_defaults_are_the_ones() {
    let config = DiscoveryConfig::default();
    let seconds = |duration: Duration| match (duration.as_secs(), duration.subsec_millis()) {
        (0, millis) => format!("{millis}ms"),
        (secs, _) => format!("{}m", secs / 60),
    };
    let none = |empty: bool| {
        if empty {
            "none".to_owned()
        } else {
            "some".to_owned()
        }
    };
    let rows = [
        ("listen", format!("`{}`", config.listen)),
        ("listen_v6", none(config.listen_v6.is_none())),
        ("v4", config.v4.to_string()),
        ("v5", config.v5.to_string()),
        ("advertised_ip", none(config.advertised_ip.is_none())),
        ("advertised_ip6", none(config.advertised_ip6.is_none())),
        ("tcp_port", config.tcp_port.to_string()),
        ("guest", config.guest.to_string()),
        ("bootnodes", none(config.bootnodes.is_empty())),
        ("netrestrict", none(config.netrestrict.is_none())),
        ("entries", none(config.entries.is_empty())),
        ("lookup_paths", config.lookup_paths.to_string()),
        ("refresh_interval", seconds(config.refresh_interval)),
        ("reply_timeout", seconds(config.reply_timeout)),
        ("v5_reply_timeout", seconds(config.v5_reply_timeout)),
        ("ntp_server", none(config.ntp_server.is_none())),
        ("second_reader", config.second_reader.to_string()),
    ];
    let source = include_str!("../config.rs");
    for (name, default) in rows {
        let row = format!("/// | `{name}` | {default} |");
        assert!(source.contains(&row), "not documented: {row}");
    }
    assert_eq!(DiscoveryConfig::builder().build(), Ok(config));
}

#[test]
fn settings_that_cannot_be_are_refused() {
    let build = DiscoveryConfig::builder;
    let nobody: IpAddr = [0, 0, 0, 0].into();
    assert_eq!(
        build().advertised_ip(nobody).build(),
        Err(ConfigError::AdvertisedIp(nobody))
    );
    for (paths, fits) in [
        (0, false),
        (1, true),
        (MAX_PATHS, true),
        (MAX_PATHS + 1, false),
    ] {
        assert_eq!(build().lookup_paths(paths).build().is_ok(), fits, "{paths}");
    }
    assert_eq!(
        build().v4(false).v5(false).build(),
        Err(ConfigError::NoProtocol)
    );
    for (v4, v5) in [(true, false), (false, true)] {
        assert!(build().v4(v4).v5(v5).build().is_ok());
    }
    let [v4, v6, mapped]: [SocketAddr; 3] =
        ["127.0.0.1:0", "[::1]:0", "[::ffff:127.0.0.1]:0"].map(|addr| addr.parse().unwrap());
    for (listen, listen_v6, fits) in [
        (v4, v6, true),
        (v4, v4, false),
        (v6, v6, false),
        (mapped, v6, true),
        (v4, mapped, false),
    ] {
        let built = build().listen(listen).listen_v6(listen_v6).build();
        assert_eq!(built.is_ok(), fits, "{listen} {listen_v6}");
    }
    for (timeout, fits) in [(9, false), (10, true), (10_000, true), (10_001, false)] {
        let timeout = Duration::from_millis(timeout);
        assert_eq!(
            build().reply_timeout(timeout).build().is_ok(),
            fits,
            "{timeout:?}"
        );
    }
    let short = Duration::from_millis(9999);
    assert_eq!(
        build().refresh_interval(short).build(),
        Err(ConfigError::RefreshInterval(short))
    );
    assert_eq!(
        build().netrestrict(vec![]).build(),
        Err(ConfigError::NobodyPermitted)
    );
}

/// What is advertised must have a socket to be reached at, and each family one address at most.
#[test]
fn advertised_addresses_fit_the_sockets() {
    let (four, six): (IpAddr, Ipv6Addr) = ([20, 0, 0, 1].into(), "2a00::1".parse().unwrap());
    let other: Ipv6Addr = "2a00::2".parse().unwrap();
    let listening = |addr: &str| DiscoveryConfig::builder().listen(addr.parse().unwrap());
    let both = || listening("0.0.0.0:1").listen_v6("[::]:1".parse().unwrap());
    for dual in [both(), listening("[::]:1")] {
        let config = dual.advertised_ip(four).advertised_ip6(six).build();
        let stack = config
            .unwrap()
            .into_stack([1; 32], ("[::]:1".parse().unwrap(), None));
        let expected = [four, six.into()].map(|ip| Some(SocketAddr::new(ip, 0)));
        assert_eq!(stack.advertised, expected);
        assert!(stack.listen.iter().all(Option::is_some));
    }
    assert_eq!(
        listening("0.0.0.0:1").advertised_ip6(six).build(),
        Err(ConfigError::AdvertisedFamily(six.into()))
    );
    assert_eq!(
        listening("[::1]:1").advertised_ip(four).build(),
        Err(ConfigError::AdvertisedFamily(four))
    );
    let twice = both().advertised_ip(six.into()).advertised_ip6(other);
    assert_eq!(twice.build(), Err(ConfigError::AdvertisedTwice(six, other)));
    let nobody = both().advertised_ip6(Ipv6Addr::UNSPECIFIED).build();
    assert!(matches!(nobody, Err(ConfigError::AdvertisedIp(_))));
}

#[cfg(feature = "serde")]
#[test]
fn a_configuration_is_read_as_people_write_it() {
    let url = format!(
        "enode://{}@10.0.0.1:30303",
        "ca634cae0d49acb401d8a4c6b6fe8c55b70d115bf400769cc1400f3258cd31387574077f301b421bc84df7266c44e9e6d569fc56be00812904767bf5ccd1fc7f"
    );
    let text = format!(
        r#"{{"listen":"127.0.0.1:0","bootnodes":["{url}"],"netrestrict":["10.0.0.0/8"],"refresh-interval":"10m",
            "v4":false,"advertised-ip6":"2a00::1","listen-v6":"[::]:0","v5-reply-timeout":"1s","ntp-server":"time.example.org"}}"#
    );
    let config: DiscoveryConfig = serde_json::from_str(&text).unwrap();
    assert_eq!(config.refresh_interval, Duration::from_secs(600));
    assert_eq!(config.v5_reply_timeout, Duration::from_secs(1));
    assert_eq!((config.v4, config.v5), (false, true));
    assert_eq!(config.advertised_ip6, Some("2a00::1".parse().unwrap()));
    assert_eq!(config.ntp_server.as_deref(), Some("time.example.org"));
    assert_eq!(config.check(), Ok(()));
    assert_eq!(config.bootnodes[0].enode_url().to_string(), url);
    let again: DiscoveryConfig =
        serde_json::from_str(&serde_json::to_string(&config).unwrap()).unwrap();
    assert_eq!(again, config);
    let dns = text.replace("10.0.0.1:30303", "boot.example.org:30303");
    let error = serde_json::from_str::<DiscoveryConfig>(&dns)
        .unwrap_err()
        .to_string();
    assert!(error.contains("names no IP address"), "{error}");
}
