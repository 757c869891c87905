//! The rules of W3C Trace Context, held against messages with `on_valid = "restamp"`: the
//! policy under which a proxy does to a context what the specification asks of a participant.

#[path = "support/edits.rs"]
mod edits;
#[path = "support/envelope.rs"]
mod envelope;
#[path = "support/laws.rs"]
mod laws;
#[path = "support/resp.rs"]
mod resp;

use serde_json::Value;

use tracehop::config::OnValid;
use tracehop::config::Policy;
use tracehop::config::Protocol;
use tracehop::hop::Publication;
use tracehop::hop::Verdict;
use tracehop::protocol::Side;
use tracehop::trace::w3c::Invalid;
use tracehop::trace::w3c::format_traceparent;
use tracehop::trace::w3c::parse_traceparent;

use edits::header;
use envelope::Envelope;
use envelope::Facts;
use envelope::Json;
use laws::Rig;
use laws::Turn;
use laws::play;
use laws::seen;
use resp::Token;
use resp::request;
use resp::tokens;

/// What became of the context of one message.
struct Passed {
    hop: Publication,
    /// The message as it left.
    message: Vec<u8>,
}

impl Passed {
    fn traceparent(&self) -> Value {
        header(&self.message, "traceparent").expect("a traceparent")
    }

    /// The members of the `tracestate` that left.
    fn tracestate(&self) -> Vec<String> {
        let text = header(&self.message, "tracestate").unwrap_or_default();
        let members = text.as_str().unwrap_or_default().split(',');
        members
            .filter(|member| !member.is_empty())
            .map(str::to_owned)
            .collect()
    }
}

/// Sends a message with these headers, last.
fn send(policy: Policy, headers: &[(&str, Json)]) -> Passed {
    let id = "50fbde83-f755-40e9-a1de-76192c8eca74".to_owned();
    let facts = Facts {
        name: "add".to_owned(),
        root_id: Some(id.clone()),
        id,
        ..Facts::default()
    };
    let mut envelope = Envelope::protocol_2(&facts);
    for (name, value) in headers {
        envelope = envelope.with_header(name, value.clone());
    }
    let push = request(&[b"LPUSH".as_slice(), b"celery", &envelope.bytes()]);
    let rig = Rig::new(Protocol::Redis).with(policy);
    let outcome = play(&mut *rig.session(), &[Turn(Side::Client, push)]);
    let message = match tokens(&outcome.to_broker).last() {
        Some(Token::Blob(_, message)) => message.to_vec(),
        other => panic!("{other:?} is no message"),
    };
    let hop = seen(&outcome.sightings)
        .publications()
        .next()
        .expect("it was seen")
        .clone();
    Passed { hop, message }
}

fn restamp() -> Policy {
    Policy {
        on_valid: OnValid::Restamp,
        ..Policy::default()
    }
}

fn keep() -> Policy {
    Policy::default()
}

/// What holds whatever came in: what leaves is the hop's own context, and our member leads.
fn assert_is_ours(passed: &Passed, carried: &str, case: &str) {
    assert_eq!(
        passed.traceparent(),
        format_traceparent(&passed.hop.judgement.context),
        "{case}"
    );
    let written = passed.traceparent();
    let written = parse_traceparent(written.as_str().expect("text")).expect("valid");
    assert!(
        !carried.contains(&written.span_id.to_string()),
        "{case}: a parent-id of its own"
    );
    let member = format!("tracehop={}-", written.span_id);
    let first = passed.tracestate().into_iter().next().expect("a member");
    assert!(first.starts_with(&member), "{case}: {first} leads");
}

// The suite ----------------------------------------------------------------------------

/// One case of the suite of W3C.
struct Case {
    id: String,
    headers: Vec<(String, String)>,
    trace_id: String,
    tracestate: Option<String>,
}

impl Case {
    fn all() -> Vec<Self> {
        let suite: Value =
            serde_json::from_str(include_str!("captures/w3c_cases.json")).expect("JSON");
        let cases = suite["cases"].as_array().expect("cases");
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let case = |case: &Value| Self {
            id: text(&case["id"]).expect("an id"),
            headers: case["headers"]
                .as_array()
                .expect("headers")
                .iter()
                .map(|pair| {
                    (
                        text(&pair[0]).expect("a name"),
                        text(&pair[1]).expect("a value"),
                    )
                })
                .collect(),
            trace_id: text(&case["trace_id"]).expect("an outcome"),
            tracestate: text(&case["tracestate"]),
        };
        cases.iter().map(case).collect()
    }

    /// The header as a worker reads it: of two, the last.
    fn last(&self, name: &str) -> &str {
        let mut named = self.headers.iter().filter(|(other, _)| other == name);
        named.next_back().map_or("", |(_, value)| value)
    }

    fn exception(&self) -> Option<&'static Exception> {
        let is_of =
            |exception: &&Exception| exception.cases.iter().any(|part| self.id.contains(part));
        EXCEPTIONS.iter().find(is_of)
    }
}

/// Where a message is not an HTTP request.
struct Exception {
    cases: &'static [&'static str],
    trace_id: &'static str,
    tracestate: Option<&'static str>,
    #[allow(dead_code, reason = "it is there to be read")]
    why: &'static str,
}

const EXCEPTIONS: &[Exception] = &[
    Exception {
        cases: &["test_traceparent_header_name_valid_casing"],
        trace_id: "new",
        tracestate: None,
        why: "Names of HTTP headers have no case. Workers look for `traceparent` and nothing else.",
    },
    Exception {
        cases: &["test_tracestate_header_name_valid_casing"],
        trace_id: "inherit",
        tracestate: Some("drop"),
        why: "The same for `tracestate`: what stands under another name is another header.",
    },
    Exception {
        cases: &["test_traceparent_ows_handling"],
        trace_id: "new",
        tracestate: None,
        why: "White space around the value of an HTTP header is no part of it. In a JSON string \
              it is, and only some readers pass over it.",
    },
    Exception {
        cases: &["test_traceparent_duplicated"],
        trace_id: "inherit",
        tracestate: None,
        why: "In a JSON object of which one name stands twice, every worker reads the last.",
    },
    Exception {
        cases: &["test_tracestate_empty_header#1"],
        trace_id: "inherit",
        tracestate: Some("drop"),
        why: "The last of two is the empty one.",
    },
    Exception {
        cases: &["test_tracestate_member_count_limit#1"],
        trace_id: "inherit",
        tracestate: Some("keep"),
        why: "The last of two does not exceed the limit by itself.",
    },
];

#[test]
fn the_suite_of_w3c_holds_for_messages() {
    for case in Case::all() {
        let headers: Vec<(&str, Json)> = case
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), Json::text(value)))
            .collect();
        let passed = send(restamp(), &headers);
        let (trace_id, tracestate) = match case.exception() {
            Some(exception) => (exception.trace_id, exception.tracestate),
            None => (case.trace_id.as_str(), case.tracestate.as_deref()),
        };
        let carried = case.last("traceparent");
        assert_is_ours(&passed, carried, &case.id);

        let inherits = carried.contains(&passed.hop.judgement.context.trace_id.to_string());
        match trace_id {
            "inherit" => assert!(inherits, "{}: a new trace", case.id),
            "new" => assert!(!inherits, "{}: the trace that was carried", case.id),
            "either" => {}
            other => panic!("{other} is no outcome"),
        }
        let verdict = match (inherits, carried.is_empty()) {
            (true, _) => Verdict::Restamped,
            (false, true) => Verdict::Added,
            (false, false) => Verdict::Replaced,
        };
        assert_eq!(passed.hop.judgement.verdict, verdict, "{}", case.id);

        let theirs = &passed.tracestate()[1..];
        let members = case
            .last("tracestate")
            .split(',')
            .map(|member| member.trim_matches([' ', '\t']));
        let members: Vec<&str> = members.filter(|member| !member.is_empty()).collect();
        match tracestate {
            Some("keep") => assert_eq!(theirs, members, "{}", case.id),
            Some("drop") | None => assert_eq!(theirs, [""; 0], "{}", case.id),
            Some("either") => assert!(theirs.is_empty() || theirs == members, "{}", case.id),
            other => panic!("{other:?} is no outcome"),
        }
    }
}

#[test]
fn every_exception_is_one() {
    for exception in EXCEPTIONS {
        for part in exception.cases {
            let differs = |case: &Case| {
                let suite = (case.trace_id.as_str(), case.tracestate.as_deref());
                case.id.contains(part) && suite != (exception.trace_id, exception.tracestate)
            };
            assert!(Case::all().iter().any(differs), "{part} is none");
        }
    }
}

// What the suite leaves out ------------------------------------------------------------

const VALID: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const TRACE_ID: &str = "0af7651916cd43dd8448eb211c80319c";

fn with_flags(flags: &str) -> String {
    format!("{}{flags}", &VALID[..53])
}

#[test]
fn flags_are_carried_and_those_without_a_name_are_cleared() {
    for (carried, written) in [
        ("00", "-00"),
        ("01", "-01"),
        ("02", "-02"),
        ("03", "-03"),
        ("04", "-00"),
        ("fd", "-01"),
        ("ff", "-03"),
    ] {
        let passed = send(
            restamp(),
            &[("traceparent", Json::text(with_flags(carried)))],
        );
        let traceparent = passed.traceparent();
        assert!(
            traceparent.as_str().expect("text").ends_with(written),
            "{carried}: {traceparent}"
        );
        // Kept, they stay as they are.
        let passed = send(keep(), &[("traceparent", Json::text(with_flags(carried)))]);
        assert_eq!(passed.traceparent(), with_flags(carried));
    }
}

#[test]
fn higher_versions_are_written_as_00() {
    for version in ["01", "0a", "cc", "fe"] {
        for tail in ["", "-", "-what-the-future-brings"] {
            let carried = format!("{version}{}{tail}", &VALID[2..]);
            let passed = send(restamp(), &[("traceparent", Json::text(&carried))]);
            let traceparent = passed.traceparent();
            let traceparent = traceparent.as_str().expect("text");
            assert_eq!(traceparent.len(), 55, "{carried}");
            assert!(
                traceparent.starts_with(&format!("00-{TRACE_ID}-")),
                "{carried}"
            );
            let passed = send(keep(), &[("traceparent", Json::text(&carried))]);
            assert_eq!(passed.traceparent(), carried.as_str());
        }
    }
}

#[test]
fn what_is_no_context_is_replaced_and_named() {
    let text = |text: &str| Json::text(text);
    let number = |digits: &str| Json::raw(digits);
    for (carried, why) in [
        (Json::null(), Invalid::NotAString),
        (number("7"), Invalid::NotAString),
        (number("1.5"), Invalid::NotAString),
        (number("true"), Invalid::NotAString),
        (number("false"), Invalid::NotAString),
        (Json::List(vec![text(VALID)]), Invalid::NotAString),
        (
            Json::Object(vec![("traceparent".to_owned(), text(VALID))]),
            Invalid::NotAString,
        ),
        (text(""), Invalid::WrongLength),
        (text("00"), Invalid::WrongLength),
        (text(&VALID[..54]), Invalid::WrongLength),
        (text(&format!("{VALID}0")), Invalid::WrongLength),
        (text(&format!("{VALID} ")), Invalid::WrongLength),
        (text(&VALID.to_uppercase()), Invalid::UpperCase),
        (text(&VALID.replace('c', "C")), Invalid::UpperCase),
        (text(&VALID.replace('-', "_")), Invalid::WrongShape),
        (text(&VALID.replacen('0', "+", 1)), Invalid::WrongShape),
        (text(&with_flags("0g")), Invalid::WrongShape),
        (text(&format!("ff{}", &VALID[2..])), Invalid::VersionFf),
        (text(&format!("ff{}-more", &VALID[2..])), Invalid::VersionFf),
        (
            text(&VALID.replace(TRACE_ID, &"0".repeat(32))),
            Invalid::ZeroTraceId,
        ),
        (
            text(&VALID.replace("b7ad6b7169203331", &"0".repeat(16))),
            Invalid::ZeroParentId,
        ),
        (text(&"\u{1f600}".repeat(14)), Invalid::WrongShape),
    ] {
        let case = format!("{carried:?}");
        for policy in [keep(), restamp()] {
            let headers = [
                ("traceparent", carried.clone()),
                ("tracestate", Json::text("foo=1")),
            ];
            let passed = send(policy, &headers);
            assert_eq!(passed.hop.judgement.invalid, Some(why), "{case}");
            assert_eq!(passed.hop.judgement.verdict, Verdict::Replaced, "{case}");
            assert_is_ours(&passed, VALID, &case);
            assert_ne!(
                passed.hop.judgement.context.trace_id.to_string(),
                TRACE_ID,
                "{case}"
            );
            // It belonged to the traceparent that went.
            assert_eq!(passed.tracestate().len(), 1, "{case}");
        }
    }
}

#[test]
fn a_context_that_is_kept_keeps_its_tracestate_byte_for_byte() {
    for tracestate in [
        Json::text("foo=1 , bar=2,,"),
        Json::text("Not=A tracestate"),
        Json::text(""),
        Json::text(vec!["a=1"; 40].join(",")),
        Json::text("x".repeat(600)),
        Json::null(),
        Json::List(vec![Json::text("foo=1")]),
    ] {
        let headers = [
            ("traceparent", Json::text(VALID)),
            ("tracestate", tracestate.clone()),
        ];
        let passed = send(keep(), &headers);
        assert_eq!(passed.hop.judgement.verdict, Verdict::Kept);
        assert_eq!(passed.traceparent(), VALID);
        let left: Value =
            serde_json::from_str(&tracestate.write(envelope::Layout::Kombu)).expect("JSON");
        assert_eq!(header(&passed.message, "tracestate"), Some(left));
    }
    let passed = send(keep(), &[("traceparent", Json::text(VALID))]);
    assert_eq!(
        header(&passed.message, "tracestate"),
        None,
        "none is added to a kept context"
    );
}

/// The members that leave behind ours, for a `tracestate` that came with a valid context.
fn restamped_members(tracestate: &str) -> Vec<String> {
    let headers = [
        ("traceparent", Json::text(VALID)),
        ("tracestate", Json::text(tracestate)),
    ];
    let passed = send(restamp(), &headers);
    assert_is_ours(&passed, VALID, tracestate);
    let whole = header(&passed.message, "tracestate").expect("one");
    assert!(whole.as_str().expect("text").len() <= 512, "{tracestate}");
    passed.tracestate().split_off(1)
}

#[test]
fn whole_members_are_dropped_from_the_right() {
    let members =
        |count: usize| -> Vec<String> { (0..count).map(|index| format!("k{index}=v")).collect() };
    assert_eq!(restamped_members(&members(31).join(",")), members(31));
    assert_eq!(restamped_members(&members(32).join(",")), members(31));
    // A list that was too long before is no list.
    assert_eq!(restamped_members(&members(33).join(",")), [""; 0]);

    // Ours takes 47 of the 512 characters, with its comma.
    let fits = format!(
        "a={},b={}",
        "x".repeat(250),
        "y".repeat(512 - 47 - 2 - 250 - 3)
    );
    assert_eq!(restamped_members(&fits).join(","), fits);
    let exceeds = format!("{fits}y");
    assert_eq!(
        restamped_members(&exceeds),
        [format!("a={}", "x".repeat(250))]
    );
}

#[test]
fn members_of_more_than_128_characters_are_dropped_first() {
    let short = |key: &str| format!("{key}={}", "s".repeat(124));
    let long = |key: &str| format!("{key}={}", "l".repeat(130));
    let all = [short("a"), long("b"), short("c"), short("d")];
    assert_eq!(
        restamped_members(&all.join(",")),
        [short("a"), short("c"), short("d")]
    );
}

#[test]
fn members_of_others_are_not_altered() {
    for members in [
        "ot=rv:0123456789abcd;th:8",
        "ot=th:c,vendor=x",
        "dd=s:1;t.dm:-0,es=s:1",
        "a/b*c_d-e@f=~}|{ !\"#$%&'()*+-./:;<>?@",
        "0digit=1,congo@2=z z",
    ] {
        assert_eq!(restamped_members(members).join(","), members);
    }
}

#[test]
fn our_member_of_an_earlier_hop_is_replaced() {
    let before = "foo=1,tracehop=0123456789abcdef-19a00000000,bar=2";
    assert_eq!(restamped_members(before), ["foo=1", "bar=2"]);
}

#[test]
fn without_a_traceparent_a_tracestate_says_nothing() {
    for tracestate in [
        Json::text("foo=1"),
        Json::text(""),
        Json::null(),
        Json::raw(1),
    ] {
        let passed = send(keep(), &[("tracestate", tracestate)]);
        assert_eq!(passed.hop.judgement.verdict, Verdict::Added);
        assert_is_ours(&passed, VALID, "a tracestate alone");
        assert_eq!(passed.tracestate().len(), 1);
    }
}

#[test]
fn without_a_member_of_ours_nothing_is_left_of_a_tracestate_that_goes() {
    for on_valid in [OnValid::Keep, OnValid::Restamp] {
        let policy = Policy {
            tracestate: false,
            on_valid,
            ..Policy::default()
        };
        let state = || ("tracestate", Json::text("foo=1"));
        for headers in [vec![state()], vec![("traceparent", Json::raw(7)), state()]] {
            assert_eq!(send(policy, &headers).tracestate(), [""; 0]);
        }
        let passed = send(policy, &[("traceparent", Json::text(VALID)), state()]);
        assert_eq!(passed.tracestate(), ["foo=1"]);
        assert_eq!(header(&send(policy, &[]).message, "tracestate"), None);
    }
}
