//! The requests of a producer to Redis.

use super::ID;
use super::body;

/// `command queue envelope`, of about `bytes` in all.
#[must_use]
pub fn publish(bytes: usize) -> Vec<u8> {
    command(&[b"LPUSH", b"celery", &envelope(bytes)])
}

/// A value that is no task message.
#[must_use]
pub fn untouched(bytes: usize) -> Vec<u8> {
    command(&[b"SET", b"value", &vec![b'x'; bytes]])
}

/// What a consumer gets for a BRPOP.
#[must_use]
pub fn delivery(bytes: usize) -> Vec<u8> {
    command(&[b"celery", &envelope(bytes)])
}

#[must_use]
pub fn command(words: &[&[u8]]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        bytes.extend_from_slice(word);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

fn envelope(bytes: usize) -> Vec<u8> {
    let filled = |body: &str| {
        format!(
            "{{\"body\": \"{body}\", \"content-encoding\": \"utf-8\", \
             \"content-type\": \"application/json\", \"headers\": {{\"lang\": \"py\", \
             \"task\": \"tasks.add\", \"id\": \"{ID}\", \"shadow\": null, \"eta\": null, \
             \"expires\": null, \"group\": null, \"group_index\": null, \"retries\": 0, \
             \"timelimit\": [null, null], \"root_id\": \"{ID}\", \"parent_id\": null, \
             \"argsrepr\": \"(1, 1)\", \"kwargsrepr\": \"{{}}\", \
             \"origin\": \"gen672@host1\", \"ignore_result\": false, \
             \"replaced_task_nesting\": 0, \"stamped_headers\": null, \"stamps\": {{}}}}, \
             \"properties\": {{\"correlation_id\": \"{ID}\", \
             \"reply_to\": \"22e7b02d-e1c0-39e3-88a7-0df44e6cac24\", \"delivery_mode\": 2, \
             \"delivery_info\": {{\"exchange\": \"\", \"routing_key\": \"celery\"}}, \
             \"priority\": 0, \"body_encoding\": \"base64\", \
             \"delivery_tag\": \"{ID}\"}}}}"
        )
    };
    // Base64 without arguments that differ: four characters stand for three bytes.
    let room = bytes.saturating_sub(filled("").len());
    let units = (room / 4).max(27);
    let text = body(units * 3);
    filled(&base64(text.as_bytes())).into_bytes()
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for unit in bytes.chunks(3) {
        let [a, b, c] = [0, 1, 2].map(|at| u32::from(unit.get(at).copied().unwrap_or(b' ')));
        let group = a << 16 | b << 8 | c;
        for shift in [18, 12, 6, 0] {
            text.push(char::from(DIGITS[(group >> shift & 63) as usize]));
        }
    }
    text
}
