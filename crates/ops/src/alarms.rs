//! This module remembers since when each alarm goes on, whoever raises it.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use chartmesh_record::{Alarm, Timestamp};

/// Since when the alarms of the last look have gone on, by code and text.
#[derive(Debug, Default)]
pub(crate) struct Alarms(Mutex<BTreeMap<(&'static str, String), Timestamp>>);

impl Alarms {
    /// Those that there are now, each with the earliest instant that it was ever said to go on since;
    /// one that was away in between begins anew.
    pub(crate) fn look(&self, mut alarms: Vec<Alarm>) -> Vec<Alarm> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for alarm in &mut alarms {
            if let Some(&since) = known.get(&(alarm.code, alarm.text.clone())) {
                alarm.since = alarm.since.min(since);
            }
        }
        let entry = |alarm: &Alarm| ((alarm.code, alarm.text.clone()), alarm.since);
        *known = alarms.iter().map(entry).collect();
        alarms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alarm(text: &str, since: i64) -> Alarm {
        Alarm { code: "clock", text: text.to_owned(), since: Timestamp(since) }
    }

    #[test]
    fn an_alarm_goes_on_since_it_was_first_seen_until_it_is_over() {
        let alarms = Alarms::default();

        let first = alarms.look(vec![alarm("a", 10)]);
        let on = alarms.look(vec![alarm("a", 20), alarm("b", 20)]);
        let over = alarms.look(vec![]);
        let again = alarms.look(vec![alarm("a", 30)]);

        assert_eq!(first, [alarm("a", 10)]);
        assert_eq!(on, [alarm("a", 10), alarm("b", 20)]);
        assert_eq!(over, []);
        assert_eq!(again, [alarm("a", 30)]);
    }
}
