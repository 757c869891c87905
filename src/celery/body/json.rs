use crate::celery::body::fields::Fields;
use crate::celery::json::Scan;

/// Reads an object.
pub(super) fn read<'a>(body: &'a [u8], fields: &mut Fields<'a>) -> Option<()> {
    let mut scan = Scan::new(body);
    if !scan.enter_object().ok()? {
        return None;
    }
    while let Some(key) = scan.next_key().ok()? {
        let value = scan.value().ok()?;
        if let Some(name) = key.text() {
            fields.take(&name, value.into());
        }
    }
    scan.end().ok()
}
