//! What a session does for a proxy that is to stop.

use super::*;

const POP: &[&str] = &["BRPOP", "celery", "1"];
const NOTHING: &str = "*-1\r\n";
const MESSAGE: &str = "*2\r\n$6\r\ncelery\r\n$2\r\n{}\r\n";

impl Spoken {
    fn delivering(&self, millis: u64) -> DeliveryProgress {
        let now = Timestamp::from_nanos(millis * 1_000_000);
        self.session.delivering(now)
    }

    fn parts(&mut self) -> bool {
        let now = Timestamp::default();
        self.session.part(now, &mut self.out)
    }
}

#[test]
fn a_pop_waits_and_so_does_what_comes_behind_it() {
    let mut spoken = Spoken::new();
    spoken.session.hold_pops();
    let (ping, pop) = (command(&["PING"]), command(POP));
    assert_eq!(spoken.client(&format!("{ping}{pop}{ping}")), ping);
    assert!(spoken.session.holds_pop() && !spoken.parts());
    assert_eq!(spoken.client(&ping), "");
    spoken.broker("+PONG\r\n");
    assert!(spoken.parts(), "what is held loses nothing");
}

#[test]
fn what_is_not_clear_yet_waits_until_it_is() {
    let mut spoken = Spoken::new();
    spoken.session.hold_pops();
    let push = command(&["LPUSH", "celery", "1"]);
    let (head, rest) = push.split_at(11);
    assert_eq!(spoken.client(head), "");
    assert_eq!(spoken.client(rest), push);
    let pop = command(POP);
    let (head, rest) = pop.split_at(11);
    assert_eq!(spoken.client(head) + &spoken.client(rest), "");
    assert!(spoken.session.holds_pop());
}

#[test]
fn a_transaction_behind_which_a_pop_is_held_will_not_be_executed() {
    let mut spoken = Spoken::new();
    spoken.session.hold_pops();
    spoken.client(&command(&["MULTI"]));
    spoken.broker("+OK\r\n");
    assert!(!spoken.parts());
    spoken.client(&command(POP));
    assert!(spoken.parts());
}

#[test]
fn a_delivery_is_awaited_until_the_pop_is_answered() {
    for (pop, answer) in [
        (POP, NOTHING),
        (&["BLMPOP", "1", "1", "celery", "LEFT"], "_\r\n"),
        (&["BZPOPMIN", "celery", "1"], NOTHING),
        (&["XREAD", "BLOCK", "9", "STREAMS", "celery", "0"], NOTHING),
        (&["BLMOVE", "a", "b", "LEFT", "LEFT", "1"], "$-1\r\n"),
    ] {
        let mut spoken = Spoken::new();
        assert_eq!(spoken.delivering(0), DeliveryProgress::Nothing);
        spoken.client(&command(pop));
        assert_eq!(
            spoken.delivering(3_600_000),
            DeliveryProgress::Awaited,
            "{pop:?}"
        );
        spoken.broker(answer);
        assert_eq!(spoken.delivering(0), DeliveryProgress::Nothing, "{pop:?}");
    }
    let mut spoken = Spoken::new();
    spoken.client(&command(&["XREAD", "STREAMS", "celery", "0"]));
    assert_eq!(spoken.delivering(0), DeliveryProgress::Nothing);
}

#[test]
fn a_message_is_under_way_for_two_seconds_or_one_if_its_client_has_gone_on() {
    for (pop, message) in [
        (POP, MESSAGE),
        (&["RPOP", "celery"], "$2\r\n{}\r\n"),
        (
            &["XREAD", "BLOCK", "9", "STREAMS", "s", "0"],
            "%1\r\n+s\r\n*0\r\n",
        ),
    ] {
        let mut spoken = Spoken::new();
        spoken.client(&command(pop));
        spoken.broker(message);
        assert_eq!(spoken.delivering(1999), DeliveryProgress::Handed, "{pop:?}");
        assert_eq!(spoken.delivering(2000), DeliveryProgress::Nothing);
        spoken.client(&command(&["PING"]));
        assert_eq!(spoken.delivering(999), DeliveryProgress::Handed);
        assert_eq!(spoken.delivering(1000), DeliveryProgress::Nothing);
    }
}
