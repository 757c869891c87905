//! The modules keep to the import table below, and each knows only what it may know.
//! Changing the architecture is a visible line in a diff of this file.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::path::PathBuf;

/// Which modules each one may import.
const IMPORTS: [(&str, &[&str]); 9] = [
    ("trace", &[]),
    ("celery", &[]),
    ("config", &["trace"]),
    ("hop", &["trace", "celery", "config"]),
    ("protocol", &["hop", "celery", "trace", "config"]),
    ("telemetry", &["hop", "trace", "config"]),
    ("net", &["protocol", "hop", "trace", "telemetry", "config"]),
    ("admin", &["telemetry", "net", "config"]),
    (
        "cli",
        &[
            "trace",
            "celery",
            "config",
            "hop",
            "protocol",
            "telemetry",
            "net",
            "admin",
        ],
    ),
];

/// Modules without sockets and clocks: bytes and times are handed in.
const WITHOUT_IO: [&str; 5] = ["trace", "celery", "config", "hop", "protocol"];

const IO: [&str; 9] = [
    "tokio",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "UnixStream",
    "UnixListener",
    "ToSocketAddrs",
    "Instant",
    "SystemTime",
];

/// Modules that serve every broker alike.
const WITHOUT_BROKERS: [&str; 4] = ["hop", "telemetry", "net", "admin"];

const BROKERS: [&str; 4] = ["redis", "valkey", "amqp", "rabbit"];

#[test]
fn imports_point_one_way() {
    for Source { module, path, text } in sources() {
        let allowed = IMPORTS.iter().find(|(name, _)| *name == module);
        let (_, allowed) = allowed.unwrap_or_else(|| panic!("{module} is not in the table"));
        let imported = imports(&path, &text);
        let foreign: Vec<_> = imported
            .into_iter()
            .filter(|name| *name != module && !allowed.contains(name))
            .collect();
        assert!(foreign.is_empty(), "{path} imports {foreign:?}");
    }
}

#[test]
fn what_is_handed_its_bytes_and_times_fetches_none() {
    for Source { module, path, text } in sources() {
        let found = words_of(&IO, &text);
        let free = !WITHOUT_IO.contains(&module.as_str());
        assert!(free || found.is_empty(), "{path} uses {found:?}");
    }
}

#[test]
fn what_serves_every_broker_names_none() {
    for Source { module, path, text } in sources() {
        let found = brokers_in(&text);
        let free = !WITHOUT_BROKERS.contains(&module.as_str());
        assert!(free || found.is_empty(), "{path} names {found:?}");
    }
}

#[test]
fn the_table_holds_every_module() {
    let library = fs::read_to_string(root().join("lib.rs")).unwrap();
    let modules = library
        .lines()
        .filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'));
    let table = IMPORTS.iter().map(|(name, _)| *name);
    assert_eq!(modules.collect::<BTreeSet<_>>(), table.collect());
}

#[test]
fn every_way_to_import_is_seen() {
    for (path, text, expected) in [
        ("net/a.rs", "use crate::hop::Ledger;", &["hop"][..]),
        (
            "net/a.rs",
            "let id = crate::trace::SpanId::new();",
            &["trace"],
        ),
        ("net/a.rs", "pub(in crate::net) fn f() {}", &["net"]),
        (
            "net/a.rs",
            "use crate::{trace::{cli, w3c}, config::Config,\n    admin, hop};",
            &["admin", "config", "hop", "trace"],
        ),
        (
            "net/a.rs",
            "// crate::hop\n/// [`crate::hop::Ledger`]\n",
            &[],
        ),
        ("net/a.rs", "use other_crate::hop; use super::trace;", &[]),
        ("net/a.rs", "use super::super::hop;", &["hop"]),
        ("net/mod.rs", "use super::hop::Ledger;", &["hop"]),
        ("net/mod.rs", "use super::{hop, trace};", &["hop", "trace"]),
        ("protocol/redis/mod.rs", "use super::super::hop;", &["hop"]),
        ("protocol/redis/a.rs", "use super::super::hold;", &[]),
        (
            "protocol/redis/a.rs",
            "super::super::super::hop::f()",
            &["hop"],
        ),
    ] {
        let seen = imports(path, text);
        assert_eq!(seen, expected.iter().copied().collect(), "{path}: {text}");
    }
}

#[test]
fn every_socket_clock_and_broker_is_seen() {
    let text = "use tokio::net;\nlet now = std::time::Instant::now();\n// SystemTime\n";
    assert_eq!(words_of(&IO, text), ["tokio", "Instant"]);
    let text = "use std::net::SocketAddr;\nstruct InstantReply;\nfn to_tokio_s() {}";
    assert!(words_of(&IO, text).is_empty());
    let text = "// as Redis does it\nfn read_amqp_frame() {}";
    assert_eq!(brokers_in(text), ["redis", "amqp"]);
    assert!(brokers_in("fn read_frame(broker: &Broker) {}").is_empty());
}

/// A source file of a module.
struct Source {
    module: String,
    /// From `src` on.
    path: String,
    text: String,
}

/// All of them, but for `main.rs` and `lib.rs`, which stand above the modules.
fn sources() -> Vec<Source> {
    let mut sources = Vec::new();
    let mut folders = vec![root()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let file = entry.unwrap().path();
            let path = file.strip_prefix(root()).unwrap().to_str().unwrap();
            match path.split_once('/') {
                _ if file.is_dir() => folders.push(file),
                Some((module, _)) if path.ends_with(".rs") => sources.push(Source {
                    module: module.to_owned(),
                    path: path.to_owned(),
                    text: fs::read_to_string(&file).unwrap(),
                }),
                _ => {}
            }
        }
    }
    assert!(sources.len() >= IMPORTS.len());
    sources
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// The modules of ours that the code of the file `path` names by `crate::` or `super::`.
fn imports(path: &str, text: &str) -> BTreeSet<&'static str> {
    let code = code(text);
    // How many `super::` lead from this file to the crate.
    let depth = path.trim_end_matches("/mod.rs").split('/').count();
    let to_crate = ["crate::".to_owned(), "super::".repeat(depth)];
    let mut names = BTreeSet::new();
    for start in to_crate {
        for (at, _) in code.match_indices(&start) {
            let before = &code[..at];
            if before.ends_with("super::") || before.ends_with(is_of_name) {
                continue;
            }
            names.extend(heads(&code[at + start.len()..]));
        }
    }
    let modules = IMPORTS.iter().map(|(name, _)| *name);
    modules.filter(|name| names.contains(name)).collect()
}

/// The first name of a path, or of each path in a list in braces.
fn heads(path: &str) -> Vec<&str> {
    let Some(list) = path.strip_prefix('{') else {
        return path.split(|letter| !is_of_name(letter)).take(1).collect();
    };
    let nesting = |letter| match letter {
        '{' => 1,
        '}' => -1,
        _ => 0,
    };
    let mut depth = 1;
    let mut list = list.split(|letter| {
        depth += nesting(letter);
        depth == 0
    });
    let list = list.next().unwrap_or_default();
    let mut depth = 0;
    let paths = list.split(|letter| {
        depth += nesting(letter);
        depth == 0 && letter == ','
    });
    paths.flat_map(|path| heads(path.trim_start())).collect()
}

fn words_of<'a>(words: &[&'a str], text: &str) -> Vec<&'a str> {
    let code = code(text);
    let used: BTreeSet<&str> = code.split(|letter| !is_of_name(letter)).collect();
    let words = words.iter().copied();
    words.filter(|word| used.contains(word)).collect()
}

fn brokers_in(text: &str) -> Vec<&'static str> {
    let text = text.to_lowercase();
    let brokers = BROKERS.into_iter();
    brokers.filter(|broker| text.contains(broker)).collect()
}

/// The text without the lines that are comments.
fn code(text: &str) -> String {
    let lines = text.lines();
    let lines = lines.filter(|line| !line.trim_start().starts_with("//"));
    lines.flat_map(|line| [line, "\n"]).collect()
}

fn is_of_name(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_'
}
