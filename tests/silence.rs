//! A peer that is gone without a word: its network has gone down, with or without something on
//! the way to it. And one that is there and only does not read.

mod support;

use std::net::SocketAddr;
use std::path::Path;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;

use socket2::SockRef;
use tokio::io::AsyncReadExt;

use tracehop::config::Limits;
use tracehop::config::Route;

use support::TestProxy;
use support::patiently;
use support::peer::Broker;
use support::peer::Peer;
use support::redis::Redis;
use support::route;
use support::sessions;
use support::until;

/// In the tests; the kernel's keepalive counts in seconds.
const SILENT_MAX: Duration = Duration::from_secs(2);

fn limits() -> Limits {
    Limits {
        peer_silent_max: SILENT_MAX,
        // What is not found by silence is not found in time.
        half_closed_max: Duration::from_secs(3_600),
        ..Limits::default()
    }
}

#[tokio::test]
async fn a_broker_whose_link_goes_down_is_told_to_the_app_by_a_reset() {
    let Some(far) = Namespace::new(1) else { return };
    let broker = far.redis().await;
    let proxy = TestProxy::start_with(&[broker.address], limits(), sessions::passing);
    let (mut idle, mut asking) = (proxy.connect().await, proxy.connect().await);
    for app in [&mut idle, &mut asking] {
        app.say("PING\r\n").await;
        app.expect("+PONG\r\n").await;
    }
    idle.say("BRPOP celery 0\r\n").await;
    until_redis_says(&mut asking, "INFO clients", "blocked_clients:1").await;

    far.cut();
    // Nothing is ever acknowledged of this one.
    asking.say("PING\r\n").await;
    idle.expect_reset().await;
    asking.expect_reset().await;
    until(|| proxy.view.connections() == 0).await;
    let failures = [r#"{route="test",reason="peer_silent"} 2"#];
    assert_eq!(proxy.failures(), failures);
}

#[tokio::test]
async fn nothing_is_popped_for_an_app_whose_link_went_down() {
    let Some(far) = Namespace::new(2) else { return };
    let redis = Redis::start().await;
    let route = Route {
        listen: SocketAddr::new(far.near.parse().unwrap(), 0),
        ..route(&[redis.address])
    };
    let proxy = TestProxy::start_route(route, limits());
    let _worker = far.run(
        "redis-cli",
        &[
            "-h",
            &far.near,
            "-p",
            &proxy.address.port().to_string(),
            "BRPOP",
            "celery",
            "0",
        ],
    );
    let mut direct = Peer::connect(redis.address).await;
    until_redis_says(&mut direct, "INFO clients", "blocked_clients:1").await;

    far.cut();
    until(|| proxy.view.connections() == 0).await;
    until_redis_says(&mut direct, "INFO clients", "blocked_clients:0").await;
    direct.say("LPUSH celery task\r\n").await;
    direct.expect(":1\r\n").await;
    direct.say("LLEN celery\r\n").await;
    direct.expect(":1\r\n").await;
    assert_eq!(
        proxy.failures(),
        [r#"{route="test",reason="peer_silent"} 1"#]
    );
}

#[tokio::test]
async fn an_app_whose_link_goes_down_with_an_answer_on_its_way_ends_at_the_broker() {
    let Some(far) = Namespace::new(3) else { return };
    let redis = Redis::start().await;
    let route = Route {
        listen: SocketAddr::new(far.near.parse().unwrap(), 0),
        ..route(&[redis.address])
    };
    let proxy = TestProxy::start_route(route, limits());
    let _watcher = far.run(
        "redis-cli",
        &[
            "-h",
            &far.near,
            "-p",
            &proxy.address.port().to_string(),
            "SUBSCRIBE",
            "news",
        ],
    );
    let mut direct = Peer::connect(redis.address).await;
    until_redis_says(&mut direct, "PUBSUB NUMSUB news", "\r\n:1").await;

    far.cut();
    direct.say("PUBLISH news x\r\n").await;
    direct.expect(":1\r\n").await;
    until_redis_says(&mut direct, "PUBSUB NUMSUB news", "\r\n:0").await;
    assert_eq!(
        proxy.failures(),
        [r#"{route="test",reason="peer_silent"} 1"#]
    );
}

/// The kernel's own `TCP_USER_TIMEOUT` takes it for dead.
#[tokio::test]
async fn a_peer_that_is_there_and_does_not_read_is_waited_for() {
    let broker = Broker::listen().await;
    let proxy = TestProxy::start_with(&[broker.address], limits(), sessions::passing);
    let (mut app, its_broker) = tokio::join!(proxy.connect(), broker.accept());
    let (control, _does_not_read) = tokio::join!(Peer::connect(broker.address), broker.accept());
    let bytes = 16 << 20;
    let answer = vec![7; bytes];
    let told = tokio::spawn(async move {
        let mut broker = its_broker;
        broker.say(&answer).await;
        broker
    });
    until(|| proxy.view.buffered_bytes() > 0).await;

    // By the time that this one is given up, the other has waited for longer than it may be
    // silent.
    let socket = SockRef::from(&control.stream);
    socket.set_tcp_user_timeout(Some(2 * SILENT_MAX)).unwrap();
    while control.stream.try_write(&[0; 1 << 16]).is_ok() {}
    patiently(control.stream.ready(tokio::io::Interest::ERROR))
        .await
        .unwrap();

    let mut heard = vec![0; bytes];
    patiently(app.stream.read_exact(&mut heard)).await.unwrap();
    drop(told.await.unwrap());
    app.expect_end().await;
    drop(app);
    until(|| proxy.view.connections() == 0).await;
    assert!(proxy.failures().is_empty());
}

async fn until_redis_says(app: &mut Peer, question: &str, fact: &str) {
    patiently(async {
        loop {
            app.say(format!("{question}\r\n")).await;
            let answer = app.next().await.unwrap();
            if String::from_utf8_lossy(&answer).contains(fact) {
                return;
            }
        }
    })
    .await;
}

/// A host of its own at the end of a link.
struct Namespace {
    name: String,
    near: String,
    far: String,
}

impl Namespace {
    /// `None`, said aloud, where this may not be made.
    fn new(number: u8) -> Option<Self> {
        let id = std::process::id() % 10_000;
        let (a, b) = (id / 250, id % 250);
        let each = Self {
            name: format!("th{number}-{id}"),
            near: format!("10.{}.{b}.1", 200 + (a + u32::from(number) * 13) % 50),
            far: format!("10.{}.{b}.2", 200 + (a + u32::from(number) * 13) % 50),
        };
        let (name, link) = (&each.name, format!("th{number}n{id}"));
        let steps = [
            format!("netns add {name}"),
            format!("link add {link} type veth peer name far netns {name}"),
            format!("addr add {}/24 dev {link}", each.near),
            format!("link set {link} up"),
            format!("-n {name} addr add {}/24 dev far", each.far),
            format!("-n {name} link set far up"),
        ];
        for step in steps {
            if !ip(&step) {
                eprintln!("left out: `ip {step}` failed; it takes root and a kernel with veth");
                return None;
            }
        }
        Some(each)
    }

    fn run(&self, program: &str, arguments: &[&str]) -> Running {
        let mut command = Command::new("ip");
        command
            .args(["netns", "exec", &self.name, program])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        Running(command.spawn().expect("ip is installed"))
    }

    async fn redis(&self) -> FarRedis {
        let address = SocketAddr::new(self.far.parse().unwrap(), 6379);
        let options = ["--bind", &self.far, "--port", "6379", "--save", ""];
        let open = ["--protected-mode", "no"];
        let process = self.run("redis-server", &[&options[..], &open].concat());
        patiently(async {
            while tokio::net::TcpStream::connect(address).await.is_err() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
        FarRedis {
            address,
            _process: process,
        }
    }

    /// Nothing gets through any more, and nobody is told.
    fn cut(&self) {
        assert!(ip(&format!("-n {} link set far down", self.name)));
    }
}

struct FarRedis {
    address: SocketAddr,
    _process: Running,
}

/// Ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Namespace {
    /// The link goes with it.
    fn drop(&mut self) {
        if Path::new("/run/netns").join(&self.name).exists() {
            ip(&format!("netns del {}", self.name));
        }
    }
}

fn ip(arguments: &str) -> bool {
    let mut command = Command::new("ip");
    command.args(arguments.split_whitespace());
    let done = command.stderr(Stdio::null()).status();
    done.is_ok_and(|status| status.success())
}
