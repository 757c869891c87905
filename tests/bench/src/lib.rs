//! What the benchmarks send: task messages as Celery puts them on the wire.

pub mod amqp;
pub mod redis;

/// Bytes to be sent again and again, each time with other task ids in them.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    pub bytes: Vec<u8>,
    /// Where ids stand: per message, all places of its task's.
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
            batch.ids.push(places.collect());
        }
        batch
    }

    /// Gives every task in it an id that none had before.
    pub fn renew(&mut self) {
        for places in &self.ids {
            self.next += 1;
            // As evenly spread as random ones: a sampler goes by these digits.
            let spread = self.next.wrapping_mul(0x9e37_79b9_7f4a_7c15) % (1 << 56);
            let digits = format!("{spread:014x}");
            for place in places {
                for (digits, at) in [(&digits[..2], 21), (&digits[2..], 24)] {
                    let to = &mut self.bytes[place + at..][..digits.len()];
                    to.copy_from_slice(digits.as_bytes());
                }
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
