//! Puts load on a broker, or on a proxy before it, and prints what came of it as JSON.
//!
//!     load redis ADDRESS [--connections N] [--pipeline N] [--bytes N] [--untouched]
//!                        [--consumers N] [--seconds S] [--warm-up S]
//!     load amqp ADDRESS  [the same] [--confirms]; --pipeline is the window
//!     load storm ADDRESS [--connections N] [--rate N] [--asking] [--seconds S] [--warm-up S]
//!     load idle ADDRESS  [--connections N]; says "ready", and holds them until its input ends
//!
//! One thread, and nothing in its loop but writing what is ready and counting what comes back.
//! In a storm N clients open and close connections, as fast as they can or `--rate` a second
//! together; what is measured is a PING on a connection that was there before.

use std::collections::HashMap;
use std::io;
use std::io::ErrorKind;
use std::io::Read;
use std::io::Write;
use std::net::SocketAddr;
use std::net::TcpStream as Blocking;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use mio::Events;
use mio::Interest;
use mio::Poll;
use mio::Token;
use mio::net::TcpStream;
use tracehop_bench::Batch;
use tracehop_bench::amqp;
use tracehop_bench::redis;

fn main() -> io::Result<()> {
    let options = Options::read();
    let measured = match &*options.protocol {
        "idle" => return idle(&options),
        "storm" => storm(&options)?,
        _ => Load::start(&options)?.run()?,
    };
    println!("{}", measured.json());
    Ok(())
}

#[derive(Clone, Debug)]
struct Options {
    protocol: String,
    address: SocketAddr,
    connections: usize,
    pipeline: usize,
    bytes: usize,
    untouched: bool,
    consumers: usize,
    confirms: bool,
    /// Connections a second; 0 for as many as there can be.
    rate: usize,
    asking: bool,
    warm_up: Duration,
    time: Duration,
}

impl Options {
    fn read() -> Self {
        let mut words = std::env::args().skip(1);
        let mut next = |what: &str| words.next().unwrap_or_else(|| panic!("{what} is missing"));
        let protocol = next("redis, amqp, storm or idle");
        let address = next("the address").parse().expect("an address");
        let mut rest = HashMap::new();
        let words: Vec<String> = words.collect();
        for (at, word) in words.iter().enumerate() {
            if let Some(name) = word.strip_prefix("--") {
                rest.insert(name, words.get(at + 1).map_or("", |value| value));
            }
        }
        let number = |name: &str, default: usize| match rest.get(name) {
            Some(value) => value.parse().unwrap_or_else(|_| panic!("--{name} {value}")),
            None => default,
        };
        let seconds = |name: &str, default: f64| {
            Duration::from_secs_f64(rest.get(name).map_or(default, |value| {
                value.parse().unwrap_or_else(|_| panic!("--{name} {value}"))
            }))
        };
        Self {
            protocol,
            address,
            connections: number("connections", 50),
            pipeline: number("pipeline", 1),
            bytes: number("bytes", 1024),
            untouched: rest.contains_key("untouched"),
            consumers: number("consumers", 0),
            confirms: rest.contains_key("confirms"),
            rate: number("rate", 0),
            asking: rest.contains_key("asking"),
            warm_up: seconds("warm-up", 0.3),
            time: seconds("seconds", 1.0),
        }
    }
}

/// Opens connections, has each answer once, and holds them.
fn idle(options: &Options) -> io::Result<()> {
    let mut held = Vec::new();
    for _ in 0..options.connections {
        let mut stream = Blocking::connect(options.address)?;
        ping(&mut stream)?;
        held.push(stream);
    }
    println!("ready");
    io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

fn ping(stream: &mut Blocking) -> io::Result<()> {
    stream.write_all(b"*1\r\n$4\r\nPING\r\n")?;
    stream.read_exact(&mut [0; 7])
}

/// Counts the connections that come and go, and times the answers on one that stays.
fn storm(options: &Options) -> io::Result<Measured> {
    let mut bystander = Blocking::connect(options.address)?;
    bystander.set_nodelay(true)?;
    let is_over = AtomicBool::new(false);
    let opened = AtomicU64::new(0);
    let mut measured = Measured::default();
    thread::scope(|scope| {
        for _ in 0..options.connections {
            scope.spawn(|| open_and_close(options, &opened, &is_over));
        }
        let mut pass = |time: Duration| {
            let before = opened.load(Ordering::Relaxed);
            let start = Instant::now();
            measured.latencies.clear();
            while start.elapsed() < time {
                let asked = Instant::now();
                ping(&mut bystander)?;
                let nanos = asked.elapsed().as_nanos();
                let nanos = u32::try_from(nanos).unwrap_or(u32::MAX);
                measured.latencies.push(nanos);
                thread::sleep(Duration::from_millis(1));
            }
            measured.seconds = start.elapsed().as_secs_f64();
            measured.messages = opened.load(Ordering::Relaxed) - before;
            measured.before = before;
            io::Result::Ok(())
        };
        let passed = pass(options.warm_up).and_then(|()| pass(options.time));
        is_over.store(true, Ordering::Relaxed);
        passed
    })?;
    Ok(measured)
}

fn open_and_close(options: &Options, opened: &AtomicU64, is_over: &AtomicBool) {
    let pause = match options.rate {
        0 => Duration::ZERO,
        rate => Duration::from_secs_f64(options.connections as f64 / rate as f64),
    };
    let mut due = Instant::now();
    while !is_over.load(Ordering::Relaxed) {
        // Without a free port for a moment, or reset for being one too many: the next.
        if let Ok(mut stream) = Blocking::connect(options.address)
            && (!options.asking || ping(&mut stream).is_ok())
        {
            opened.fetch_add(1, Ordering::Relaxed);
        }
        due += pause;
        thread::sleep(due.saturating_duration_since(Instant::now()));
    }
}

struct Load {
    poll: Poll,
    peers: Vec<Peer>,
    message_bytes: usize,
    warm_up: Duration,
    time: Duration,
}

/// What came of it.
#[derive(Debug, Default)]
struct Measured {
    messages: u64,
    /// Before that was measured.
    before: u64,
    delivered: u64,
    message_bytes: usize,
    seconds: f64,
    /// Of a batch, from writing it to its last answer; in nanoseconds.
    latencies: Vec<u32>,
}

/// One connection.
struct Peer {
    stream: TcpStream,
    role: Role,
    batch: Batch,
    written: usize,
    /// When the batch began to be written.
    began: Instant,
    /// Answers that its batch still waits for.
    owed: u64,
    /// The beginning of an answer.
    held: Vec<u8>,
    /// Publications so far, as AMQP numbers them.
    published: u64,
    confirmed: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// Publishes to Redis.
    Producer { pipeline: u64 },
    /// Pops from Redis.
    Consumer,
    /// Publishes over AMQP, and waits for confirms.
    Confirmed { window: u64 },
    /// Publishes over AMQP, and waits for nothing but a last answer.
    Unconfirmed { window: u64 },
    /// Has asked for that last answer, or has got it.
    Closing,
}

impl Load {
    fn start(options: &Options) -> io::Result<Self> {
        let poll = Poll::new()?;
        let mut peers = Vec::new();
        let pipeline = options.pipeline as u64;
        let message = match (&*options.protocol, options.untouched) {
            ("redis", false) => redis::publish(options.bytes),
            ("redis", true) => redis::untouched(options.bytes),
            ("amqp", false) => amqp::publish(options.bytes),
            ("amqp", true) => amqp::untouched(options.bytes),
            (other, _) => panic!("there is no load for {other}"),
        };
        let message_bytes = message.len();
        let series = std::process::id() << 12;
        let mut add = |role, batch, number: usize| {
            let mut stream = Blocking::connect(options.address)?;
            stream.set_nodelay(true)?;
            if options.protocol == "amqp" {
                open(&mut stream, role)?;
            }
            stream.set_nonblocking(true)?;
            let mut stream = TcpStream::from_std(stream);
            let interest = Interest::READABLE | Interest::WRITABLE;
            poll.registry()
                .register(&mut stream, Token(number), interest)?;
            peers.push(Peer {
                stream,
                role,
                batch,
                written: 0,
                began: Instant::now(),
                owed: 0,
                held: Vec::new(),
                published: 0,
                confirmed: 0,
            });
            io::Result::Ok(())
        };
        for number in 0..options.connections {
            let role = match (&*options.protocol, options.confirms) {
                ("redis", _) => Role::Producer { pipeline },
                (_, true) => Role::Confirmed { window: pipeline },
                (_, false) => Role::Unconfirmed { window: pipeline },
            };
            let batch = Batch::new(&message, options.pipeline, series + number as u32);
            add(role, batch, number)?;
        }
        for number in options.connections..options.connections + options.consumers {
            let request = redis::command(&[b"BRPOP", b"celery", b"0"]);
            add(Role::Consumer, Batch::new(&request, 1, 0), number)?;
        }
        Ok(Self {
            poll,
            peers,
            message_bytes,
            warm_up: options.warm_up,
            time: options.time,
        })
    }

    fn run(mut self) -> io::Result<Measured> {
        let mut measured = Measured {
            message_bytes: self.message_bytes,
            ..Measured::default()
        };
        let mut events = Events::with_capacity(1024);
        let mut buffer = vec![0; 256 << 10];
        let streams = self.peers.iter().any(Peer::streams);
        let mut can_go_on = false;
        // What a stream has written may not have gone far: all of it counts, and the time
        // until all of it has arrived.
        let mut begun = streams.then(Instant::now);
        let start = Instant::now();
        for peer in &mut self.peers {
            peer.begin();
            peer.write()?;
        }
        loop {
            // Who can write on is not told again.
            let patience = if can_go_on { 0 } else { 100 };
            self.poll
                .poll(&mut events, Some(Duration::from_millis(patience)))?;
            let now = Instant::now();
            if begun.is_none() && now >= start + self.warm_up {
                begun = Some(now);
                measured.before = std::mem::take(&mut measured.messages);
                measured.delivered = 0;
                measured.latencies.clear();
            }
            // However long one batch takes: one there must be, but where none is answered.
            let has_some = streams || !measured.latencies.is_empty();
            let is_over = begun.is_some_and(|begun| now >= begun + self.time) && has_some;
            for event in &events {
                let peer = &mut self.peers[event.token().0];
                if event.is_readable() {
                    peer.read(&mut buffer, &mut measured)?;
                }
                peer.go_on(is_over, &mut measured)?;
            }
            can_go_on = false;
            for peer in self.peers.iter_mut().filter(|peer| peer.streams()) {
                peer.go_on(is_over, &mut measured)?;
                can_go_on |= peer.is_written();
            }
            if is_over {
                // Whoever streams is done when all that it has sent has arrived.
                let mut is_done = true;
                for peer in &self.peers {
                    is_done &= match peer.role {
                        Role::Closing => peer.owed == 0,
                        Role::Unconfirmed { .. } => false,
                        _ => true,
                    };
                }
                if is_done {
                    break;
                }
            }
        }
        measured.seconds = begun.map_or(0.0, |begun| begun.elapsed().as_secs_f64());
        Ok(measured)
    }
}

impl Peer {
    /// The next batch is due.
    fn begin(&mut self) {
        self.batch.renew();
        self.written = 0;
        self.began = Instant::now();
        self.owed = match self.role {
            Role::Producer { pipeline } => pipeline,
            // The array, two lengths, two texts.
            Role::Consumer => 5,
            Role::Confirmed { window } => {
                self.published += window;
                window
            }
            Role::Unconfirmed { .. } => 0,
            Role::Closing => 1,
        };
    }

    fn write(&mut self) -> io::Result<()> {
        while self.written < self.batch.bytes.len() {
            match self.stream.write(&self.batch.bytes[self.written..]) {
                Ok(written) => self.written += written,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn streams(&self) -> bool {
        matches!(self.role, Role::Unconfirmed { .. })
    }

    fn is_written(&self) -> bool {
        self.written == self.batch.bytes.len()
    }

    /// Writes what can be written; begins anew when the batch is answered.
    fn go_on(&mut self, is_over: bool, measured: &mut Measured) -> io::Result<()> {
        self.write()?;
        match self.role {
            Role::Closing => return Ok(()),
            Role::Unconfirmed { window } => {
                // Not for ever: others want their turn, and the clock is read in between.
                for _ in 0..4 {
                    if !self.is_written() {
                        return Ok(());
                    }
                    measured.messages += window;
                    if is_over {
                        self.role = Role::Closing;
                        self.batch = Batch::default();
                        self.batch.bytes = amqp::barrier().0;
                    }
                    self.begin();
                    self.write()?;
                    if is_over {
                        break;
                    }
                }
                return Ok(());
            }
            _ if self.owed > 0 || is_over => return Ok(()),
            _ => {}
        }
        self.begin();
        self.write()
    }

    fn read(&mut self, buffer: &mut [u8], measured: &mut Measured) -> io::Result<()> {
        loop {
            let read = match self.stream.read(buffer) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            self.hear(&buffer[..read], measured)?;
            // An edge follows for what comes later.
            if read < buffer.len() {
                return Ok(());
            }
        }
    }

    fn hear(&mut self, bytes: &[u8], measured: &mut Measured) -> io::Result<()> {
        let was_owed = self.owed;
        match self.role {
            Role::Producer { .. } | Role::Consumer => {
                if bytes[0] == b'-' {
                    return Err(io::Error::other(
                        String::from_utf8_lossy(bytes).into_owned(),
                    ));
                }
                let lines = bytes.iter().filter(|byte| **byte == b'\n').count() as u64;
                self.owed = self.owed.checked_sub(lines).expect("an answer to nothing");
            }
            Role::Confirmed { .. } => {
                self.held.extend_from_slice(bytes);
                let mut frames = &self.held[..];
                while let Some(ack) = frames.get(..ACK_BYTES) {
                    let tag = ack[11..19].first_chunk().expect("eight bytes");
                    let tag = u64::from_be_bytes(*tag);
                    self.confirmed += if ack[19] == 0 {
                        1
                    } else {
                        tag - self.confirmed
                    };
                    frames = &frames[ACK_BYTES..];
                }
                self.held.drain(..self.held.len() - frames.len());
                self.owed = self.published - self.confirmed;
            }
            Role::Unconfirmed { .. } => {}
            Role::Closing => self.owed = 0,
        }
        if was_owed > 0 && self.owed == 0 && self.role == Role::Consumer {
            measured.delivered += 1;
        } else if was_owed > 0 && self.owed == 0 && self.role != Role::Closing {
            let nanos = self.began.elapsed().as_nanos();
            measured
                .latencies
                .push(u32::try_from(nanos).unwrap_or(u32::MAX));
        }
        if let Role::Producer { .. } | Role::Confirmed { .. } = self.role {
            measured.messages += was_owed - self.owed;
        }
        Ok(())
    }
}

impl Measured {
    fn json(mut self) -> String {
        self.latencies.sort_unstable();
        let quantile = |share: f64| {
            let last = self.latencies.len().saturating_sub(1);
            let at = (share * last as f64).round() as usize;
            self.latencies
                .get(at)
                .map_or(0.0, |nanos| f64::from(*nanos) / 1e3)
        };
        format!(
            "{{\"messages\": {}, \"total\": {}, \"delivered\": {}, \"message_bytes\": {}, \"seconds\": {:.4}, \
             \"p50\": {:.2}, \"p99\": {:.2}, \"p999\": {:.2}}}",
            self.messages,
            self.before + self.messages,
            self.delivered,
            self.message_bytes,
            self.seconds,
            quantile(0.5),
            quantile(0.99),
            quantile(0.999),
        )
    }
}

fn open(stream: &mut Blocking, role: Role) -> io::Result<()> {
    let confirming = matches!(role, Role::Confirmed { .. }).then(amqp::confirming);
    for (request, _) in amqp::opening().into_iter().chain(confirming) {
        stream.write_all(&request)?;
        let mut head = [0; amqp::FRAME_HEAD];
        stream.read_exact(&mut head)?;
        let (_, length) = amqp::frame_head(&head).expect("a whole one");
        stream.read_exact(&mut vec![0; length + 1])?;
    }
    Ok(())
}

/// A `basic.ack` is a frame of one length.
const ACK_BYTES: usize = 21;
