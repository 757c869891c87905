//! Task bodies.

use crate::celery::Task;

pub fn read_protocol1(
    _body: &[u8],
    _content_type: &str,
    _content_encoding: &str,
    _compression: Option<&str>,
    _limit: usize,
) -> Option<Task<'static>> {
    None
}
