//! What clients send: commands, read argument by argument.
//!
//! A request is an array of bulk strings, or an inline command: a line of words. Only the
//! few commands that matter are told apart, and only those arguments are held that have to
//! be seen whole: names, keys, and the values in which a message may stand.

use crate::protocol::patch::Patch;
use crate::protocol::pieces::Step;
use crate::protocol::redis::envelope::BEGINNING_BYTES;
use crate::protocol::redis::envelope::begins_like_one;
use crate::protocol::redis::frame::LineFinder;
use crate::protocol::redis::frame::Unreadable;
use crate::protocol::redis::frame::parse_length;
use crate::protocol::redis::frame::take_off;
use crate::protocol::redis::settling::TAG_BYTES;
use crate::protocol::redis::value;
use crate::protocol::redis::value::Fate;

/// A whole command, as far as its reply depends on it or the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Request<'a> {
    /// One reply, whatever it is.
    Plain,
    /// One reply for all the messages in it.
    Push,
    /// One reply with messages in it.
    Pop(Pop<&'a [u8]>),
    /// The client gives itself a name; an empty one takes it back.
    SetName(&'a [u8]),
    Multi,
    Exec,
    Discard,
    Watch,
    Unwatch,
    /// One confirmation for each of `count` names.
    Subscribe {
        kind: Kind,
        count: u64,
    },
    /// As above; without names, one for each that is subscribed, and at least one.
    Unsubscribe {
        kind: Kind,
        count: u64,
    },
    /// Switches to RESP3 or RESP2, or asks without switching.
    Hello {
        resp3: Option<bool>,
    },
    Reset,
    Reply(ReplyMode),
    /// Where other servers are; a word for who is asked.
    Addresses(&'static str),
    /// Goes on in another database; `None`: that is no number.
    Select(Option<u64>),
    Monitor,
    /// What follows is a replication stream.
    Sync,
}

/// What CLIENT REPLY asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReplyMode {
    On,
    Off,
    /// No reply to the next request.
    Skip,
}

/// What the reply to a pop looks like, if there was something to be popped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pop<Key> {
    /// A value of this list, or an array of its values.
    From(Key),
    /// A list's name and a value.
    Named,
    /// A list's name and an array of values.
    NamedMany { waits: bool },
    /// Something that is not read: messages of other transports than Celery's.
    Unread { waits: bool },
}

impl<Key> Pop<Key> {
    /// Whether it may be a while before it is answered.
    pub(super) const fn waits(&self) -> bool {
        match self {
            Self::From(_) => false,
            Self::NamedMany { waits } | Self::Unread { waits } => *waits,
            Self::Named => true,
        }
    }
}

/// The three kinds of subscriptions, which are counted apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Channel,
    Pattern,
    Shard,
}

/// Who wants to know what was read.
pub(super) trait Listener {
    /// A request begins.
    fn begin(&mut self);

    /// Whether a value of that many bytes may be read, and `held` bytes of it be held until
    /// more of it has come.
    fn may_read(&mut self, length: usize, held: usize) -> bool;

    /// A value that is pushed or published to `key`, whole. Writes into `patch` what is to
    /// change in it, and says whether anything is.
    fn value(&mut self, key: &str, value: &[u8], patch: &mut Patch) -> bool;

    /// A value that begins like an envelope passes unread.
    fn unread(&mut self);

    /// Whether it is of interest what workers say of their runs.
    fn follows_runs(&self) -> bool;

    /// A result of a task, or the beginning of one.
    fn result(&mut self, task: &str, text: &[u8]);

    /// A field as long as a delivery tag is removed from a hash.
    fn removed(&mut self, field: &[u8]);

    /// A field as long as a delivery tag is written to a hash.
    fn written(&mut self, field: &[u8]);

    /// The list that is popped from, of several the last.
    fn pops(&mut self, list: &[u8]);

    /// The name of the client's library.
    fn library(&mut self, name: &[u8]);

    /// A request has ended.
    fn end(&mut self, request: Request<'_>);

    /// An empty request has ended. Redis passes over it without a word.
    fn nothing(&mut self);
}

/// Reads the requests of one connection.
#[derive(Debug, Default)]
pub(super) struct Commands {
    state: State,
    line: LineFinder,
    command: Command,
    /// Words of the command that count, upper case.
    words: [Word; 2],
    /// The key of a push or a pop, or another argument that counts as it is written.
    key: Vec<u8>,
}

#[derive(Clone, Copy, Debug, Default)]
enum State {
    /// Between two requests.
    #[default]
    Start,
    /// Argument `index` of `count` is next.
    Argument { index: u64, count: u64 },
    /// Inside argument `index`: so many bytes still, and then its CRLF.
    Content { left: u64, index: u64, count: u64 },
}

/// The commands that are told apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Command {
    #[default]
    Other,
    Push,
    Publish,
    /// Hands values over in ways of other transports than Celery's.
    HandOver,
    /// Takes from the list of the first key.
    PopFrom,
    /// Takes from the first of its lists that has anything.
    PopNamed,
    PopNamedMany {
        waits: bool,
    },
    /// Takes something in a form that no message of a task has.
    PopUnread {
        waits: bool,
    },
    /// May become one that does, by its options.
    ReadStreams,
    /// Removes fields of a hash.
    Remove,
    /// Writes fields of a hash.
    Write,
    Multi,
    Exec,
    Discard,
    Watch,
    Unwatch,
    Subscribe(Kind),
    Unsubscribe(Kind),
    Hello,
    Reset,
    Select,
    Client,
    Cluster,
    Sentinel,
    Monitor,
    Sync,
    Psync,
}

/// What is to be seen of an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Want {
    Nothing,
    Name,
    /// A word of a command, by its place in `words`.
    Word(usize),
    Key,
    Value,
    /// As much of a value as tells whether it may be an envelope.
    Beginning,
    Result,
    Field,
    /// It may be the name of an option.
    Option,
    Library,
}

/// A short argument in upper case; empty where it was too long to be of interest.
#[derive(Clone, Copy, Debug, Default)]
struct Word {
    bytes: [u8; WORD_BYTES_MAX],
    length: usize,
}

impl Commands {
    /// Whether the next byte begins a request.
    pub(super) const fn is_at_start(&self) -> bool {
        matches!(self.state, State::Start)
    }

    /// Reads the head of `input`, which is not empty.
    pub(super) fn step(
        &mut self,
        input: &[u8],
        patch: &mut Patch,
        listener: &mut impl Listener,
    ) -> Step {
        let step = match self.state {
            State::Start => self.start(input, listener),
            State::Argument { index, count } => self.argument(input, index, count, patch, listener),
            State::Content { left, index, count } => {
                self.content(input, left, index, count, listener)
            }
        };
        step.unwrap_or_else(Step::Lost)
    }

    fn start(&mut self, input: &[u8], listener: &mut impl Listener) -> Result<Step, Unreadable> {
        if input.first() != Some(&b'*') {
            return self.inline(input, listener);
        }
        let Some((line, length)) = self.line.find(input)? else {
            return Ok(Step::Need(input.len() + 1));
        };
        match parse_length(line.get(1..).unwrap_or_default())? {
            Some(count @ 1..) => {
                self.begin(listener);
                self.state = State::Argument { index: 0, count };
            }
            Some(0) | None => listener.nothing(),
        }
        Ok(Step::Pass(length))
    }

    fn begin(&mut self, listener: &mut impl Listener) {
        listener.begin();
        self.command = Command::Other;
        self.words = [Word::default(); 2];
        self.key.clear();
    }

    fn argument(
        &mut self,
        input: &[u8],
        index: u64,
        count: u64,
        patch: &mut Patch,
        listener: &mut impl Listener,
    ) -> Result<Step, Unreadable> {
        let Some((line, head)) = self.line.find(input)? else {
            return Ok(Step::Need(input.len() + 1));
        };
        let Some((b'$', digits)) = line.split_first() else {
            return Err("argument_is_no_bulk_string");
        };
        let Some(length) = parse_length(digits)? else {
            return Err("argument_is_null");
        };
        let want = self.want(index, count, length);
        let whole = usize::try_from(length).unwrap_or(usize::MAX);
        let content = input.get(head..).unwrap_or_default();
        match want {
            Want::Nothing => return self.pass_content(head, length, index, count),
            Want::Beginning => {
                let shown = whole.min(BEGINNING_BYTES);
                let Some(beginning) = content.get(..shown) else {
                    return Ok(Step::Need(head + shown));
                };
                if begins_like_one(beginning) {
                    listener.unread();
                }
                return self.pass_content(head, length, index, count);
            }
            Want::Result => {
                // The state stands at the beginning, however long the result is.
                let shown = whole.min(RESULT_BYTES_MAX);
                if listener.follows_runs() {
                    let Some(text) = content.get(..shown) else {
                        return Ok(Step::Need(head + shown));
                    };
                    if let Some(task) = value::task_of_result(&self.key) {
                        listener.result(&String::from_utf8_lossy(task), text);
                    }
                }
                return self.pass_content(head, length, index, count);
            }
            Want::Value => match value::fate(content, whole, |held| listener.may_read(whole, held))
            {
                Fate::Pass => return self.pass_content(head, length, index, count),
                Fate::Wait(count) => return Ok(Step::Need(head + count)),
                Fate::Read => {}
            },
            Want::Name | Want::Word(_) | Want::Key | Want::Field | Want::Option | Want::Library => {
            }
        }
        let Some((content, end)) = content.split_at_checked(whole) else {
            return Ok(Step::Need(head + whole + 2));
        };
        match end {
            [b'\r', b'\n', ..] => {}
            [_, _, ..] => return Err("no_line_end"),
            _ => return Ok(Step::Need(head + whole + 2)),
        }
        let is_patched = want == Want::Value
            && listener.value(&String::from_utf8_lossy(&self.key), content, patch);
        self.take(want, content, listener);
        self.next(index, count, listener);
        if is_patched {
            value::frame(patch, head, whole);
            return Ok(Step::Patch(head + whole + 2));
        }
        Ok(Step::Pass(head + whole + 2))
    }

    /// Takes an argument that is no message.
    fn take(&mut self, want: Want, content: &[u8], listener: &mut impl Listener) {
        match want {
            Want::Nothing | Want::Value | Want::Beginning | Want::Result => {}
            Want::Name => self.command = Command::of(content),
            Want::Word(place) => {
                if let Some(word) = self.words.get_mut(place) {
                    *word = Word::of(content);
                }
            }
            Want::Key => {
                self.key.clear();
                self.key.extend_from_slice(content);
                if matches!(self.command, Command::PopFrom | Command::PopNamed) {
                    listener.pops(content);
                }
            }
            Want::Field if self.command == Command::Write => listener.written(content),
            Want::Field => listener.removed(content),
            Want::Option => self.command = self.command.with(content),
            Want::Library => listener.library(content),
        }
    }

    /// The head of an argument passes; its content will, as it comes.
    fn pass_content(
        &mut self,
        head: usize,
        length: u64,
        index: u64,
        count: u64,
    ) -> Result<Step, Unreadable> {
        self.state = State::Content {
            left: length,
            index,
            count,
        };
        Ok(Step::Pass(head))
    }

    /// Whether the next `count` bytes are all inside of a string that passes; if so, they have.
    pub(super) fn pass(&mut self, count: usize) -> bool {
        match &mut self.state {
            State::Content { left, .. } => take_off(left, count),
            _ => false,
        }
    }

    fn content(
        &mut self,
        input: &[u8],
        left: u64,
        index: u64,
        count: u64,
        listener: &mut impl Listener,
    ) -> Result<Step, Unreadable> {
        let available = u64::try_from(input.len()).unwrap_or(u64::MAX);
        if left > 0 {
            let passed = left.min(available);
            self.state = State::Content {
                left: left - passed,
                index,
                count,
            };
            return Ok(Step::Pass(usize::try_from(passed).unwrap_or(input.len())));
        }
        match input {
            [b'\r', b'\n', ..] => {
                self.next(index, count, listener);
                Ok(Step::Pass(2))
            }
            [b'\r'] => Ok(Step::Need(2)),
            _ => Err("no_line_end"),
        }
    }

    /// Argument `index` is over.
    fn next(&mut self, index: u64, count: u64, listener: &mut impl Listener) {
        if index + 1 < count {
            self.state = State::Argument {
                index: index + 1,
                count,
            };
        } else {
            self.state = State::Start;
            listener.end(self.request(count));
        }
    }

    fn want(&self, index: u64, count: u64, length: u64) -> Want {
        let want = match (self.command, index) {
            (_, 0) => Want::Name,
            (Command::Push | Command::Publish | Command::PopFrom, 1) => Want::Key,
            (Command::Publish, 2) if value::task_of_result(&self.key).is_some() => Want::Result,
            (Command::Push, _) | (Command::Publish, 2) => Want::Value,
            // What follows the last list is the timeout.
            (Command::PopNamed, 1..) if index + 2 == count => Want::Key,
            (Command::HandOver, _) => Want::Beginning,
            (Command::Remove, 2..) => Want::Field,
            (Command::Write, 2..) if index.is_multiple_of(2) => Want::Field,
            (Command::ReadStreams, _) => Want::Option,
            (
                Command::Hello
                | Command::Client
                | Command::Cluster
                | Command::Sentinel
                | Command::Select,
                1,
            ) => Want::Word(0),
            (Command::Client, 2) if self.names_itself() => Want::Key,
            (Command::Client, 2) => Want::Word(1),
            (Command::Client, 3) if self.names_its_library() => Want::Library,
            _ => Want::Nothing,
        };
        let lengths = match want {
            Want::Nothing | Want::Value | Want::Beginning | Want::Result => return want,
            Want::Name | Want::Word(_) | Want::Option => 0..=WORD_BYTES_MAX,
            Want::Key | Want::Library => 0..=KEY_BYTES_MAX,
            Want::Field => TAG_BYTES..=TAG_BYTES,
        };
        if usize::try_from(length).is_ok_and(|length| lengths.contains(&length)) {
            want
        } else {
            Want::Nothing
        }
    }

    fn names_itself(&self) -> bool {
        let [first, _] = &self.words;
        first.as_bytes() == b"SETNAME"
    }

    fn names_its_library(&self) -> bool {
        let words = self.words.each_ref().map(Word::as_bytes);
        words == [&b"SETINFO"[..], b"LIB-NAME"]
    }

    /// The command that has just ended, of `count` words.
    fn request(&self, count: u64) -> Request<'_> {
        let [first, second] = &self.words;
        match self.command {
            command if !command.takes(count) => Request::Plain,
            Command::Other
            | Command::HandOver
            | Command::Remove
            | Command::Write
            | Command::ReadStreams => Request::Plain,
            Command::Push | Command::Publish => Request::Push,
            Command::PopFrom => Request::Pop(Pop::From(&self.key)),
            Command::PopNamed => Request::Pop(Pop::Named),
            Command::PopNamedMany { waits } => Request::Pop(Pop::NamedMany { waits }),
            Command::PopUnread { waits } => Request::Pop(Pop::Unread { waits }),
            Command::Multi => Request::Multi,
            Command::Exec => Request::Exec,
            Command::Discard => Request::Discard,
            Command::Watch => Request::Watch,
            Command::Unwatch => Request::Unwatch,
            Command::Subscribe(kind) => Request::Subscribe {
                kind,
                count: count - 1,
            },
            Command::Unsubscribe(kind) => Request::Unsubscribe {
                kind,
                count: count - 1,
            },
            Command::Hello => Request::Hello {
                resp3: match first.as_bytes() {
                    b"3" => Some(true),
                    b"2" => Some(false),
                    _ => None,
                },
            },
            Command::Reset => Request::Reset,
            Command::Select => {
                let digits = str::from_utf8(first.as_bytes()).ok();
                Request::Select(digits.and_then(|digits| digits.parse().ok()))
            }
            Command::Client if count == 3 && self.names_itself() => Request::SetName(&self.key),
            Command::Client if count == 3 => match (first.as_bytes(), second.as_bytes()) {
                (b"REPLY", b"ON") => Request::Reply(ReplyMode::On),
                (b"REPLY", b"OFF") => Request::Reply(ReplyMode::Off),
                (b"REPLY", b"SKIP") => Request::Reply(ReplyMode::Skip),
                _ => Request::Plain,
            },
            Command::Client => Request::Plain,
            Command::Cluster => match first.as_bytes() {
                b"SLOTS" => Request::Addresses("cluster_slots"),
                b"SHARDS" => Request::Addresses("cluster_shards"),
                b"NODES" => Request::Addresses("cluster_nodes"),
                _ => Request::Plain,
            },
            Command::Sentinel => match first.as_bytes() {
                b"GET-MASTER-ADDR-BY-NAME"
                | b"MASTER"
                | b"MASTERS"
                | b"REPLICAS"
                | b"SLAVES"
                | b"SENTINELS" => Request::Addresses("sentinel"),
                _ => Request::Plain,
            },
            Command::Monitor => Request::Monitor,
            Command::Sync | Command::Psync => Request::Sync,
        }
    }

    /// A line of words. What it pushes is not edited: no Celery client speaks like that.
    fn inline(&mut self, input: &[u8], listener: &mut impl Listener) -> Result<Step, Unreadable> {
        let Some((line, length)) = self.line.find_inline(input)? else {
            return Ok(Step::Need(input.len() + 1));
        };
        let words = split_words(line)?;
        if words.is_empty() {
            listener.nothing();
        } else {
            self.begin(listener);
            let count = u64::try_from(words.len()).unwrap_or(u64::MAX);
            for (index, word) in (0_u64..).zip(&words) {
                let length = u64::try_from(word.len()).unwrap_or(u64::MAX);
                let want = self.want(index, count, length);
                if matches!(want, Want::Value | Want::Beginning) && begins_like_one(word) {
                    listener.unread();
                }
                self.take(want, word, listener);
            }
            listener.end(self.request(count));
        }
        Ok(Step::Pass(length))
    }
}

impl Command {
    /// The command of that name.
    pub(super) fn of(name: &[u8]) -> Self {
        match Word::of(name).as_bytes() {
            b"LPUSH" | b"RPUSH" => Self::Push,
            b"PUBLISH" => Self::Publish,
            b"LPUSHX" | b"RPUSHX" | b"LINSERT" | b"LSET" | b"SPUBLISH" | b"ZADD" | b"XADD"
            | b"EVAL" | b"EVALSHA" | b"FCALL" => Self::HandOver,
            b"RPOP" | b"LPOP" => Self::PopFrom,
            b"BRPOP" | b"BLPOP" => Self::PopNamed,
            b"LMPOP" => Self::PopNamedMany { waits: false },
            b"BLMPOP" => Self::PopNamedMany { waits: true },
            b"LMOVE" | b"RPOPLPUSH" | b"ZPOPMIN" | b"ZPOPMAX" | b"ZMPOP" => {
                Self::PopUnread { waits: false }
            }
            b"BLMOVE" | b"BRPOPLPUSH" | b"BZPOPMIN" | b"BZPOPMAX" | b"BZMPOP" => {
                Self::PopUnread { waits: true }
            }
            b"XREAD" | b"XREADGROUP" => Self::ReadStreams,
            b"HDEL" => Self::Remove,
            b"HSET" => Self::Write,
            b"MULTI" => Self::Multi,
            b"EXEC" => Self::Exec,
            b"DISCARD" => Self::Discard,
            b"WATCH" => Self::Watch,
            b"UNWATCH" => Self::Unwatch,
            b"SUBSCRIBE" => Self::Subscribe(Kind::Channel),
            b"PSUBSCRIBE" => Self::Subscribe(Kind::Pattern),
            b"SSUBSCRIBE" => Self::Subscribe(Kind::Shard),
            b"UNSUBSCRIBE" => Self::Unsubscribe(Kind::Channel),
            b"PUNSUBSCRIBE" => Self::Unsubscribe(Kind::Pattern),
            b"SUNSUBSCRIBE" => Self::Unsubscribe(Kind::Shard),
            b"HELLO" => Self::Hello,
            b"RESET" => Self::Reset,
            b"SELECT" => Self::Select,
            b"CLIENT" => Self::Client,
            b"CLUSTER" => Self::Cluster,
            b"SENTINEL" => Self::Sentinel,
            b"MONITOR" => Self::Monitor,
            b"SYNC" => Self::Sync,
            b"PSYNC" => Self::Psync,
            _ => Self::Other,
        }
    }

    /// The same with one of its options.
    pub(super) fn with(self, option: &[u8]) -> Self {
        match Word::of(option).as_bytes() {
            b"BLOCK" => Self::PopUnread { waits: true },
            b"STREAMS" => Self::PopUnread { waits: false },
            _ => self,
        }
    }

    /// Whether Redis takes it with that many words. What it refuses changes nothing.
    const fn takes(self, count: u64) -> bool {
        match self {
            Self::Multi
            | Self::Discard
            | Self::Unwatch
            | Self::Reset
            | Self::Monitor
            | Self::Sync => count == 1,
            Self::Watch | Self::Subscribe(_) => count > 1,
            Self::Psync => count > 2,
            _ => true,
        }
    }
}

impl Word {
    fn of(text: &[u8]) -> Self {
        let mut word = Self::default();
        if let Some(bytes) = word.bytes.get_mut(..text.len()) {
            bytes.copy_from_slice(text);
            bytes.make_ascii_uppercase();
            word.length = text.len();
        }
        word
    }

    fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

/// Splits an inline command into its words, as Redis does (`sdssplitargs`): quotes hold
/// words together, and escapes within them matter only in so far as they may hide a quote.
pub(super) fn split_words(line: &[u8]) -> Result<Vec<Vec<u8>>, Unreadable> {
    let mut words = Vec::new();
    let mut bytes = line.iter().copied().peekable();
    loop {
        while bytes.next_if(u8::is_ascii_whitespace).is_some() {}
        if bytes.peek().is_none() {
            return Ok(words);
        }
        let mut word = Vec::new();
        while let Some(byte) = bytes.next_if(|byte| !byte.is_ascii_whitespace()) {
            if !matches!(byte, b'"' | b'\'') {
                word.push(byte);
                continue;
            }
            loop {
                match bytes.next() {
                    None => return Err("unbalanced_quotes"),
                    Some(end) if end == byte => break,
                    Some(b'\\') => word.extend(bytes.next()),
                    Some(other) => word.push(other),
                }
            }
            if bytes.peek().is_some_and(|next| !next.is_ascii_whitespace()) {
                return Err("unbalanced_quotes");
            }
        }
        words.push(word);
    }
}

/// Longer than the name of any command that matters.
const WORD_BYTES_MAX: usize = 24;
/// Longer keys are no queue's.
pub(super) const KEY_BYTES_MAX: usize = 1024;
/// As much of a result as is read.
const RESULT_BYTES_MAX: usize = 1024;
