//! `traceparent` and `tracestate`, as W3C Trace Context level 2 defines them.
//!
//! OpenTelemetry's own propagator for Rust would accept short and zero-padded ids, signs and
//! surrounding blanks.

use const_hex::Buffer;
use thiserror::Error;

use crate::trace::MessageDigest;
use crate::trace::SpanId;
use crate::trace::Timestamp;
use crate::trace::TraceContext;
use crate::trace::TraceFlags;
use crate::trace::TraceId;
use crate::trace::ids::hex_digits;

/// The length of a version 00 `traceparent`, the only version that is written.
pub const TRACEPARENT_LEN: usize = 55;

/// As much of a `tracestate` as everybody has to pass on (level 2, section 3.3.1.5).
pub const TRACESTATE_CHARACTERS_MAX: usize = 512;

/// Why a `traceparent` is not one; its text is the label of metrics and spans.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[error("{}", self.word())]
pub enum Invalid {
    NotAString,
    WrongLength,
    WrongShape,
    UpperCase,
    VersionFf,
    ZeroTraceId,
    ZeroParentId,
    /// The header is called `Traceparent`, or the like, which no worker reads.
    NameNotLowerCase,
}

impl Invalid {
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::NotAString => "not_a_string",
            Self::WrongLength => "wrong_length",
            Self::WrongShape => "wrong_shape",
            Self::UpperCase => "upper_case",
            Self::VersionFf => "version_ff",
            Self::ZeroTraceId => "zero_trace_id",
            Self::ZeroParentId => "zero_parent_id",
            Self::NameNotLowerCase => "name_not_lower_case",
        }
    }
}

/// Reads a `traceparent`. Versions above 00 are read by the rules of 00 and may be longer.
pub fn parse_traceparent(text: &str) -> Result<TraceContext, Invalid> {
    let Some((head, rest)) = text.as_bytes().split_first_chunk::<TRACEPARENT_LEN>() else {
        return Err(Invalid::WrongLength);
    };
    let (version, body) = head.split_first_chunk::<3>().ok_or(Invalid::WrongShape)?;
    let (trace_id, body) = body.split_first_chunk::<33>().ok_or(Invalid::WrongShape)?;
    let (span_id, flags) = body.split_first_chunk::<17>().ok_or(Invalid::WrongShape)?;
    let [version] = field(version)?;
    let trace_id: [u8; 16] = field(trace_id)?;
    let span_id: [u8; 8] = field(span_id)?;
    let [flags] = hex(flags)?;
    match (version, rest.first()) {
        (0xff, _) => return Err(Invalid::VersionFf),
        (_, None) => {}
        (0x00, Some(_)) => return Err(Invalid::WrongLength),
        (_, Some(b'-')) => {}
        (_, Some(_)) => return Err(Invalid::WrongShape),
    }
    Ok(TraceContext {
        trace_id: TraceId::new(trace_id).ok_or(Invalid::ZeroTraceId)?,
        span_id: SpanId::new(span_id).ok_or(Invalid::ZeroParentId)?,
        flags: TraceFlags::new(flags),
    })
}

/// Hex digits and the dash behind them.
fn field<const N: usize>(text: &[u8]) -> Result<[u8; N], Invalid> {
    match text.split_last() {
        Some((b'-', digits)) => hex(digits),
        _ => Err(Invalid::WrongShape),
    }
}

fn hex<const N: usize>(digits: &[u8]) -> Result<[u8; N], Invalid> {
    let mut bytes = [0; N];
    let (pairs, _) = digits.as_chunks::<2>();
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Ok(bytes)
}

fn digit(character: u8) -> Result<u8, Invalid> {
    match character {
        b'0'..=b'9' => Ok(character - b'0'),
        b'a'..=b'f' => Ok(character - b'a' + 10),
        b'A'..=b'F' => Err(Invalid::UpperCase),
        _ => Err(Invalid::WrongShape),
    }
}

/// Writes a version 00 `traceparent`.
#[must_use]
pub fn format_traceparent(context: &TraceContext) -> String {
    let mut text = String::with_capacity(TRACEPARENT_LEN);
    text.push_str("00-");
    text.push_str(Buffer::<16>::new().format(&context.trace_id.to_bytes()));
    text.push('-');
    text.push_str(Buffer::<8>::new().format(&context.span_id.to_bytes()));
    text.push('-');
    text.push_str(Buffer::<1>::new().format(&[context.flags.bits()]));
    text
}

/// The members of a `tracestate` that follow the grammar, or none where it does not.
///
/// More than 32 members, a key or value outside the grammar: the whole list is invalid
/// (level 2, section 3.3.1). Empty members are allowed and left out.
#[must_use]
pub fn tracestate_members(text: &str) -> Vec<&str> {
    let members: Vec<&str> = text
        .split(',')
        .map(|member| member.trim_matches([' ', '\t']))
        .filter(|member| !member.is_empty())
        .collect();
    let valid = members.len() <= MEMBERS_MAX && members.iter().all(|member| is_member(member));
    if valid { members } else { Vec::new() }
}

fn is_member(member: &str) -> bool {
    let Some((key, value)) = member.split_once('=') else {
        return false;
    };
    let mut key_bytes = key.bytes();
    key.len() <= 256
        && key_bytes
            .next()
            .is_some_and(|first| first.is_ascii_lowercase() || first.is_ascii_digit())
        && key_bytes.all(|byte| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-*/@".contains(&byte)
        })
        && (1..=256).contains(&value.len())
        && value
            .bytes()
            .all(|byte| matches!(byte, 0x20..=0x7e) && byte != b',' && byte != b'=')
}

/// Our member of a `tracestate`: which span we put into the message, when, and into which one.
///
/// `tracehop=<span id>-<sent, Unix milliseconds in hex>-<message>-<beside>`, with 0 where it is
/// not known when the message was sent. The last two parts are hex digits, too; what is not
/// known is left out, or empty. Version 0.1.0 wrote the first two parts alone, and versions to
/// come may write more of them.
///
/// The context is ours only while `span_id` equals the parent-id of the `traceparent` beside
/// it. It was written for this message, and the time is that message's, only while `message`
/// says so: workers copy headers into retries, and apps into other tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OurMember {
    pub span_id: SpanId,
    pub sent: Option<Timestamp>,
    pub message: Option<MessageDigest>,
    /// The tail of the span id in the context of another vendor that stood beside it.
    pub beside: Option<[u8; 4]>,
}

impl OurMember {
    /// Finds our member in a `tracestate`.
    #[must_use]
    pub fn find(tracestate: &str) -> Option<Self> {
        let value = tracestate.split(',').find_map(|member| {
            let member = member.trim_matches([' ', '\t']);
            member.strip_prefix(OUR_KEY)?.strip_prefix('=')
        })?;
        let mut parts = value.split('-');
        let (span_id, sent) = (parts.next()?, parts.next()?);
        let sent = u64::from_str_radix(hex_digits(sent, 16)?, 16).ok()?;
        let mut four_bytes = || exactly(parts.next()?);
        Some(Self {
            span_id: SpanId::new(exactly(span_id)?)?,
            sent: (sent > 0).then(|| Timestamp::from_millis(sent)),
            message: four_bytes().map(MessageDigest),
            beside: four_bytes(),
        })
    }

    /// The `tracestate` that begins with this member and keeps of `others` what still fits in
    /// 32 members and 512 characters. Whole members are dropped: long ones first, then those
    /// on the right (level 2, section 3.3.1.5).
    #[must_use]
    pub fn lead(self, others: &str) -> String {
        let ours = self.written();
        if others.is_empty() {
            return ours;
        }
        let mut members = tracestate_members(others);
        members.retain(|member| !is_ours(member));
        members.truncate(MEMBERS_MAX - 1);
        let length = |members: &[&str]| -> usize {
            ours.len() + members.iter().map(|member| 1 + member.len()).sum::<usize>()
        };
        while length(&members) > TRACESTATE_CHARACTERS_MAX {
            let long = members
                .iter()
                .rposition(|member| member.len() > LONG_MEMBER_CHARACTERS);
            match long {
                Some(long) => drop(members.remove(long)),
                None => drop(members.pop()),
            }
        }
        members.insert(0, &ours);
        members.join(",")
    }

    fn written(self) -> String {
        let mut millis = Buffer::<8>::new();
        let sent = self.sent.map_or(0, Timestamp::as_millis);
        let millis = millis.format(&sent.to_be_bytes()).trim_start_matches('0');
        let mut text = String::with_capacity(OUR_KEY.len() + 1 + 16 + 1 + 16 + 2 * (1 + 8));
        text.push_str(OUR_KEY);
        text.push('=');
        text.push_str(Buffer::<8>::new().format(&self.span_id.to_bytes()));
        text.push('-');
        text.push_str(if millis.is_empty() { "0" } else { millis });
        let message = self.message.map(|MessageDigest(bytes)| bytes);
        let parts = match (message, self.beside) {
            (None, None) => &[][..],
            (_, None) => &[message],
            (_, Some(_)) => &[message, self.beside],
        };
        for part in parts {
            text.push('-');
            if let Some(bytes) = part {
                text.push_str(Buffer::<4>::new().format(bytes));
            }
        }
        text
    }
}

/// That many bytes in hex digits, and nothing else.
fn exactly<const N: usize>(digits: &str) -> Option<[u8; N]> {
    (digits.len() == 2 * N)
        .then(|| hex(digits.as_bytes()).ok())
        .flatten()
}

fn is_ours(member: &str) -> bool {
    member
        .split_once('=')
        .is_some_and(|(key, _)| key == OUR_KEY)
}

const OUR_KEY: &str = "tracehop";
const MEMBERS_MAX: usize = 32;
/// Members longer than this are the first to go.
const LONG_MEMBER_CHARACTERS: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    const VALID: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn what_is_written_is_what_was_read() {
        for flags in ["00", "01", "02", "03"] {
            let text = format!("{}{flags}", &VALID[..53]);
            let context = parse_traceparent(&text).unwrap();
            assert_eq!(format_traceparent(&context), text);
        }
    }

    #[test]
    fn flags_without_a_name_are_cleared_in_writing() {
        let context = parse_traceparent(&format!("{}ff", &VALID[..53])).unwrap();
        assert!(context.flags.is_sampled());
        assert!(format_traceparent(&context).ends_with("-03"));
    }

    #[test]
    fn higher_versions_are_read_and_written_as_00() {
        for tail in ["", "-", "-what-the-future-brings"] {
            let text = format!("cc{}{tail}", &VALID[2..]);
            let context = parse_traceparent(&text).unwrap();
            assert_eq!(format_traceparent(&context), VALID);
        }
    }

    #[test]
    fn each_fault_has_its_name() {
        let with = |range: std::ops::Range<usize>, text: &str| {
            let mut changed = VALID.to_owned();
            changed.replace_range(range, text);
            changed
        };
        for (text, fault) in [
            (String::new(), Invalid::WrongLength),
            (VALID[..54].to_owned(), Invalid::WrongLength),
            (format!("{VALID}-"), Invalid::WrongLength),
            (format!(" {}", &VALID[..54]), Invalid::WrongShape),
            (with(2..3, "_"), Invalid::WrongShape),
            (with(35..36, "0"), Invalid::WrongShape),
            (with(54..55, "g"), Invalid::WrongShape),
            (with(54..55, "é"), Invalid::WrongShape),
            (with(0..2, "cc") + ".", Invalid::WrongShape),
            (with(4..5, "A"), Invalid::UpperCase),
            (with(0..2, "ff"), Invalid::VersionFf),
            (with(3..35, &"0".repeat(32)), Invalid::ZeroTraceId),
            (with(36..52, &"0".repeat(16)), Invalid::ZeroParentId),
        ] {
            assert_eq!(parse_traceparent(&text), Err(fault), "{text}");
        }
    }

    fn ours(sent: Option<Timestamp>) -> OurMember {
        OurMember {
            span_id: parse_traceparent(VALID).unwrap().span_id,
            sent,
            message: Some(MessageDigest([0x38, 0x8d, 0xfe, 0x33])),
            beside: None,
        }
    }

    #[test]
    fn our_member_leads_and_replaces_the_one_before() {
        let sent = Timestamp::from_nanos(0x19a_0000_0000 * 1_000_000);
        let member = ours(Some(sent));
        let tracestate = member.lead("ot=rv:1 , tracehop=1-2,,vendor=x y");
        assert_eq!(
            tracestate,
            "tracehop=b7ad6b7169203331-19a00000000-388dfe33,ot=rv:1,vendor=x y"
        );
        assert_eq!(OurMember::find(&tracestate), Some(member));
        let unknown = OurMember::find(&ours(None).lead("")).unwrap();
        assert_eq!(unknown, ours(None));
    }

    #[test]
    fn a_member_says_what_is_known_and_is_read_back() {
        let message = Some(MessageDigest([0x38, 0x8d, 0xfe, 0x33]));
        let beside = Some([0, 1, 0xab, 0xff]);
        for (message, beside, written) in [
            (None, None, "tracehop=b7ad6b7169203331-0"),
            (message, None, "tracehop=b7ad6b7169203331-0-388dfe33"),
            (
                message,
                beside,
                "tracehop=b7ad6b7169203331-0-388dfe33-0001abff",
            ),
            (None, beside, "tracehop=b7ad6b7169203331-0--0001abff"),
        ] {
            let member = OurMember {
                message,
                beside,
                ..ours(None)
            };
            assert_eq!(member.lead(""), written);
            assert_eq!(OurMember::find(written), Some(member));
        }
    }

    #[test]
    fn parts_to_come_do_not_matter_and_broken_ones_say_nothing() {
        let known = Some((true, true));
        for (parts, expected) in [
            ("19a00000000-388dfe33-0001abff", known),
            ("19a00000000-388dfe33-0001abff-", known),
            ("19a00000000-388dfe33-0001abff-v2:x-1", known),
            ("19a00000000-388dfe33-", Some((true, false))),
            ("19a00000000-388dfe33--x", Some((true, false))),
            ("19a00000000--0001abff", Some((false, true))),
            ("19a00000000-388dfe3-0001abff", Some((false, true))),
            ("19a00000000-388dfe333", Some((false, false))),
            ("19a00000000-388DFE33", Some((false, false))),
            ("19a00000000-", Some((false, false))),
            ("19a00000000", Some((false, false))),
            ("", None),
            ("+19a", None),
            ("x-388dfe33", None),
            ("19a00000000000000", None),
        ] {
            let tracestate = format!("tracehop=b7ad6b7169203331-{parts}");
            let member = OurMember::find(&tracestate);
            let found = member.map(|it| (it.message.is_some(), it.beside.is_some()));
            assert_eq!(found, expected, "{tracestate}");
        }
    }

    #[test]
    fn a_member_whose_key_begins_like_ours_does_not_hide_it() {
        let ours = ours(None);
        for other in [
            "tracehopx=1-2",
            "tracehop@vendor=1",
            "tracehop",
            "tracehop-=a",
        ] {
            let tracestate = format!("{other},{}", ours.lead(""));
            assert_eq!(OurMember::find(&tracestate), Some(ours), "{tracestate}");
        }
        assert_eq!(OurMember::find("tracehopx=b7ad6b7169203331-0"), None);
    }

    #[test]
    fn whole_members_are_dropped_from_the_right() {
        let many: Vec<String> = (0..32).map(|number| format!("k{number}=v")).collect();
        let tracestate = ours(None).lead(&many.join(","));
        assert_eq!(tracestate.split(',').count(), 32);
        assert!(tracestate.ends_with("k30=v"));

        let long = format!("a={},b={}", "x".repeat(250), "y".repeat(250));
        let tracestate = ours(None).lead(&long);
        assert!(tracestate.len() <= 512);
        assert!(tracestate.contains("a=x") && !tracestate.contains("b=y"));
    }

    #[test]
    fn a_list_outside_the_grammar_counts_for_nothing() {
        for text in [
            "Foo=1",
            "foo",
            "=1",
            "foo=",
            "foo=a=b",
            "foo=1,bär=2",
            "foo=\t1\u{7f}",
            "foo bar=1",
        ] {
            assert_eq!(tracestate_members(text), Vec::<&str>::new(), "{text}");
        }
        let many = vec!["a=1"; 33].join(",");
        assert_eq!(tracestate_members(&many), Vec::<&str>::new());
        assert_eq!(
            tracestate_members("foo=1 \t , \t 0bar@x=2,"),
            ["foo=1", "0bar@x=2"]
        );
    }
}
