//! What the admin listener answers, and that it cannot be used to wear the proxy out.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::thread;

use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::net::TcpStream;

use tracehop::admin::Admin;
use tracehop::admin::AdminError;
use tracehop::admin::Readiness;
use tracehop::admin::Serving;
use tracehop::admin::State;
use tracehop::config;
use tracehop::telemetry::Metrics;

#[tokio::test]
async fn the_process_is_healthy_in_every_state() {
    let page = Page::open().await;
    for state in [State::Starting, State::Ready, State::Draining] {
        page.readiness.set(state);
        let answer = page.get("/healthz").await;
        assert_eq!((answer.status, &*answer.body), (200, "ok\n"));
    }
}

#[tokio::test]
async fn it_is_ready_only_while_it_takes_connections() {
    let page = Page::open().await;
    for (state, status, body) in [
        (State::Starting, 503, "starting\n"),
        (State::Ready, 200, "ready\n"),
        (State::Draining, 503, "draining\n"),
    ] {
        page.readiness.set(state);
        let answer = page.get("/readyz").await;
        assert_eq!((answer.status, &*answer.body), (status, body));
    }
}

#[tokio::test]
async fn metrics_are_openmetrics() {
    let page = Page::open().await;
    page.metrics.route("main").opened();
    let answer = page.get("/metrics").await;
    assert_eq!(answer.status, 200);
    assert!(
        answer
            .head
            .contains("content-type: application/openmetrics-text; version=1.0.0; charset=utf-8"),
        "{}",
        answer.head
    );
    let open = "\ntracehop_connections{route=\"main\"} 1\n";
    assert!(answer.body.contains(open), "{}", answer.body);
    assert!(answer.body.ends_with("# EOF\n"));
}

#[tokio::test]
async fn traffic_does_not_wait_for_a_scrape() {
    let page = Page::open().await;
    let scraped_on = Arc::new(Mutex::new(None));
    let thread = Arc::clone(&scraped_on);
    page.metrics.watch_held(move || {
        *thread.lock().unwrap() = Some(thread::current().id());
        0
    });
    assert_eq!(page.get("/metrics").await.status, 200);
    let scraped_on = scraped_on.lock().unwrap().expect("it was asked for");
    // This test has one thread, as if it were the traffic's.
    assert_ne!(scraped_on, thread::current().id());
}

#[tokio::test]
async fn anything_else_is_refused() {
    let page = Page::open().await;
    assert_eq!(page.get("/").await.status, 200);
    assert_eq!(page.get("/metrics/").await.status, 404);
    assert_eq!(page.get("/../etc/passwd").await.status, 404);
    let answer = page
        .ask("POST /metrics HTTP/1.1\r\nhost: proxy\r\ncontent-length: 0\r\n\r\n")
        .await;
    assert_eq!(answer.status, 405);
    assert!(answer.head.contains("allow: GET"), "{}", answer.head);
    let with_header = |bytes| format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(bytes));
    assert_eq!(page.ask(&with_header(15 << 10)).await.status, 200);
    assert_ne!(page.ask(&with_header(17 << 10)).await.status, 200);
    assert_eq!(page.ask("PING\r\n\r\n").await.status, 400);
}

#[tokio::test]
async fn those_who_connect_and_say_nothing_give_way() {
    let page = Page::open().await;
    let mut silent = Vec::new();
    for _ in 0..10 {
        for _ in 0..64 {
            silent.push(TcpStream::connect(page.address).await.unwrap());
        }
        assert_eq!(page.get("/healthz").await.status, 200);
    }
}

#[tokio::test]
async fn a_taken_port_is_told_with_the_setting() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap();
    let error = bind(Some(address)).await.unwrap_err().to_string();
    assert_eq!(
        error,
        format!(
            "admin.listen = \"{address}\": somebody listens there already; choose another port, or off"
        )
    );
}

#[tokio::test]
async fn no_address_is_no_listener() {
    assert!(bind(None).await.unwrap().is_none());
}

#[tokio::test]
async fn once_closed_nobody_answers() {
    let page = Page::open().await;
    // One that was accepted and has not asked yet does not keep it open.
    let idle = TcpStream::connect(page.address).await.unwrap();
    page.get("/healthz").await;
    page.serving.close().await;
    assert!(TcpStream::connect(page.address).await.is_err());
    drop(idle);
}

async fn bind(listen: Option<SocketAddr>) -> Result<Option<Admin>, AdminError> {
    let metrics = Arc::new(Metrics::default());
    Admin::bind(&config::Admin { listen }, metrics, Readiness::default()).await
}

/// An admin listener that answers.
struct Page {
    metrics: Arc<Metrics>,
    readiness: Readiness,
    address: SocketAddr,
    serving: Serving,
}

#[derive(Default)]
struct Answer {
    /// 0: the connection was cut off without an answer.
    status: u16,
    head: String,
    body: String,
}

impl Page {
    async fn open() -> Self {
        let metrics = Arc::new(Metrics::default());
        let readiness = Readiness::default();
        let config = config::Admin {
            listen: Some(SocketAddr::from(([127, 0, 0, 1], 0))),
        };
        let admin = Admin::bind(&config, Arc::clone(&metrics), readiness.clone())
            .await
            .unwrap()
            .unwrap();
        Self {
            metrics,
            readiness,
            address: admin.address(),
            serving: admin.serve(),
        }
    }

    async fn get(&self, path: &str) -> Answer {
        self.ask(&format!("GET {path} HTTP/1.1\r\nhost: proxy\r\n\r\n"))
            .await
    }

    /// Sends a request as it is, and reads until the connection ends.
    async fn ask(&self, request: &str) -> Answer {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        // It may have heard enough before it has heard everything.
        let _ = stream.write_all(request.as_bytes()).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        let answer = String::from_utf8(answer).unwrap();
        let Some((head, body)) = answer.split_once("\r\n\r\n") else {
            return Answer::default();
        };
        Answer {
            status: head[9..12].parse().unwrap(),
            head: head.to_owned(),
            body: body.to_owned(),
        }
    }
}
