//! How ids and moments are told in JSON: as the text that they are shown by.

use serde::Serialize;
use serde::Serializer;

use crate::trace::SpanId;
use crate::trace::Timestamp;
use crate::trace::TraceId;
use crate::trace::w3c::Invalid;

macro_rules! serialize_as_text {
    ($($name:ty),+) => {
        $(impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        })+
    };
}

serialize_as_text!(Timestamp, TraceId, SpanId, Invalid);
