//! What the proxy takes on, and what it refuses.

mod support;

use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::task::JoinSet;

use tracehop::config::Limits;
use tracehop::net::Proxy;

use support::TestProxy;
use support::allow_descriptors;
use support::parts;
use support::patiently;
use support::peer::Broker;
use support::route;
use support::sessions;
use support::until;

#[tokio::test]
async fn a_connection_too_many_is_reset_and_a_free_place_is_given_away() {
    let limits = Limits {
        connections_max: 2,
        ..Limits::default()
    };
    let proxy = TestProxy::start_with(&[Broker::echoing().await], limits, sessions::passing);
    let mut first = proxy.connect().await;
    let mut second = proxy.connect().await;
    for app in [&mut first, &mut second] {
        app.say("hello").await;
        app.expect("hello").await;
    }
    proxy.connect().await.expect_reset().await;
    let refused = r#"{route="test",reason="connections_max"} 1"#;
    assert_eq!(proxy.failures(), [refused]);
    first.say("still here").await;
    first.expect("still here").await;
    drop(second);
    patiently(async {
        loop {
            let mut app = proxy.connect().await;
            let _ = app.stream.try_write(b"hello");
            if let Ok(bytes) = app.next().await {
                break assert_eq!(bytes, b"hello");
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_connections_do_not_mix() {
    allow_descriptors(4096);
    let proxy = TestProxy::start(&[Broker::echoing().await]);
    let mut apps = JoinSet::new();
    for number in 0..500_u32 {
        let mut app = proxy.connect().await;
        apps.spawn(async move {
            for round in 0..20_u32 {
                let word = format!("{number}:{round}\n").repeat(100);
                app.say(&word).await;
                app.expect(&word).await;
            }
            app
        });
    }
    let apps = patiently(apps.join_all()).await;
    assert_eq!(proxy.view.connections(), 500);
    drop(apps);
    until(|| proxy.view.connections() == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_has_one_budget_and_nobody_starves_when_it_is_used_up() {
    let total = 4 << 20;
    let limits = Limits {
        connections_max: 64,
        buffer_bytes_max: 1 << 20,
        buffer_total_bytes_max: total,
        ..Limits::default()
    };
    let broker = Broker::listen().await;
    let proxy = TestProxy::start_with(&[broker.address], limits, sessions::passing);
    // More than the kernel takes for each of them.
    let message = vec![7; 8 << 20];
    let mut brokers = Vec::new();
    let mut apps = JoinSet::new();
    for _ in 0..32 {
        let (mut app, broker) = tokio::join!(proxy.connect(), broker.accept());
        brokers.push(broker);
        let message = message.clone();
        apps.spawn(async move {
            app.stream.write_all(&message).await.unwrap();
            app.stream.shutdown().await.unwrap();
            app
        });
    }
    // Each could have a quarter of it.
    until(|| {
        let waiting = proxy.view.buffered_bytes();
        assert!(waiting <= total, "{waiting} bytes");
        waiting > total / 3
    })
    .await;

    let (mut app, mut its_broker) = tokio::join!(proxy.connect(), broker.accept());
    let word = vec![1; 1 << 20];
    let said = word.clone();
    let echo = async {
        its_broker.expect(&word).await;
        its_broker.say(&word).await;
        its_broker
    };
    let asked = async {
        let (mut hears, mut says) = app.stream.split();
        let heard = async {
            let mut answer = vec![0; said.len()];
            hears.read_exact(&mut answer).await.unwrap();
            answer
        };
        tokio::join!(says.write_all(&said), heard).1
    };
    let (_its_broker, answer) = patiently(async { tokio::join!(echo, asked) }).await;
    assert!(answer == word);

    let mut read = JoinSet::new();
    for mut broker in brokers {
        let message = message.clone();
        read.spawn(async move {
            broker.expect(&message).await;
            broker.expect_end().await;
        });
    }
    patiently(read.join_all()).await;
    until(|| proxy.view.buffered_bytes() == 0).await;
}

#[tokio::test]
async fn an_address_in_use_is_named_with_a_remedy() {
    let taken = Broker::listen().await;
    let mut route = route(&[taken.address]);
    route.listen = taken.address;
    let error = Proxy::bind(&[route], Limits::default(), parts()).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("route test"), "{text}");
    assert!(text.contains(&taken.address.to_string()), "{text}");
    assert!(text.contains("choose another address"), "{text}");
}

#[tokio::test]
async fn an_address_of_another_machine_is_named_with_a_remedy() {
    let mut route = route(&[]);
    route.listen = "192.0.2.1:6380".parse().unwrap();
    let error = Proxy::bind(&[route], Limits::default(), parts()).unwrap_err();
    assert!(error.to_string().contains("no such address"), "{error}");
}
