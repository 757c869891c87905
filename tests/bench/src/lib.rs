//! What the benchmarks send: task messages as Celery puts them on the wire.

pub mod amqp;
pub mod redis;

/// Bytes to be sent again and again, each time with other task ids in them.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    pub bytes: Vec<u8>,
    /// Where the part of an id stands that tells tasks apart: per message, all its places.
    ids: Vec<Vec<usize>>,
    /// The number of the next task.
    next: u64,
}

impl Batch {
    /// `count` copies of `message`, with ids of their own that begin with `series`.
    #[must_use]
    pub fn new(message: &[u8], count: usize, series: u32) -> Self {
        let mut batch = Self::default();
        let places: Vec<usize> = places(message, ID).collect();
        for number in 0..count {
            let start = number * message.len();
            batch.bytes.extend_from_slice(message);
            let places = places.iter().map(|place| start + place);
            for place in places.clone() {
                let series = format!("{series:08x}");
                batch.bytes[place..place + 8].copy_from_slice(series.as_bytes());
            }
            batch
                .ids
                .push(places.map(|place| place + ID.len() - COUNTED).collect());
        }
        batch
    }

    /// Gives every task in it an id that none had before.
    pub fn renew(&mut self) {
        for places in &self.ids {
            self.next += 1;
            let mut digits = [0; COUNTED];
            let mut rest = self.next;
            for digit in digits.iter_mut().rev() {
                *digit = b"0123456789abcdef"[(rest & 15) as usize];
                rest >>= 4;
            }
            for place in places {
                self.bytes[*place..place + COUNTED].copy_from_slice(&digits);
            }
        }
    }
}

/// A body with arguments of about that length, as Celery's protocol 2 has it.
fn body(bytes: usize) -> String {
    let rest = r#", {}, {"callbacks": null, "errbacks": null, "chain": null, "chord": null}]"#;
    let filler = bytes.saturating_sub(rest.len() + 5);
    format!("[[\"{}\"]{rest}", "x".repeat(filler))
}

fn places<'a>(text: &'a [u8], wanted: &'a str) -> impl Iterator<Item = usize> + 'a {
    let windows = text.windows(wanted.len()).enumerate();
    windows.filter_map(|(place, window)| (window == wanted.as_bytes()).then_some(place))
}

/// Stands for the task's id.
const ID: &str = "e4afcaa0-e9c7-450c-8b66-2ca99b408787";
/// Its last digits, which count.
const COUNTED: usize = 12;
