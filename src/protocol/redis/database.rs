use crate::hop::BrokerPart;

/// Which database the connection works in. That is what Redis has agreed to, whether alone or
/// as it executed a transaction.
#[derive(Debug)]
pub(super) struct Database {
    /// As far as replies have come; `None` where that cannot be told.
    number: Option<u64>,
    /// Commands that may change it, of which the outcome is not known.
    open: usize,
    /// Those of them that wait for EXEC: their places in the transaction, and what they ask for.
    queued: Vec<(u64, Option<u64>)>,
}

impl Default for Database {
    fn default() -> Self {
        Self {
            number: Some(0),
            open: 0,
            queued: Vec::new(),
        }
    }
}

impl Database {
    /// That of the reply which is being read.
    pub(super) fn of_reply(&self) -> BrokerPart<'static> {
        self.number
            .map_or(BrokerPart::Unknown, BrokerPart::Database)
    }

    /// That of the request which is being read.
    pub(super) fn of_request(&self) -> BrokerPart<'static> {
        match self.open {
            0 => self.of_reply(),
            _ => BrokerPart::Unknown,
        }
    }

    /// SELECT or RESET was sent, and will be answered.
    pub(super) const fn requested(&mut self) {
        self.open += 1;
    }

    /// It was answered; `None`: with a refusal.
    pub(super) fn answered(&mut self, accepted: Option<Option<u64>>) {
        self.open = self.open.saturating_sub(1);
        if let Some(number) = accepted {
            self.number = number;
        }
    }

    /// It waits for EXEC in that place.
    pub(super) fn queue(&mut self, place: u64, number: Option<u64>) {
        self.queued.push((place, number));
    }

    /// EXEC has accepted the command in that place.
    pub(super) fn executed(&mut self, place: u64) {
        if let Some((_, number)) = self.queued.iter().find(|(other, _)| *other == place) {
            self.number = *number;
        }
    }

    /// It may have accepted any of them.
    pub(super) fn executed_unheard(&mut self) {
        if !self.queued.is_empty() {
            self.number = None;
        }
    }

    /// The transaction is over, executed or not.
    pub(super) fn end_transaction(&mut self) {
        self.open = self.open.saturating_sub(self.queued.len());
        self.queued = Vec::new();
    }

    /// The memory that it takes.
    pub(super) fn kept_bytes(&self) -> usize {
        self.queued.capacity() * size_of::<(u64, Option<u64>)>()
    }

    /// It may have been changed unheard.
    pub(super) const fn lose(&mut self) {
        self.number = None;
    }
}
