//! Requests that take a message and may wait for one, and what becomes of it in a client.
//!
//! kombu takes a message by one connection and puts it away by another, before it asks for the
//! next (`kombu/transport/redis.py`, `Channel._brpop_read` and `QoS.append`). Until then the
//! message is nowhere but in the client.

use std::time::Duration;

use crate::protocol::redis::command::Command;
use crate::protocol::redis::command::split_words;
use crate::protocol::redis::frame::LineFinder;
use crate::protocol::redis::frame::Unreadable;
use crate::protocol::redis::frame::parse_length;
use crate::trace::Timestamp;

/// The pops of one connection, as far as they matter to a proxy that is to stop.
#[derive(Debug, Default)]
pub(super) struct Pops {
    /// No more of them leave.
    pub(super) are_held: bool,
    /// One waits because of that, and whatever came behind it.
    pub(super) is_one_held: bool,
    /// When the client got a message last.
    handed: Option<Timestamp>,
    /// It has sent something since, so that the message is put away.
    has_gone_on: bool,
}

impl Pops {
    /// Whether the request that `input` begins with is to be held. `None`: that is not clear
    /// before more of it is there.
    pub(super) fn hold(&mut self, input: &[u8]) -> Option<bool> {
        let is_held = may_wait(input);
        self.is_one_held |= is_held == Some(true);
        is_held
    }

    /// The client gets a message.
    pub(super) const fn handed(&mut self, now: Timestamp) {
        self.handed = Some(now);
        self.has_gone_on = false;
    }

    /// The client has sent something.
    pub(super) const fn went_on(&mut self) {
        self.has_gone_on = true;
    }

    /// Whether the client may have a message that it has not put away, or not acknowledged
    /// although it is about to.
    pub(super) fn has_handed(&self, now: Timestamp) -> bool {
        let patience = match self.has_gone_on {
            true => ACK_PATIENCE,
            false => PATIENCE,
        };
        self.handed.is_some_and(|at| now.since(at) < patience)
    }
}

/// Whether the request that `input` begins with takes a message and may wait for one. `None`:
/// that is not clear before more of it is there.
fn may_wait(input: &[u8]) -> Option<bool> {
    match read(input) {
        Ok(None) if input.len() < HEAD_BYTES_MAX => None,
        // Whoever reads on tells what is wrong with it.
        answer => Some(answer == Ok(Some(true))),
    }
}

fn read(input: &[u8]) -> Result<Option<bool>, Unreadable> {
    if input.first() != Some(&b'*') {
        let Some((line, _)) = LineFinder::default().find_inline(input)? else {
            return Ok(None);
        };
        let words = split_words(line)?;
        let mut words = words.iter().map(|word| Ok(Some(&word[..])));
        return waits(|| words.next().unwrap_or(Err("no_more_words")));
    }
    let Some((line, head)) = LineFinder::default().find(input)? else {
        return Ok(None);
    };
    let mut count = parse_length(line.get(1..).unwrap_or_default())?.unwrap_or(0);
    let mut rest = input.get(head..).unwrap_or_default();
    waits(|| {
        count = count.checked_sub(1).ok_or("no_more_words")?;
        take_word(&mut rest)
    })
}

/// Whether a request of these words does.
fn waits<'a>(
    mut next: impl FnMut() -> Result<Option<&'a [u8]>, Unreadable>,
) -> Result<Option<bool>, Unreadable> {
    let Some(name) = next()? else {
        return Ok(None);
    };
    let mut command = Command::of(name);
    while command == Command::ReadStreams {
        let Some(option) = next()? else {
            return Ok(None);
        };
        command = command.with(option);
    }
    Ok(Some(matches!(
        command,
        Command::PopNamed
            | Command::PopNamedMany { waits: true }
            | Command::PopUnread { waits: true }
    )))
}

/// Takes the next argument off `rest`. `None`: it is not there yet.
fn take_word<'a>(rest: &mut &'a [u8]) -> Result<Option<&'a [u8]>, Unreadable> {
    let Some((line, head)) = LineFinder::default().find(rest)? else {
        return Ok(None);
    };
    let length = match line.split_first() {
        Some((b'$', digits)) => parse_length(digits)?.ok_or("argument_is_null")?,
        _ => return Err("argument_is_no_bulk_string"),
    };
    let content = rest.get(head..).unwrap_or_default();
    let whole = usize::try_from(length).unwrap_or(usize::MAX);
    let Some((word, behind)) = content.split_at_checked(whole) else {
        return Ok(None);
    };
    *rest = behind.get(2..).unwrap_or_default();
    Ok(Some(word))
}

/// How long a client may take to put a message away. kombu does so at once.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long what a client has put away may take to be acknowledged, if it is to be soon: a
/// worker that finds nobody to acknowledge to leaves the message to others, or runs it twice.
const ACK_PATIENCE: Duration = Duration::from_secs(1);
/// What has not shown by then that it waits does not.
const HEAD_BYTES_MAX: usize = 4 << 10;

#[cfg(test)]
mod tests {
    use super::may_wait;

    #[test]
    fn what_takes_a_message_and_may_wait_for_one_is_told_by_its_first_words() {
        for (request, expected) in [
            ("*3\r\n$5\r\nBRPOP\r\n", Some(true)),
            ("*3\r\n$5\r\nblpop\r\n$1\r\na\r\n", Some(true)),
            ("*5\r\n$6\r\nBLMOVE\r\n", Some(true)),
            ("*3\r\n$10\r\nBRPOPLPUSH\r\n", Some(true)),
            ("*3\r\n$6\r\nBLMPOP\r\n", Some(true)),
            ("*3\r\n$8\r\nBZPOPMIN\r\n", Some(true)),
            ("*3\r\n$8\r\nBZPOPMAX\r\n", Some(true)),
            ("*3\r\n$6\r\nBZMPOP\r\n", Some(true)),
            ("*5\r\n$5\r\nXREAD\r\n$5\r\nblock\r\n", Some(true)),
            ("*5\r\n$5\r\nXREAD\r\n$7\r\nSTREAMS\r\n", Some(false)),
            (
                "*9\r\n$10\r\nXREADGROUP\r\n$5\r\nGROUP\r\n$1\r\ng\r\n$1\r\nc\r\n$5\r\nBLOCK\r\n",
                Some(true),
            ),
            (
                "*9\r\n$10\r\nXREADGROUP\r\n$5\r\nGROUP\r\n$1\r\ng\r\n",
                None,
            ),
            ("*1\r\n$5\r\nXREAD\r\n", Some(false)),
            ("*3\r\n$5\r\nBRPO", None),
            ("*3\r\n$5\r", None),
            ("*", None),
            ("*2\r\n$4\r\nRPOP\r\n", Some(false)),
            ("*2\r\n$5\r\nLMPOP\r\n", Some(false)),
            ("*3\r\n$5\r\nLPUSH\r\n$9", Some(false)),
            ("*0\r\n", Some(false)),
            ("*1\r\n:5\r\n", Some(false)),
            ("BRPOP a 0\r\n", Some(true)),
            ("BRPOP a ", None),
            ("xread block 0 streams a $\n", Some(true)),
            ("XREAD streams a 0\n", Some(false)),
            ("\r\n", Some(false)),
            ("PING\r\n", Some(false)),
        ] {
            assert_eq!(may_wait(request.as_bytes()), expected, "{request:?}");
        }
        let endless = format!("*9\r\n$10\r\nXREADGROUP\r\n$9999\r\n{}", "x".repeat(9999));
        assert_eq!(may_wait(endless.as_bytes()), Some(false));
    }
}
