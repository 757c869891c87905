//! What the proxy takes on, and what it refuses.

mod support;

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
    support::until(|| proxy.view.connections() == 0).await;
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
