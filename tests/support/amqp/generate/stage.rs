//! A client, a broker, and what either has to keep to.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::VecDeque;
use std::mem;

use fastrand::Rng;

use tracehop::hop::Answer;
use tracehop::hop::Settlement;
use tracehop::hop::Verdict;
use tracehop::protocol::Side;

use super::message::FRAME_BYTES_MIN;
use super::message::Message;
use super::message::Saying;
use super::message::Task;
use super::message::message;
use super::methods;
use crate::laws::Exchange;
use crate::laws::Expected;
use crate::laws::ExpectedPublication;
use crate::laws::HOLD_BYTES_MAX;
use crate::laws::Turn;
use crate::wire::BODY;
use crate::wire::Frame;
use crate::wire::HEADER;
use crate::wire::PROTOCOL_HEADER;
use crate::wire::short_string;

pub(super) struct Stage {
    random: Rng,
    frame_bytes_max: usize,
    channels: BTreeMap<u16, Channel>,
    turns: Vec<Turn>,
    expected: Vec<Expected>,
    marks: [BTreeSet<usize>; 2],
    said: [usize; 2],
    number: usize,
}

#[derive(Default)]
struct Channel {
    manner: Manner,
    /// What `basic.get` has asked for and the broker has not answered.
    gets: VecDeque<Source>,
    /// The consumers that the broker has not answered, with their tags.
    asked: VecDeque<(String, Source)>,
    consumers: BTreeMap<String, Source>,
    /// The delivery tag before.
    last_delivery: u64,
    /// The deliveries to be seen that nobody has settled: their places among the expected.
    unsettled: BTreeMap<u64, usize>,
    /// The broker has closed it, and the client has not heard of that.
    closed: Option<&'static str>,
}

/// How a channel comes to its end.
#[derive(Clone, Copy)]
enum Ending {
    /// The client closes it.
    Closed,
    /// The broker closes it, in these words.
    Refused(&'static str),
    /// The connection ends without a word.
    Broken,
}

/// Where messages are taken from, and how.
#[derive(Clone, Copy)]
struct Source {
    /// Empty where it is not named.
    queue: &'static str,
    no_ack: bool,
}

enum Manner {
    Plain {
        /// What may be returned.
        sent: Vec<Sent>,
    },
    Confirming {
        last: u64,
        waiting: BTreeMap<u64, Sent>,
    },
    Transactional {
        open: Vec<Sent>,
        is_touched: bool,
        ended: VecDeque<(bool, Vec<Sent>)>,
    },
}

impl Default for Manner {
    fn default() -> Self {
        Self::Plain { sent: Vec::new() }
    }
}

/// A publication that has been sent whole.
#[derive(Clone)]
struct Sent {
    /// What is to be seen of it: its place among the expected.
    expected: Option<usize>,
    /// What is needed to return it, where that may be.
    returnable: Option<(Vec<u8>, Frame, Vec<u8>)>,
    returned: bool,
}

/// A publication on its way.
struct Publication {
    message: Message,
    destination: String,
    is_to_events: bool,
    /// Exchange and routing key, where it is mandatory.
    route: Option<Vec<u8>>,
}

impl Stage {
    pub(super) fn open(seed: u32) -> Self {
        let mut random = Rng::with_seed(u64::from(seed));
        let frame_max: u32 = *random.choice([4096, 131_072, 0]).as_ref().expect("some");
        let mut stage = Self {
            frame_bytes_max: match frame_max {
                4096 => FRAME_BYTES_MIN,
                _ => 131_072,
            },
            random,
            channels: BTreeMap::new(),
            turns: Vec::new(),
            expected: Vec::new(),
            marks: [BTreeSet::new(), BTreeSet::new()],
            said: [0, 0],
            number: 0,
        };
        let tuning = |frame_max: u32| {
            let limits = [&[0x07, 0xff][..], &frame_max.to_be_bytes(), &[0, 60]];
            limits.concat()
        };
        let proposed = if frame_max == 0 { 0 } else { 131_072 };
        let connection = |id, arguments| Frame::method(0, 10, id, arguments);
        stage.say(Side::Client, PROTOCOL_HEADER);
        stage.frame(Side::Broker, &connection(10, vec![0, 9, 0, 0, 0, 0]));
        stage.frame(Side::Client, &connection(11, vec![0; 4]));
        if stage.random.bool() {
            stage.frame(Side::Broker, &connection(20, vec![0; 4]));
            stage.frame(Side::Client, &connection(21, vec![0; 4]));
        }
        stage.frame(Side::Broker, &connection(30, tuning(proposed)));
        stage.frame(Side::Client, &connection(31, tuning(frame_max)));
        stage.frame(Side::Client, &connection(40, b"\x01/\x00\x00".to_vec()));
        stage.frame(Side::Broker, &connection(41, vec![0]));
        stage.mark();
        stage
    }

    pub(super) fn step(&mut self, seed: u32) {
        self.random = Rng::with_seed(u64::from(seed));
        let number = self.random.u16(1..5);
        if !self.channels.contains_key(&number) {
            self.open_channel(number);
        }
        match self.random.u8(..20) {
            0..6 => self.publish(number),
            6..8 => self.answer(number),
            8 => {
                let channel = self.random.u16(..2) * number;
                let frame = methods::of_client(&mut self.random, channel);
                self.frame(Side::Client, &frame);
            }
            9 => {
                let channel = self.random.u16(..2) * number;
                let frame = methods::of_broker(&mut self.random, channel);
                self.frame(Side::Broker, &frame);
            }
            10 | 15 => self.deliver(number),
            11 => self.get(number),
            12 => self.consume(number),
            13 => self.end_transaction(number),
            14 => self.close_channel(number),
            16..18 => self.settle(number),
            18 => self.cancel(number),
            _ => {
                let side = [Side::Client, Side::Broker][self.random.usize(..2)];
                self.frame(side, &Frame::heartbeat());
            }
        }
        self.mark();
    }

    pub(super) fn close(mut self) -> Exchange {
        let close = |code: u16, words: &str| {
            let reason = [&code.to_be_bytes()[..], &short_string(words.as_bytes())];
            Frame::method(0, 10, 50, [&reason.concat()[..], &[0; 4]].concat())
        };
        let close_ok = Frame::method(0, 10, 51, vec![]);
        let channels = mem::take(&mut self.channels);
        let is_settled = channels.values().all(Channel::is_settled);
        let (ending, is_closed) = match self.random.u8(..3) {
            0 => {
                self.frame(Side::Client, &close(200, "bye"));
                self.frame(Side::Broker, &close_ok);
                (Ending::Closed, true)
            }
            1 => {
                self.frame(Side::Broker, &close(320, "CONNECTION_FORCED - shutdown"));
                self.frame(Side::Client, &close_ok);
                let words = "320 CONNECTION_FORCED - shutdown";
                (Ending::Refused(words), true)
            }
            _ => (Ending::Broken, false),
        };
        for channel in channels.into_values() {
            self.end(channel, ending);
        }
        self.mark();
        let [client_marks, broker_marks] = self.marks;
        Exchange {
            turns: self.turns,
            expected: self.expected,
            client_marks,
            broker_marks,
            unsettled: !is_closed && !is_settled,
        }
    }

    fn open_channel(&mut self, number: u16) {
        let open = |id| Frame::method(number, 20, id, vec![0; if id == 10 { 1 } else { 4 }]);
        self.frame(Side::Client, &open(10));
        self.frame(Side::Broker, &open(11));
        let manner = match self.random.u8(..6) {
            0..2 => Manner::default(),
            2..5 => {
                let nowait = self.random.u8(..2);
                self.frame(Side::Client, &Frame::method(number, 85, 10, vec![nowait]));
                Manner::Confirming {
                    last: 0,
                    waiting: BTreeMap::new(),
                }
            }
            _ => {
                self.frame(Side::Client, &Frame::method(number, 90, 10, vec![]));
                self.frame(Side::Broker, &Frame::method(number, 90, 11, vec![]));
                Manner::Transactional {
                    open: Vec::new(),
                    is_touched: false,
                    ended: VecDeque::new(),
                }
            }
        };
        self.channel(number).manner = manner;
    }

    /// Publishes on this channel, and now and then on others at the same time.
    fn publish(&mut self, number: u16) {
        let mut parts: Vec<(VecDeque<Frame>, Option<Publication>)> = Vec::new();
        let others: Vec<u16> = self.channels.keys().copied().collect();
        for other in others {
            if other == number || self.random.u8(..4) == 0 {
                let (frames, publication) = self.publication(other);
                parts.push((frames, Some(publication)));
            }
        }
        if self.random.u8(..3) == 0 {
            parts.push((VecDeque::from([Frame::heartbeat()]), None));
        }
        // In the order in which they leave, each with its publication's place in `parts`.
        let mut frames: Vec<(Frame, usize)> = Vec::new();
        let mut left: Vec<usize> = (0..parts.len()).collect();
        while let Some(index) = self.random.choice(left.clone()) {
            let burst = self.random.usize(1..4);
            for _ in 0..burst {
                match parts[index].0.pop_front() {
                    Some(frame) => frames.push((frame, index)),
                    None => left.retain(|it| *it != index),
                }
            }
        }
        for (place, (frame, index)) in frames.iter().enumerate() {
            self.frame(Side::Client, frame);
            let Some(publication) = &parts[*index].1 else {
                continue;
            };
            if frame.kind == HEADER {
                let own = frames[place..].iter().enumerate();
                let mut own = own.filter(|(_, (_, it))| it == index).map(|(at, _)| at);
                let last = own.next_back().expect("at least this");
                let span = &frames[place..=place + last];
                let is_whole = span.iter().all(|(_, it)| it == index);
                let span: usize = span.iter().map(|(frame, _)| frame.bytes().len()).sum();
                let span = is_whole.then_some(span);
                let fits = self.frame_bytes_max > FRAME_BYTES_MIN;
                let things = publication.expected(frame.bytes().len(), span, fits);
                self.expected.extend(things);
            }
            if frames[place + 1..].iter().all(|(_, it)| it != index) {
                self.sent(frame.channel, publication, &frames, *index);
            }
        }
    }

    fn publication(&mut self, channel: u16) -> (VecDeque<Frame>, Publication) {
        self.number += 1;
        let message = message(&mut self.random, self.number);
        let (exchange, routing_key) = *self.random.choice(ROUTES.as_slice()).expect("some");
        let destination = match (exchange, routing_key) {
            ("", "") => "amq.default".to_owned(),
            ("", name) | (name, "") => name.to_owned(),
            _ => format!("{exchange}:{routing_key}"),
        };
        let route = [exchange, routing_key].map(|name| short_string(name.as_bytes()));
        let is_mandatory = self.random.u8(..3) == 0;
        let arguments = [&[0, 0], &*route.concat(), &[u8::from(is_mandatory)]].concat();
        let mut frames = VecDeque::from([Frame::method(channel, 60, 40, arguments)]);
        let mut header = message.header.frame(channel);
        if self.random.u8(..10) == 0 {
            // Weight means nothing.
            header.payload[3] = 1;
        }
        frames.push_back(header);
        let mut rest = message.body.as_slice();
        while !rest.is_empty() {
            let most = rest.len().min(self.frame_bytes_max - 8);
            let size = match self.random.u8(..3) {
                0 => self.random.usize(..=most),
                _ => most,
            };
            let (part, after) = rest.split_at(size);
            frames.push_back(Frame::body(channel, part));
            rest = after;
        }
        let publication = Publication {
            message,
            destination,
            is_to_events: exchange == EVENTS,
            route: is_mandatory.then(|| route.concat()),
        };
        (frames, publication)
    }

    /// The last frame of a publication has left.
    fn sent(
        &mut self,
        number: u16,
        publication: &Publication,
        frames: &[(Frame, usize)],
        index: usize,
    ) {
        self.expected.extend(publication.told());
        let id = publication.message.task.as_ref().map(|task| &task.id);
        let expected = self
            .expected
            .iter()
            .rposition(|thing| matches!(thing, Expected::Published(seen) if Some(&seen.id) == id));
        let header = frames
            .iter()
            .find(|(frame, it)| *it == index && frame.kind == HEADER)
            .map(|(frame, _)| frame.clone());
        // What the proxy could not read it cannot tell apart either.
        let returnable = publication
            .route
            .clone()
            .zip(header)
            .filter(|_| expected.is_some())
            .map(|(route, header)| (route, header, publication.message.body.clone()));
        let sent = Sent {
            expected,
            returnable,
            returned: false,
        };
        let channel = self.channel(number);
        if let Some(words) = channel.closed {
            return self.tell(&sent, &Answer::Refused(words.into()));
        }
        match &mut channel.manner {
            Manner::Plain { sent: before } => {
                before.extend(sent.returnable.is_some().then(|| sent.clone()));
                self.tell(&sent, &Answer::Unanswered);
            }
            Manner::Confirming { last, waiting } => {
                *last += 1;
                waiting.insert(*last, sent);
            }
            Manner::Transactional {
                open, is_touched, ..
            } => {
                *is_touched = true;
                open.push(sent);
            }
        }
    }

    /// The broker confirms, refuses or returns something.
    fn answer(&mut self, number: u16) {
        let mut random = self.random.clone();
        let waiting = match &mut self.channel(number).manner {
            Manner::Plain { sent } => {
                let Some(mut sent) = sent.pop() else { return };
                let Some((route, header, body)) = sent.returnable.take() else {
                    return;
                };
                self.hand_back(number, route, &header, &body);
                return self.tell(&sent, &Answer::Refused("312 NO_ROUTE".into()));
            }
            Manner::Confirming { waiting, .. } => waiting,
            Manner::Transactional { .. } => return,
        };
        let Some(tag) = random.choice(waiting.keys().copied().collect::<Vec<_>>()) else {
            return;
        };
        let mut returned = None;
        if let Some(sent) = waiting.get_mut(&tag)
            && !sent.returned
            && let Some((route, header, body)) = &sent.returnable
        {
            sent.returned = true;
            returned = Some((route.clone(), header.clone(), body.clone()));
        }
        let multiple = random.bool();
        let answered: Vec<Sent> = match multiple {
            true => {
                let later = waiting.split_off(&(tag + 1));
                mem::replace(waiting, later).into_values().collect()
            }
            false => waiting.remove(&tag).into_iter().collect(),
        };
        let tag = if multiple && waiting.is_empty() && random.bool() {
            0
        } else {
            tag
        };
        if let Some((route, header, body)) = returned {
            self.hand_back(number, route, &header, &body);
        }
        let is_refused = random.u8(..4) == 0;
        let id = if is_refused { 120 } else { 80 };
        let arguments = [&tag.to_be_bytes()[..], &[u8::from(multiple)]].concat();
        self.frame(Side::Broker, &Frame::method(number, 60, id, arguments));
        for sent in answered {
            let answer = match is_refused {
                true => Answer::Refused("nack".into()),
                false => Answer::Confirmed,
            };
            self.tell(&sent, &answer);
        }
    }

    /// The broker returns a message.
    fn hand_back(&mut self, number: u16, route: Vec<u8>, header: &Frame, body: &[u8]) {
        let reason = [&312_u16.to_be_bytes()[..], &short_string(b"NO_ROUTE")].concat();
        let arguments = [reason, route].concat();
        self.frame(Side::Broker, &Frame::method(number, 60, 50, arguments));
        self.content(number, header, body);
    }

    fn end_transaction(&mut self, number: u16) {
        let is_commit = self.random.bool();
        let is_answered = self.random.bool();
        let Manner::Transactional {
            open,
            is_touched,
            ended,
        } = &mut self.channel(number).manner
        else {
            return;
        };
        *is_touched = false;
        ended.push_back((is_commit, mem::take(open)));
        let answered = if is_answered {
            mem::take(ended)
        } else {
            VecDeque::new()
        };
        let id = if is_commit { 20 } else { 30 };
        self.frame(Side::Client, &Frame::method(number, 90, id, vec![]));
        for (is_commit, sent) in answered {
            let (id, answer) = match is_commit {
                true => (21, Answer::Confirmed),
                false => (31, Answer::Discarded),
            };
            self.frame(Side::Broker, &Frame::method(number, 90, id, vec![]));
            for sent in sent {
                self.tell(&sent, &answer);
            }
        }
    }

    /// The broker sends something to one of the consumers, or to one that it alone knows.
    fn deliver(&mut self, number: u16) {
        let mut random = self.random.fork();
        let is_known = random.u8(..8) > 0;
        let consumers = &self.channel(number).consumers;
        let consumer = random.choice(consumers).filter(|_| is_known);
        let (tag, source) = match consumer {
            Some((tag, source)) => (tag.clone(), *source),
            None => ("unknown".to_owned(), Source::UNKNOWN),
        };
        self.deliver_to(number, &tag, source);
    }

    fn deliver_to(&mut self, number: u16, tag: &str, source: Source) {
        let handover = self.handover(number, source);
        let arguments = [short_string(tag.as_bytes()), handover.arguments()].concat();
        self.frame(Side::Broker, &Frame::method(number, 60, 60, arguments));
        self.hand_over(number, &handover);
    }

    fn get(&mut self, number: u16) {
        if self.channel(number).gets.len() < GETS_MAX {
            let source = Source::any(&mut self.random);
            let queue = short_string(source.queue.as_bytes());
            let get = [&[0, 0][..], &queue, &[u8::from(source.no_ack)]].concat();
            self.frame(Side::Client, &Frame::method(number, 60, 70, get));
            self.channel(number).gets.push_back(source);
        }
        let answer = self.random.u8(..3);
        if answer == 0 {
            return;
        }
        let channel = self.channel(number);
        let source = channel.gets.pop_front().expect("one is not answered");
        if answer == 1 {
            return self.frame(Side::Broker, &Frame::method(number, 60, 72, vec![0]));
        }
        let handover = self.handover(number, source);
        let arguments = [handover.arguments(), vec![0; 4]].concat();
        self.frame(Side::Broker, &Frame::method(number, 60, 71, arguments));
        self.hand_over(number, &handover);
    }

    fn handover(&mut self, number: u16, source: Source) -> Handover {
        let redelivered = self.random.bool();
        let channel = self.channel(number);
        channel.last_delivery += 1;
        Handover {
            tag: channel.last_delivery,
            redelivered,
            source,
        }
    }

    /// The content of a delivery, which is to be settled if it is to be seen.
    fn hand_over(&mut self, number: u16, handover: &Handover) {
        self.number += 1;
        let message = message(&mut self.random, self.number);
        let header = message.header.frame(number);
        let span = self.content(number, &header, &message.body);
        let task = match message.seen(header.bytes().len(), span) {
            Ok(Some(task)) => task,
            Ok(None) => return,
            Err(LeftAlone) => return self.expected.push(Expected::LeftAlone),
        };
        self.expected.push(Expected::Delivered {
            id: task.id.clone(),
            destination: match handover.source.queue {
                "" => ROUTING_KEY.to_owned(),
                queue => queue.to_owned(),
            },
            redelivered: handover.redelivered,
            settlement: None,
        });
        if !handover.source.no_ack {
            let place = self.expected.len() - 1;
            let unsettled = &mut self.channel(number).unsettled;
            unsettled.insert(handover.tag, place);
        }
    }

    /// The client settles what it was sent, or what nobody has sent.
    fn settle(&mut self, number: u16) {
        let mut random = self.random.fork();
        let channel = self.channel(number);
        let tag = random.u64(0..=channel.last_delivery + 1);
        let id = [80, 80, 90, 120, 120, 100, 110][random.usize(..7)];
        let bits = random.u8(..4);
        let (requeue, multiple) = match id {
            80 => (false, bits & 1 != 0),
            90 => (bits & 1 != 0, false),
            120 => (bits & 2 != 0, bits & 1 != 0),
            _ => (true, true),
        };
        let settlement = match (id, requeue) {
            (80, _) => Settlement::Acknowledged,
            (_, true) => Settlement::Requeued,
            (_, false) => Settlement::Rejected,
        };
        let is_recovery = matches!(id, 100 | 110);
        if let Manner::Transactional { is_touched, .. } = &mut channel.manner
            && !is_recovery
        {
            *is_touched = true;
        }
        let is_meant = |it: u64| match (is_recovery, multiple) {
            // Without the bit nothing is put back.
            (true, _) => bits & 1 != 0,
            (false, true) => tag == 0 || it <= tag,
            (false, false) => it == tag,
        };
        let (settled, left) = mem::take(&mut channel.unsettled)
            .into_iter()
            .partition(|(it, _)| is_meant(*it));
        channel.unsettled = left;
        let arguments = match is_recovery {
            true => vec![bits],
            false => [&tag.to_be_bytes()[..], &[bits]].concat(),
        };
        self.frame(Side::Client, &Frame::method(number, 60, id, arguments));
        self.settled(&settled, settlement);
    }

    fn settled(&mut self, deliveries: &BTreeMap<u64, usize>, settled: Settlement) {
        for place in deliveries.values() {
            if let Expected::Delivered { settlement, .. } = &mut self.expected[*place] {
                *settlement = Some(settled);
            }
        }
    }

    fn consume(&mut self, number: u16) {
        self.number += 1;
        let tag = format!("tag-{}", self.number);
        let source = Source::any(&mut self.random);
        let nowait = self.random.bool();
        let bits = self.random.u8(..16) & !10 | u8::from(source.no_ack) << 1;
        let arguments = [
            &[0, 0][..],
            &short_string(source.queue.as_bytes()),
            &short_string(tag.as_bytes()),
            &[bits | u8::from(nowait) << 3, 0, 0, 0, 0],
        ];
        let arguments = arguments.concat();
        self.frame(Side::Client, &Frame::method(number, 60, 20, arguments));
        let channel = self.channel(number);
        if nowait {
            channel.consumers.insert(tag, source);
            return;
        }
        channel.asked.push_back((tag, source));
        while self.random.bool()
            && let Some((tag, source)) = self.channel(number).asked.pop_front()
        {
            let answer = Frame::method(number, 60, 21, short_string(tag.as_bytes()));
            self.frame(Side::Broker, &answer);
            self.channel(number).consumers.insert(tag, source);
        }
    }

    /// A consumer is to end: because the broker says so, or because the client does, who may
    /// be sent something until that is heard.
    fn cancel(&mut self, number: u16) {
        let Some((tag, source)) = self.channel(number).consumers.pop_first() else {
            return;
        };
        let name = short_string(tag.as_bytes());
        let cancel = |nowait| Frame::method(number, 60, 30, [&name[..], &[nowait]].concat());
        match self.random.u8(..4) {
            0 => self.frame(Side::Broker, &cancel(1)),
            1 => self.frame(Side::Client, &cancel(1)),
            _ => {
                self.frame(Side::Client, &cancel(0));
                if self.random.bool() {
                    self.deliver_to(number, &tag, source);
                }
                let cancelled = Frame::method(number, 60, 31, name);
                self.frame(Side::Broker, &cancelled);
            }
        }
    }

    fn close_channel(&mut self, number: u16) {
        let close_ok = Frame::method(number, 20, 41, vec![]);
        let close = |code: u16, words: &str| {
            let reason = [&code.to_be_bytes()[..], &short_string(words.as_bytes())];
            Frame::method(number, 20, 40, [&reason.concat()[..], &[0; 4]].concat())
        };
        if self.random.bool() {
            self.frame(Side::Client, &close(200, "bye"));
            self.frame(Side::Broker, &close_ok);
            let channel = self.channels.remove(&number).unwrap_or_default();
            return self.end(channel, Ending::Closed);
        }
        self.frame(Side::Broker, &close(404, "NOT_FOUND - no queue"));
        let words = "404 NOT_FOUND - no queue";
        let channel = self.channels.remove(&number).unwrap_or_default();
        self.end(channel, Ending::Refused(words));
        self.channel(number).closed = Some(words);
        if self.random.bool() {
            self.publish(number);
        }
        self.frame(Side::Client, &close_ok);
        self.channels.remove(&number);
    }

    /// A channel is no more: what became of all that waits there.
    fn end(&mut self, channel: Channel, ending: Ending) {
        self.settled(
            &channel.unsettled,
            match ending {
                Ending::Broken => Settlement::Abandoned,
                Ending::Closed | Ending::Refused(_) => Settlement::Returned,
            },
        );
        let (waiting, uncommitted): (Vec<Sent>, Vec<Sent>) = match channel.manner {
            Manner::Plain { .. } => Default::default(),
            Manner::Confirming { waiting, .. } => (waiting.into_values().collect(), vec![]),
            Manner::Transactional { open, ended, .. } => {
                let ended = ended.into_iter().flat_map(|(_, sent)| sent);
                (ended.collect(), open)
            }
        };
        let (answer, undone) = match ending {
            Ending::Closed => (Answer::Unanswered, Answer::Discarded),
            Ending::Refused(words) => {
                let refused = Answer::Refused(words.into());
                (refused.clone(), refused)
            }
            Ending::Broken => (Answer::Lost, Answer::Lost),
        };
        for (sent, answer) in [(waiting, answer), (uncommitted, undone)] {
            for sent in sent {
                self.tell(&sent, &answer);
            }
        }
    }

    fn tell(&mut self, sent: &Sent, answer: &Answer) {
        let Some(Expected::Published(seen)) =
            sent.expected.and_then(|place| self.expected.get_mut(place))
        else {
            return;
        };
        seen.answer = match answer {
            Answer::Confirmed | Answer::Unanswered if sent.returned => {
                Answer::Refused("312 NO_ROUTE".into())
            }
            answer => answer.clone(),
        };
    }

    /// How long it is, from the content header to the end of the body, if nothing else is on
    /// that way.
    fn content(&mut self, number: u16, header: &Frame, body: &[u8]) -> Option<usize> {
        self.frame(Side::Broker, header);
        let mut span = Some(header.bytes().len());
        for part in body.chunks(self.frame_bytes_max - 8) {
            if self.random.u8(..4) == 0 {
                self.frame(Side::Broker, &Frame::heartbeat());
                span = None;
            }
            let part = Frame::body(number, part);
            self.frame(Side::Broker, &part);
            span = span.map(|span| span + part.bytes().len());
        }
        span
    }

    fn channel(&mut self, number: u16) -> &mut Channel {
        self.channels.entry(number).or_default()
    }

    fn frame(&mut self, side: Side, frame: &Frame) {
        let bytes = frame.bytes();
        assert!(
            bytes.len() <= self.frame_bytes_max,
            "it fits: {}",
            frame.kind == BODY
        );
        self.say(side, &bytes);
    }

    fn say(&mut self, side: Side, bytes: &[u8]) {
        self.said[usize::from(side == Side::Broker)] += bytes.len();
        match self.turns.last_mut() {
            Some(Turn(speaker, said)) if *speaker == side && self.random.u8(..4) > 0 => {
                said.extend_from_slice(bytes);
            }
            _ => self.turns.push(Turn(side, bytes.to_vec())),
        }
    }

    /// Nothing is half said.
    fn mark(&mut self) {
        for (marks, said) in self.marks.iter_mut().zip(self.said) {
            marks.insert(said);
        }
    }
}

impl Channel {
    fn is_settled(&self) -> bool {
        let owes_nothing = match &self.manner {
            Manner::Plain { .. } => true,
            Manner::Confirming { waiting, .. } => waiting.is_empty(),
            Manner::Transactional {
                is_touched, ended, ..
            } => !is_touched && ended.is_empty(),
        };
        owes_nothing && self.gets.is_empty() && self.asked.is_empty()
    }
}

impl Source {
    /// That of a consumer which was never asked for.
    const UNKNOWN: Self = Self {
        queue: "",
        no_ack: false,
    };

    fn any(random: &mut Rng) -> Self {
        Self {
            queue: ["queue", "other", ""][random.usize(..3)],
            no_ack: random.u8(..3) == 0,
        }
    }
}

/// What is said of a message that the broker hands over.
struct Handover {
    tag: u64,
    redelivered: bool,
    source: Source,
}

impl Handover {
    fn arguments(&self) -> Vec<u8> {
        [
            &self.tag.to_be_bytes()[..],
            &[u8::from(self.redelivered)],
            &short_string(b"e"),
            &short_string(ROUTING_KEY.as_bytes()),
        ]
        .concat()
    }
}

/// The message passes unread, which is told.
struct LeftAlone;

impl Message {
    /// The task that is to be seen, when the frame of the content header and the way to the
    /// end of the body are so long, if nothing else is on that.
    fn seen(&self, header: usize, span: Option<usize>) -> Result<Option<&Task>, LeftAlone> {
        let is_too_long = header > HOLD_BYTES_MAX;
        let is_body_out_of_reach = span.is_none_or(|span| span > HOLD_BYTES_MAX);
        if is_too_long || self.is_unreadable || self.needs_body && is_body_out_of_reach {
            return Err(LeftAlone);
        }
        Ok(self.task.as_ref())
    }
}

impl Publication {
    /// What it tells of runs, when all of it has left.
    fn told(&self) -> Vec<Expected> {
        let message = &self.message;
        let states = match &message.saying {
            Saying::Result(state) => vec![*state],
            // Of events all has to be held to be read.
            Saying::Events(states) if self.is_to_events && message.body.len() <= HOLD_BYTES_MAX => {
                states.clone()
            }
            Saying::Events(_) | Saying::Nothing => Vec::new(),
        };
        states.into_iter().map(Expected::Told).collect()
    }

    /// What is to be seen of it, when its header's frame and the way to the end of its body
    /// are so long, if nothing else is on that; `fits` says whether more than the smallest
    /// frame does.
    fn expected(&self, header: usize, span: Option<usize>, fits: bool) -> Vec<Expected> {
        let task = match self.message.seen(header, span) {
            Ok(Some(task)) => task,
            Ok(None) => return vec![],
            Err(LeftAlone) => return vec![Expected::LeftAlone],
        };
        let is_stampable = fits || !self.message.is_brimful;
        let published = Expected::Published(ExpectedPublication {
            id: task.id.clone(),
            task: task.name.clone(),
            retries: task.retries,
            destination: self.destination.clone(),
            verdict: match is_stampable {
                true => task.verdict,
                false => Verdict::Missing,
            },
            trace_id: task.trace_id,
            parent: task.parent,
            answer: Answer::Lost,
        });
        match is_stampable {
            true => vec![published],
            false => vec![Expected::LeftAlone, published],
        }
    }
}

/// What each delivery is routed by.
const ROUTING_KEY: &str = "k";
/// Of more wishes on one channel it is not known what they asked for.
const GETS_MAX: usize = 8;
/// Exchanges and routing keys that are published to.
const ROUTES: [(&str, &str); 5] = [
    ("", "celery"),
    ("topic", "a.b"),
    ("fanout", ""),
    ("", ""),
    (EVENTS, "task.multi"),
];
/// Where workers publish events.
const EVENTS: &str = "celeryev";
