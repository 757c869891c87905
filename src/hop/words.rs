//! How what was seen is told in JSON: by the words of metrics and spans.

use serde::Serialize;
use serde::Serializer;

use crate::celery::TaskState;
use crate::hop::Answer;
use crate::hop::Evidence;
use crate::hop::Origin;
use crate::hop::Quality;
use crate::hop::Settlement;
use crate::hop::Verdict;

macro_rules! serialize_as_word {
    ($($name:ty),+) => {
        $(impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.word())
            }
        })+
    };
}

serialize_as_word!(
    Answer, Evidence, Origin, Quality, Settlement, TaskState, Verdict
);
