//! Takes whatever comes and answers at once: a broker that costs next to nothing, so that
//! what is measured is the proxy, and a collector of spans.
//!
//! Prints the ports on which it listens: AMQP's, and that of OTLP over HTTP.

use std::collections::HashMap;
use std::io;
use std::io::BufRead;
use std::io::BufReader;
use std::io::ErrorKind;
use std::io::Read;
use std::io::Write;
use std::net;
use std::thread;

use mio::Events;
use mio::Interest;
use mio::Poll;
use mio::Token;
use mio::net::TcpListener;
use mio::net::TcpStream;

use tracehop_bench::amqp;

fn main() -> io::Result<()> {
    let broker = net::TcpListener::bind("127.0.0.1:0")?;
    let collector = net::TcpListener::bind("127.0.0.1:0")?;
    println!(
        "{} {}",
        broker.local_addr()?.port(),
        collector.local_addr()?.port()
    );
    thread::spawn(move || {
        for stream in collector.incoming().flatten() {
            // A connection that fails is its exporter's concern.
            thread::spawn(move || collect(stream));
        }
    });
    broker.set_nonblocking(true)?;
    serve(TcpListener::from_std(broker))
}

/// Answers requests over HTTP/1.1 with nothing, which stands for success.
fn collect(stream: net::TcpStream) -> io::Result<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let mut length = 0;
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            let line = line.trim().to_ascii_lowercase();
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse().map_err(io::Error::other)?;
            }
            if line.is_empty() {
                break;
            }
        }
        io::copy(&mut reader.by_ref().take(length), &mut io::sink())?;
        reader.get_mut().write_all(
            b"HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n",
        )?;
    }
}

/// Every client of the broker, on this thread.
fn serve(mut listener: TcpListener) -> io::Result<()> {
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(1024);
    let mut clients: HashMap<Token, Client> = HashMap::new();
    let mut buffer = vec![0; 256 << 10];
    let mut next = 1;
    poll.registry()
        .register(&mut listener, LISTENER, Interest::READABLE)?;
    loop {
        poll.poll(&mut events, None)?;
        for event in &events {
            if event.token() != LISTENER {
                let Some(client) = clients.get_mut(&event.token()) else {
                    continue;
                };
                if !matches!(client.serve(&mut buffer), Ok(true)) {
                    clients.remove(&event.token());
                }
                continue;
            }
            while let Ok((mut stream, _)) = listener.accept() {
                stream.set_nodelay(true)?;
                let token = Token(next);
                next += 1;
                poll.registry()
                    .register(&mut stream, token, Interest::READABLE)?;
                clients.insert(token, Client::new(stream));
            }
        }
    }
}

struct Client {
    stream: TcpStream,
    /// An incomplete frame, and how much of a body is still to come.
    held: Vec<u8>,
    skipped: usize,
    greeted: bool,
    confirming: bool,
    /// What is left of the current message, its header included.
    left: Option<u64>,
    published: u64,
    acknowledged: u64,
    answers: Vec<u8>,
}

impl Client {
    fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            held: Vec::new(),
            skipped: 0,
            greeted: false,
            confirming: false,
            left: None,
            published: 0,
            acknowledged: 0,
            answers: Vec::new(),
        }
    }

    /// Reads what there is and answers it. Says whether there may be more one day.
    fn serve(&mut self, buffer: &mut [u8]) -> io::Result<bool> {
        loop {
            let read = match self.stream.read(buffer) {
                Ok(0) => return Ok(false),
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
                Err(error) => return Err(error),
            };
            self.hear(&buffer[..read]);
            if self.confirming && self.acknowledged < self.published {
                let multiple = self.published - self.acknowledged > 1;
                self.answers.extend(amqp::ack(self.published, multiple));
                self.acknowledged = self.published;
            }
            // Answers are small, and whoever asks reads them: they always fit.
            self.stream.write_all(&self.answers)?;
            self.answers.clear();
            if read < buffer.len() {
                return Ok(true);
            }
        }
    }

    fn hear(&mut self, heard: &[u8]) {
        let skipped = self.skipped.min(heard.len());
        self.skipped -= skipped;
        let joined;
        let mut bytes = &heard[skipped..];
        if !self.held.is_empty() {
            self.held.extend_from_slice(bytes);
            joined = std::mem::take(&mut self.held);
            bytes = &joined;
        }
        if !self.greeted && bytes.len() >= GREETING {
            self.greeted = true;
            self.answers.extend(&amqp::opening()[0].1);
            bytes = &bytes[GREETING..];
        }
        while let Some((kind, length)) = amqp::frame_head(bytes) {
            let whole = amqp::FRAME_HEAD + length + 1;
            if kind == 3 {
                self.body(length as u64);
                self.skipped = whole.saturating_sub(bytes.len());
                bytes = &bytes[whole.min(bytes.len())..];
                continue;
            }
            let Some(frame) = bytes.get(..whole) else {
                break;
            };
            match kind {
                1 => self.method(frame),
                2 => self.header(frame),
                _ => {}
            }
            bytes = &bytes[whole..];
        }
        self.held.extend_from_slice(bytes);
    }

    fn method(&mut self, frame: &[u8]) {
        let opening = amqp::opening();
        match amqp::method_of(frame) {
            Some((10, 11)) => self.answers.extend(&opening[1].1),
            Some((10, 40)) => self.answers.extend(&opening[2].1),
            Some((20, 10)) => self.answers.extend(&opening[3].1),
            Some((85, 10)) => {
                self.confirming = true;
                self.answers.extend(amqp::confirming().1);
            }
            Some((60, 10)) => self.answers.extend(amqp::barrier().1),
            _ => {}
        }
    }

    fn header(&mut self, frame: &[u8]) {
        let size = frame
            .get(amqp::FRAME_HEAD + 4..)
            .and_then(|rest| rest.first_chunk());
        self.left = size.map(|size| u64::from_be_bytes(*size));
        self.body(0);
    }

    fn body(&mut self, length: u64) {
        if let Some(left) = &mut self.left {
            *left = left.saturating_sub(length);
            if *left == 0 {
                self.left = None;
                self.published += 1;
            }
        }
    }
}

const LISTENER: Token = Token(0);
/// `AMQP` and a version.
const GREETING: usize = 8;
