//! The program itself, asked as a user asks it.
#![allow(dead_code, unreachable_pub, reason = "each test uses its part")]

use std::fs;
use std::path::PathBuf;
use std::process::Command;

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
