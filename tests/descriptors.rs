//! What happens when the process has no file descriptor left. A file of its own, because
//! nothing else can run in such a process.

mod support;

use std::fs::File;

use support::TestProxy;
use support::allow_descriptors;
use support::log::Log;
use support::peer::Broker;
use support::peer::Peer;
use support::until;

#[tokio::test]
async fn accepting_pauses_without_file_descriptors_and_goes_on_with_them() {
    let log = Log::capture();
    let broker = Broker::listen().await;
    let proxy = TestProxy::start(&[broker.address]);
    allow_descriptors(100);
    let mut ballast: Vec<_> = std::iter::repeat_with(|| File::open("/dev/null"))
        .map_while(Result::ok)
        .collect();
    // One for the app, none for the proxy.
    ballast.pop();
    let mut app = Peer::connect(proxy.address).await;
    until(|| !log.lines("could not be accepted").is_empty()).await;

    // With one alone the app could be accepted, and would have to be reset: it needs a broker.
    ballast.pop();
    let paused = pauses(&proxy);
    until(|| pauses(&proxy) > paused + 1.0).await;

    ballast.clear();
    let mut broker = broker.accept().await;
    app.say("hello").await;
    broker.expect("hello").await;
    assert_eq!(log.lines("could not be accepted").len(), 1);
    let [counted] = &*proxy.failures() else {
        panic!("one reason, not {:?}", proxy.failures());
    };
    assert!(counted.contains(r#"reason="no_descriptors""#), "{counted}");
}

fn pauses(proxy: &TestProxy) -> f64 {
    let series = r#"tracehop_connections_failed_total{route="test",reason="no_descriptors"}"#;
    proxy.metric(series).unwrap_or_default()
}
