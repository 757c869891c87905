//! What the broker owes for the publications on one channel: nothing, confirms, or the
//! answer to a transaction.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::VecDeque;
use std::mem;

use crate::hop::Answer;
use crate::protocol::amqp::method::Tags;

/// A publication of which every byte has been sent.
#[derive(Debug, Default)]
pub(super) struct Sent {
    /// The number of its hop; `None` where it is no task message.
    pub(super) hop: Option<u64>,
    /// What it will be recognised by when the broker returns it; `None` where it cannot.
    pub(super) mark: Option<u64>,
    /// The broker has returned it, in these words.
    returned: Option<Box<str>>,
}

/// What has become of publications, and how many still wait to know.
#[derive(Debug, Default)]
pub(super) struct Answers {
    told: Vec<(u64, Answer)>,
    waiting: usize,
    /// Those that do not wait, and may be returned.
    returnable: usize,
}

/// How a channel answers for what is published on it.
#[derive(Debug)]
pub(super) enum Owed {
    /// Nothing. Some publications may be returned all the same: their marks and hops.
    Nothing { returnable: VecDeque<(u64, u64)> },
    Confirms {
        /// The number of the publication before.
        last: u64,
        waiting: BTreeMap<u64, Sent>,
        /// The marks and numbers of those that may be returned and were not.
        returnable: BTreeSet<(u64, u64)>,
    },
    Transaction {
        /// What was published since the last commit or rollback.
        open: Vec<Sent>,
        /// Something was sent since then that a commit would make final.
        is_touched: bool,
        /// What commits and rollbacks were asked for, in that order, and not yet answered.
        ended: VecDeque<Vec<Sent>>,
    },
}

impl Default for Owed {
    fn default() -> Self {
        Self::Nothing {
            returnable: VecDeque::new(),
        }
    }
}

impl Sent {
    pub(super) fn new(hop: Option<u64>, mark: Option<u64>) -> Self {
        Self {
            hop,
            mark,
            returned: None,
        }
    }
}

impl Answers {
    /// What has become of hops since this was asked last.
    pub(super) fn take(&mut self) -> impl Iterator<Item = (u64, Answer)> + '_ {
        self.told.drain(..)
    }

    pub(super) const fn waiting_count(&self) -> usize {
        self.waiting
    }

    pub(super) const fn returnable_count(&self) -> usize {
        self.returnable
    }

    /// What has become of something that was not waiting.
    pub(super) fn tell(&mut self, hop: Option<u64>, answer: Answer) {
        self.told.extend(hop.map(|hop| (hop, answer)));
    }

    fn settle(&mut self, sent: Sent, answer: &Answer) {
        self.waiting = self.waiting.saturating_sub(1);
        let answer = match (sent.returned, answer) {
            // A message that was returned is confirmed all the same.
            (Some(words), Answer::Confirmed | Answer::Unanswered) => Answer::Refused(words),
            _ => answer.clone(),
        };
        self.tell(sent.hop, answer);
    }

    fn settle_all(&mut self, sent: impl IntoIterator<Item = Sent>, answer: &Answer) {
        for sent in sent {
            self.settle(sent, answer);
        }
    }
}

impl Owed {
    /// Whether nothing is owed, and nothing would be undone if the channel ended now.
    pub(super) fn is_settled(&self) -> bool {
        match self {
            Self::Nothing { .. } => true,
            Self::Confirms { waiting, .. } => waiting.is_empty(),
            Self::Transaction {
                is_touched, ended, ..
            } => !is_touched && ended.is_empty(),
        }
    }

    /// From now on publications are numbered, and each is confirmed.
    pub(super) fn select_confirms(&mut self, answers: &mut Answers) {
        if matches!(self, Self::Nothing { .. }) {
            self.lose(&Answer::Unanswered, answers);
            *self = Self::Confirms {
                last: 0,
                waiting: BTreeMap::new(),
                returnable: BTreeSet::new(),
            };
        }
    }

    pub(super) fn select_transactions(&mut self, answers: &mut Answers) {
        if matches!(self, Self::Nothing { .. }) {
            self.lose(&Answer::Unanswered, answers);
            *self = Self::Transaction {
                open: Vec::new(),
                is_touched: false,
                ended: VecDeque::new(),
            };
        }
    }

    /// A publication was sent.
    pub(super) fn published(&mut self, sent: Sent, answers: &mut Answers) {
        match self {
            Self::Nothing { returnable } => {
                if let (Some(mark), Some(hop)) = (sent.mark, sent.hop) {
                    let before = returnable.len();
                    returnable.push_back((mark, hop));
                    if returnable.len() > RETURNED_FROM_MAX {
                        returnable.pop_front();
                    }
                    answers.returnable += returnable.len() - before;
                }
                return answers.tell(sent.hop, Answer::Unanswered);
            }
            Self::Confirms {
                last,
                waiting,
                returnable,
            } => {
                *last += 1;
                returnable.extend(sent.mark.map(|mark| (mark, *last)));
                waiting.insert(*last, sent);
            }
            Self::Transaction {
                open, is_touched, ..
            } => {
                *is_touched = true;
                open.push(sent);
            }
        }
        answers.waiting += 1;
    }

    /// Deliveries were acknowledged or rejected.
    pub(super) fn acknowledged(&mut self) {
        if let Self::Transaction { is_touched, .. } = self {
            *is_touched = true;
        }
    }

    /// Commit or rollback was asked for.
    pub(super) fn ended(&mut self, answers: &mut Answers) {
        if let Self::Transaction {
            open,
            is_touched,
            ended,
        } = self
        {
            *is_touched = false;
            ended.push_back(mem::take(open));
            // Counted like a publication: even an empty one is remembered.
            answers.waiting += 1;
        }
    }

    /// The broker has answered a commit or a rollback.
    pub(super) fn end_answered(&mut self, answer: &Answer, answers: &mut Answers) {
        if let Self::Transaction { ended, .. } = self
            && let Some(sent) = ended.pop_front()
        {
            answers.waiting = answers.waiting.saturating_sub(1);
            answers.settle_all(sent, answer);
        }
    }

    /// The broker has confirmed or refused publications.
    pub(super) fn confirmed(&mut self, tags: Tags, answer: &Answer, answers: &mut Answers) {
        let Self::Confirms {
            waiting,
            returnable,
            ..
        } = self
        else {
            return;
        };
        for (number, sent) in tags.take_from(waiting) {
            if let Some(mark) = sent.mark {
                returnable.remove(&(mark, number));
            }
            answers.settle(sent, answer);
        }
    }

    /// The broker has returned a publication, in these words. Where it answers for it later,
    /// the oldest that fits is meant, and otherwise the last: one before that, of the same
    /// task to the same place, would have come back before.
    pub(super) fn returned(&mut self, mark: u64, words: Box<str>, answers: &mut Answers) {
        let found = match self {
            Self::Nothing { returnable } => {
                let last = returnable.iter().rposition(|(known, _)| *known == mark);
                if let Some((_, hop)) = last.and_then(|last| returnable.remove(last)) {
                    answers.returnable = answers.returnable.saturating_sub(1);
                    answers.tell(Some(hop), Answer::Refused(words));
                }
                return;
            }
            Self::Confirms {
                waiting,
                returnable,
                ..
            } => {
                let oldest = returnable.range((mark, 0)..=(mark, u64::MAX)).next();
                oldest.copied().and_then(|found| {
                    returnable.remove(&found);
                    waiting.get_mut(&found.1)
                })
            }
            Self::Transaction { ended, .. } => {
                let mut sent = ended.iter_mut().flatten().take(RETURNED_FROM_MAX);
                sent.find(|sent| sent.mark == Some(mark) && sent.returned.is_none())
            }
        };
        if let Some(sent) = found {
            sent.returned = Some(words);
        }
    }

    /// The channel was closed in good order: what is not answered by now never will be, and
    /// what was not committed is undone.
    pub(super) fn close(&mut self, answers: &mut Answers) {
        if let Self::Transaction { open, .. } = self {
            answers.settle_all(mem::take(open), &Answer::Discarded);
        }
        self.lose(&Answer::Unanswered, answers);
    }

    /// No answer will come any more: this is what is told of all that wait.
    pub(super) fn lose(&mut self, answer: &Answer, answers: &mut Answers) {
        match self {
            Self::Nothing { returnable } => {
                let count = mem::take(returnable).len();
                answers.returnable = answers.returnable.saturating_sub(count);
            }
            Self::Confirms {
                waiting,
                returnable,
                ..
            } => {
                returnable.clear();
                answers.settle_all(mem::take(waiting).into_values(), answer);
            }
            Self::Transaction {
                open,
                is_touched,
                ended,
            } => {
                *is_touched = false;
                answers.waiting = answers.waiting.saturating_sub(ended.len());
                answers.settle_all(mem::take(ended).into_iter().flatten(), answer);
                answers.settle_all(mem::take(open), answer);
            }
        }
    }
}

/// Among so many publications a returned one is looked for, where they are not confirmed.
const RETURNED_FROM_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    /// The answers, a word each, once `act` has happened to a channel in that manner.
    fn told(mut owed: Owed, act: impl FnOnce(&mut Owed, &mut Answers)) -> Vec<String> {
        let mut answers = Answers::default();
        act(&mut owed, &mut answers);
        let told: Vec<String> = answers
            .take()
            .map(|(hop, answer)| match answer {
                Answer::Refused(words) => format!("{hop} refused: {words}"),
                answer => format!("{hop} {}", answer.word()),
            })
            .collect();
        owed.lose(&Answer::Lost, &mut answers);
        assert_eq!(answers.waiting_count(), 0, "all that waited was counted");
        assert_eq!(
            answers.returnable_count(),
            0,
            "so was all that may come back"
        );
        assert!(owed.is_settled());
        told
    }

    fn confirms() -> Owed {
        let mut owed = Owed::default();
        owed.select_confirms(&mut Answers::default());
        owed
    }

    fn transaction() -> Owed {
        let mut owed = Owed::default();
        owed.select_transactions(&mut Answers::default());
        owed
    }

    fn publish(owed: &mut Owed, answers: &mut Answers, hops: &[Option<u64>]) {
        for hop in hops {
            owed.published(Sent::new(*hop, None), answers);
        }
    }

    const fn tags(tag: u64, multiple: bool) -> Tags {
        Tags { tag, multiple }
    }

    #[test]
    fn without_confirms_nothing_is_owed() {
        let told = told(Owed::default(), |owed, answers| {
            publish(owed, answers, &[Some(0), None]);
            assert!(owed.is_settled());
        });
        assert_eq!(told, ["0 unanswered"]);
    }

    #[test]
    fn what_was_returned_is_refused_without_confirms_too() {
        let told = told(Owed::default(), |owed, answers| {
            for (hop, mark) in [(0, 7), (1, 8), (2, 7)] {
                owed.published(Sent::new(Some(hop), Some(mark)), answers);
            }
            for mark in [7, 9, 7, 7] {
                owed.returned(mark, "312 NO_ROUTE".into(), answers);
            }
        });
        let unanswered = ["0 unanswered", "1 unanswered", "2 unanswered"];
        let refused = ["2 refused: 312 NO_ROUTE", "0 refused: 312 NO_ROUTE"];
        assert_eq!(told, [&unanswered[..], &refused].concat());
    }

    #[test]
    fn no_more_of_those_that_may_be_returned_is_remembered_than_is_looked_through() {
        let told = told(Owed::default(), |owed, answers| {
            for number in 0..=RETURNED_FROM_MAX as u64 {
                owed.published(Sent::new(Some(number), Some(number)), answers);
            }
            answers.take().for_each(drop);
            owed.returned(0, "312 NO_ROUTE".into(), answers);
            owed.returned(1, "312 NO_ROUTE".into(), answers);
        });
        assert_eq!(told, ["1 refused: 312 NO_ROUTE"]);
    }

    #[test]
    fn closing_a_channel_in_good_order_is_no_error() {
        let told_at_close = |owed| {
            told(owed, |owed, answers| {
                publish(owed, answers, &[Some(0)]);
                owed.ended(answers);
                owed.published(Sent::new(Some(1), Some(7)), answers);
                owed.returned(7, "312 NO_ROUTE".into(), answers);
                owed.close(answers);
            })
        };
        let confirming = ["0 unanswered", "1 refused: 312 NO_ROUTE"];
        assert_eq!(told_at_close(confirms()), confirming);
        assert_eq!(
            told_at_close(transaction()),
            ["1 discarded", "0 unanswered"]
        );
    }

    #[test]
    fn confirms_are_counted_from_one_whatever_is_published() {
        let told = told(confirms(), |owed, answers| {
            publish(
                owed,
                answers,
                &[Some(0), None, Some(1), Some(2), Some(3), Some(4)],
            );
            let refused = Answer::Refused("nack".into());
            owed.confirmed(tags(3, false), &Answer::Confirmed, answers);
            owed.confirmed(tags(2, true), &refused, answers);
            owed.confirmed(tags(1, true), &Answer::Confirmed, answers);
            owed.confirmed(tags(5, true), &Answer::Confirmed, answers);
            assert!(!owed.is_settled());
            owed.confirmed(tags(0, true), &Answer::Confirmed, answers);
            owed.confirmed(tags(u64::MAX, true), &Answer::Confirmed, answers);
            assert!(owed.is_settled());
        });
        assert_eq!(
            told,
            [
                "1 confirmed",
                "0 refused: nack",
                "2 confirmed",
                "3 confirmed",
                "4 confirmed"
            ]
        );
    }

    #[test]
    fn what_was_returned_is_refused_by_its_confirm() {
        let told = told(confirms(), |owed, answers| {
            owed.published(Sent::new(Some(0), Some(7)), answers);
            owed.published(Sent::new(Some(1), Some(8)), answers);
            owed.published(Sent::new(Some(2), Some(8)), answers);
            owed.published(Sent::new(Some(3), None), answers);
            owed.returned(8, "312 NO_ROUTE".into(), answers);
            owed.returned(9, "313 NO_CONSUMERS".into(), answers);
            owed.confirmed(tags(4, true), &Answer::Confirmed, answers);
        });
        assert_eq!(
            told,
            [
                "0 confirmed",
                "1 refused: 312 NO_ROUTE",
                "2 confirmed",
                "3 confirmed"
            ]
        );
    }

    #[test]
    fn a_returned_one_is_found_however_many_wait() {
        let told = told(confirms(), |owed, answers| {
            publish(owed, answers, &[None; 5000]);
            owed.published(Sent::new(Some(0), Some(7)), answers);
            owed.published(Sent::new(Some(1), Some(7)), answers);
            owed.confirmed(tags(5001, false), &Answer::Confirmed, answers);
            owed.returned(7, "312 NO_ROUTE".into(), answers);
            owed.returned(7, "313 NO_CONSUMERS".into(), answers);
            let Owed::Confirms { returnable, .. } = &*owed else {
                panic!("confirms are owed");
            };
            assert!(returnable.is_empty(), "nothing is left to look through");
            owed.confirmed(tags(0, true), &Answer::Confirmed, answers);
        });
        assert_eq!(told, ["0 confirmed", "1 refused: 312 NO_ROUTE"]);
    }

    #[test]
    fn a_returned_one_is_looked_for_among_the_oldest_of_a_transaction() {
        for (before, answer) in [
            (RETURNED_FROM_MAX - 1, "0 refused: 312 NO_ROUTE"),
            (RETURNED_FROM_MAX, "0 confirmed"),
        ] {
            let told = told(transaction(), |owed, answers| {
                publish(owed, answers, &vec![None; before]);
                owed.published(Sent::new(Some(0), Some(7)), answers);
                owed.ended(answers);
                owed.returned(7, "312 NO_ROUTE".into(), answers);
                owed.end_answered(&Answer::Confirmed, answers);
            });
            assert_eq!(told, [answer]);
        }
    }

    #[test]
    fn a_transaction_is_answered_as_a_whole() {
        let told = told(transaction(), |owed, answers| {
            assert!(owed.is_settled());
            publish(owed, answers, &[Some(0), Some(1)]);
            owed.ended(answers);
            publish(owed, answers, &[Some(2)]);
            owed.ended(answers);
            owed.published(Sent::new(Some(3), Some(7)), answers);
            owed.ended(answers);
            publish(owed, answers, &[Some(4)]);
            owed.end_answered(&Answer::Confirmed, answers);
            owed.end_answered(&Answer::Discarded, answers);
            owed.returned(7, "312 NO_ROUTE".into(), answers);
            owed.end_answered(&Answer::Confirmed, answers);
            assert!(!owed.is_settled());
        });
        assert_eq!(
            told,
            [
                "0 confirmed",
                "1 confirmed",
                "2 discarded",
                "3 refused: 312 NO_ROUTE"
            ]
        );
    }

    #[test]
    fn acknowledgements_wait_for_their_commit() {
        let mut owed = transaction();
        let mut answers = Answers::default();
        owed.acknowledged();
        assert!(!owed.is_settled());
        owed.ended(&mut answers);
        assert!(!owed.is_settled());
        owed.end_answered(&Answer::Confirmed, &mut answers);
        assert!(owed.is_settled());
    }
}
