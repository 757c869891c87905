//! Whatever answers over HTTP, as a test wants it to.
#![allow(dead_code, unreachable_pub, reason = "each test uses its part")]

use std::io::BufRead;
use std::io::BufReader;
use std::io::Write;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::net::TcpStream;
use std::sync::mpsc;
use std::sync::mpsc::Receiver;
use std::thread;

/// Hands over each request, and the connection to answer it on.
pub struct Asked {
    pub address: SocketAddr,
    requests: Receiver<Request>,
}

/// A request, head alone.
pub struct Request {
    /// Path and query.
    pub target: String,
    /// In lower case.
    pub head: String,
    stream: TcpStream,
}

impl Asked {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, requests) = mpsc::channel();
        thread::spawn(move || {
            for stream in listener.incoming() {
                if sender.send(read(stream.unwrap())).is_err() {
                    return;
                }
            }
        });
        Self { address, requests }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Answers every request from now on by its path and query: status and body.
    pub fn answering(answer: impl Fn(&str) -> (u16, String) + Send + 'static) -> SocketAddr {
        let Self { address, requests } = Self::start();
        thread::spawn(move || {
            for request in requests {
                let (status, body) = answer(&request.target);
                request.answer(status, &body);
            }
        });
        address
    }

    /// The next request.
    pub fn next(&self) -> Request {
        self.requests.recv().unwrap()
    }
}

impl Request {
    /// Answers at once and for good.
    pub fn answer(mut self, status: u16, body: &str) {
        let length = body.len();
        let head = format!("HTTP/1.1 {status} X\r\ncontent-length: {length}\r\n");
        let _ = write!(self.stream, "{head}connection: close\r\n\r\n{body}");
    }

    /// Begins an answer that has no end of its own.
    pub fn begin(mut self) -> TcpStream {
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n";
        self.stream.write_all(head.as_bytes()).unwrap();
        self.stream
    }
}

fn read(stream: TcpStream) -> Request {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    let first = lines.next().unwrap().unwrap();
    let rest = lines
        .map(Result::unwrap)
        .take_while(|line| !line.is_empty());
    Request {
        target: first.split(' ').nth(1).unwrap().to_owned(),
        head: rest.map(|line| line.to_lowercase() + "\n").collect(),
        stream,
    }
}
