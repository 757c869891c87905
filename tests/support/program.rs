//! The program itself, asked as a user asks it.
#![allow(dead_code, unreachable_pub, reason = "each test uses its part")]

use std::fs;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Lines;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Child;
use std::process::ChildStderr;
use std::process::Command;
use std::process::Stdio;

/// What the program said to a question.
pub struct Answer {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Answer {
    /// The value of a key and its origin, as `check` printed them.
    pub fn line(&self, path: &str) -> String {
        let (section, key) = path.rsplit_once('.').unwrap_or(("", path));
        let mut lines = self.stdout.lines();
        if !section.is_empty() {
            let header = format!("[{section}]");
            assert!(lines.any(|line| line == header), "{}", self.stdout);
        }
        let value = lines.find_map(|line| line.strip_prefix(key)?.strip_prefix(" = "));
        let words: Vec<&str> = value.unwrap().split_whitespace().collect();
        words.join(" ")
    }
}

pub fn ask(arguments: &[&str], variables: &[(&str, &str)]) -> Answer {
    let output = command(arguments, variables).output().unwrap();
    Answer {
        code: output.status.code().unwrap(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// The program, with no variables but these.
pub fn command(arguments: &[&str], variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tracehop"));
    command
        .args(arguments)
        .env_clear()
        .envs(variables.iter().copied())
        .current_dir(env!("CARGO_MANIFEST_DIR"));
    command
}

pub fn file(name: &str, text: &str) -> String {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

/// The program at work, in front of a broker.
pub struct Running {
    child: Child,
    log: Lines<BufReader<ChildStderr>>,
    pub address: SocketAddr,
    /// As it says itself.
    pub upstream: String,
    /// Where its admin page is, if it has one.
    pub admin: Option<SocketAddr>,
}

impl Running {
    pub fn start(broker: SocketAddr) -> Self {
        let upstream = format!("redis://{broker}");
        Self::start_with(&["run", "--listen", "127.0.0.1:0", "--upstream", &upstream])
    }

    pub fn start_with(arguments: &[&str]) -> Self {
        Self::spawn(&[arguments, &["--admin-listen", "off"]].concat())
    }

    pub fn start_with_admin(broker: SocketAddr) -> Self {
        let upstream = format!("redis://{broker}");
        let arguments = ["run", "--listen", "127.0.0.1:0", "--upstream", &upstream];
        Self::spawn(&[&arguments[..], &["--admin-listen", "127.0.0.1:0"]].concat())
    }

    fn spawn(arguments: &[&str]) -> Self {
        let arguments = [arguments, &["--log-format", "json"]];
        let mut child = command(&arguments.concat(), &[("OTEL_SDK_DISABLED", "true")])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut running = Self {
            child,
            log,
            address: SocketAddr::from(([0, 0, 0, 0], 0)),
            upstream: String::new(),
            admin: None,
        };
        let route = running.expect("route");
        running.address = route["listen"].as_str().unwrap().parse().unwrap();
        running.upstream = route["upstream"].as_str().unwrap().to_owned();
        // The admin page comes before this, if there is one.
        let mut line = running.next();
        if line["message"] == "admin" {
            running.admin = Some(line["listen"].as_str().unwrap().parse().unwrap());
            line = running.next();
        }
        assert_eq!(line["message"], "tracehop is running");
        assert_eq!(line["level"], "INFO");
        running
    }

    pub fn send(&self, signal: &str) {
        // The shell's own `kill`: the program of that name is not part of every system.
        let kill = Command::new("sh")
            .args(["-c", &format!("kill -s {signal} {}", self.child.id())])
            .status();
        assert!(kill.unwrap().success());
    }

    /// The next message in the log that begins so.
    pub fn expect(&mut self, message: &str) -> serde_json::Value {
        loop {
            let line = self.next();
            if line["message"].as_str().unwrap().starts_with(message) {
                return line;
            }
        }
    }

    /// The next line of the log.
    fn next(&mut self) -> serde_json::Value {
        let line = self.log.next().expect("it ended without a word of that");
        serde_json::from_str(&line.unwrap()).unwrap()
    }

    pub fn expect_end(mut self) {
        assert!(self.child.wait().unwrap().success());
    }
}

/// A test that fails leaves nothing running.
impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
