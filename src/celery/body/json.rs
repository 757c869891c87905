use crate::celery::body::fields::Fields;
use crate::celery::json::Scan;

/// Reads an object; of anything else there is nothing to be told.
pub(super) fn read<'a>(body: &'a [u8], fields: &mut Fields<'a>) -> Option<()> {
    let mut scan = Scan::new(body);
    if !scan.enter_object().ok()? {
        scan.value().ok()?;
        return scan.end().ok();
    }
    while let Some(key) = scan.next_key().ok()? {
        let value = scan.value().ok()?;
        if let Some(name) = key.text() {
            fields.take(&name, value.into());
        }
    }
    scan.end().ok()
}
