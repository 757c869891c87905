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
    let proxy = TestProxy::start(&[Broker::echoing().await]);
    allow_descriptors(100);
    let mut ballast: Vec<_> = std::iter::repeat_with(|| File::open("/dev/null"))
        .map_while(Result::ok)
        .collect();
    // One for the app, none for the proxy.
    ballast.pop();
    let mut app = Peer::connect(proxy.address).await;
    until(|| !log.lines("could not be accepted").is_empty()).await;

    ballast.clear();
    app.say("hello").await;
    app.expect("hello").await;
    assert_eq!(log.lines("could not be accepted").len(), 1);
    let [counted] = &*proxy.failures() else {
        panic!("one reason, not {:?}", proxy.failures());
    };
    assert!(counted.contains(r#"reason="no_descriptors""#), "{counted}");
}
