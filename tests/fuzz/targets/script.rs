//! A fuzzer's input as a conversation.

use tracehop::protocol::Side;

use crate::laws::Turn;

/// The client begins; after `0xff` the other side speaks. Twice, it is a byte like any other.
pub(crate) fn turns(input: &[u8]) -> Vec<Turn> {
    let mut turns = vec![Turn(Side::Client, Vec::new())];
    let mut bytes = input.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        let Some(Turn(side, said)) = turns.last_mut() else {
            break;
        };
        if byte == 0xff && bytes.next_if_eq(&0xff).is_none() {
            let other = match side {
                Side::Client => Side::Broker,
                Side::Broker => Side::Client,
            };
            turns.push(Turn(other, Vec::new()));
        } else {
            said.push(byte);
        }
    }
    turns
}
