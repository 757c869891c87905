//! `traceparent` and `tracestate`, as W3C Trace Context level 2 defines them.
//!
//! OpenTelemetry's own propagator for Rust would accept short and zero-padded ids, signs and
//! surrounding blanks.

use const_hex::Buffer;
use thiserror::Error;

use crate::trace::SpanId;
use crate::trace::Timestamp;
use crate::trace::TraceContext;
use crate::trace::TraceFlags;
use crate::trace::TraceId;

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

/// Our member of a `tracestate`: which span we put into the message, and when.
///
/// `tracehop=<span id>-<sent, Unix milliseconds in hex>`, with 0 where it is not known when
/// the message was sent. The context is ours only while `span_id` equals the parent-id of
/// the `traceparent` beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OurMember {
    pub span_id: SpanId,
    pub sent_millis: u64,
}

impl OurMember {
    /// Finds our member in a `tracestate`.
    #[must_use]
    pub fn find(tracestate: &str) -> Option<Self> {
        let member = tracestate
            .split(',')
            .find_map(|member| member.trim_matches([' ', '\t']).strip_prefix(OUR_KEY))?;
        let (span_id, sent) = member.strip_prefix('=')?.split_once('-')?;
        if span_id.len() != 16 {
            return None;
        }
        Some(Self {
            span_id: SpanId::new(hex(span_id.as_bytes()).ok()?)?,
            sent_millis: u64::from_str_radix(sent, 16).ok()?,
        })
    }

    /// When the message was sent, where that is known.
    #[must_use]
    pub fn sent(&self) -> Option<Timestamp> {
        (self.sent_millis > 0).then(|| Timestamp::from_millis(self.sent_millis))
    }

    /// The `tracestate` that begins with our member and keeps of `others` what still fits in
    /// 32 members and 512 characters. Whole members are dropped: long ones first, then those
    /// on the right (level 2, section 3.3.1.5).
    #[must_use]
    pub fn lead(span_id: SpanId, sent: Option<Timestamp>, others: &str) -> String {
        let ours = Self {
            span_id,
            sent_millis: sent.map_or(0, Timestamp::as_millis),
        }
        .written();
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
        let millis = millis.format(&self.sent_millis.to_be_bytes());
        let millis = millis.trim_start_matches('0');
        let mut text = String::with_capacity(OUR_KEY.len() + 1 + 16 + 1 + 16);
        text.push_str(OUR_KEY);
        text.push('=');
        text.push_str(Buffer::<8>::new().format(&self.span_id.to_bytes()));
        text.push('-');
        text.push_str(if millis.is_empty() { "0" } else { millis });
        text
    }
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

    #[test]
    fn our_member_leads_and_replaces_the_one_before() {
        let span_id = parse_traceparent(VALID).unwrap().span_id;
        let sent = Timestamp::from_nanos(0x19a_0000_0000 * 1_000_000);
        let tracestate = OurMember::lead(span_id, Some(sent), "ot=rv:1 , tracehop=1-2,,vendor=x y");
        assert_eq!(
            tracestate,
            "tracehop=b7ad6b7169203331-19a00000000,ot=rv:1,vendor=x y"
        );
        let found = OurMember::find(&tracestate).unwrap();
        assert_eq!(found.span_id, span_id);
        assert_eq!(found.sent(), Some(sent));
        let unknown = OurMember::find(&OurMember::lead(span_id, None, "")).unwrap();
        assert_eq!(unknown.sent(), None);
    }

    #[test]
    fn whole_members_are_dropped_from_the_right() {
        let span_id = parse_traceparent(VALID).unwrap().span_id;
        let many: Vec<String> = (0..32).map(|number| format!("k{number}=v")).collect();
        let tracestate = OurMember::lead(span_id, None, &many.join(","));
        assert_eq!(tracestate.split(',').count(), 32);
        assert!(tracestate.ends_with("k30=v"));

        let long = format!("a={},b={}", "x".repeat(250), "y".repeat(250));
        let tracestate = OurMember::lead(span_id, None, &long);
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
