//! How the core's words look in the file: times as milliseconds, closed sets as their texts, faults as JSON.
//!
//! The forms are our own, so that the core's types can change without changing files that exist.

use std::time::{Duration, SystemTime};

use ostler_core::status::{DeathReason, Exit, Fault, FaultClass, ServerState};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// A time as milliseconds since 1970; before that, negative.
pub(crate) fn to_millis(time: SystemTime) -> i64 {
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_millis()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_millis()).map_or(i64::MIN, |millis| -millis),
    }
}

/// The time of that many milliseconds since 1970; 1970 if this host cannot say it.
pub(crate) fn to_time(millis: i64) -> SystemTime {
    let distance = Duration::from_millis(millis.unsigned_abs());
    let time = if millis < 0 {
        SystemTime::UNIX_EPOCH.checked_sub(distance)
    } else {
        SystemTime::UNIX_EPOCH.checked_add(distance)
    };
    time.unwrap_or(SystemTime::UNIX_EPOCH)
}

/// The state of that text, if there is one.
pub(crate) fn to_state(text: &str) -> Option<ServerState> {
    ServerState::ALL.iter().copied().find(|state| state.as_str() == text)
}

/// The list as one JSON array, each element byte for byte.
pub(crate) fn listing(tools: &[Box<RawValue>]) -> String {
    let size: usize = tools.iter().map(|tool| tool.get().len() + 1).sum();
    let mut text = String::with_capacity(size + 2);
    text.push('[');
    for (index, tool) in tools.iter().enumerate() {
        if index > 0 {
            text.push(',');
        }
        text.push_str(tool.get());
    }
    text.push(']');
    text
}

/// The elements of such an array.
pub(crate) fn to_tools(listing: &str) -> Result<Vec<Box<RawValue>>, serde_json::Error> {
    serde_json::from_str(listing)
}

/// A fault as it is stored.
#[derive(Serialize, Deserialize)]
struct StoredFault {
    reason: String,
    class: String,
    message: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    exit: Option<StoredExit>,
    #[serde(default)]
    stderr_tail: String,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum StoredExit {
    Code(i32),
    Signal(i32),
}

/// A fault as JSON.
pub(crate) fn fault(fault: &Fault) -> String {
    let stored = StoredFault {
        reason: fault.reason.as_str().to_owned(),
        class: fault.class.as_str().to_owned(),
        message: fault.message.clone(),
        hint: fault.hint.clone(),
        exit: fault.exit.map(|exit| match exit {
            Exit::Code(code) => StoredExit::Code(code),
            Exit::Signal(signal) => StoredExit::Signal(signal),
        }),
        stderr_tail: fault.stderr_tail.clone(),
    };
    serde_json::to_string(&stored).expect("texts and numbers are always JSON")
}

/// The fault of that JSON. `None`: it is not one, or it has a class that we do not know.
pub(crate) fn to_fault(json: &str) -> Option<Fault> {
    let stored: StoredFault = serde_json::from_str(json).ok()?;
    let class = FaultClass::ALL.iter().copied().find(|class| class.as_str() == stored.class)?;
    let reason = DeathReason::ALL.iter().copied().find(|reason| reason.as_str() == stored.reason)?;
    let mut fault = Fault::new(class, stored.message);
    fault.reason = reason;
    fault.hint = stored.hint;
    fault.exit = stored.exit.map(|exit| match exit {
        StoredExit::Code(code) => Exit::Code(code),
        StoredExit::Signal(signal) => Exit::Signal(signal),
    });
    fault.stderr_tail = stored.stderr_tail;
    Some(fault)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_comes_back_to_the_millisecond_also_from_before_1970() {
        let check = |millis: i64| assert_eq!(to_millis(to_time(millis)), millis, "{millis}");
        check(0);
        check(1);
        check(-1);
        check(1_795_000_000_123);
        check(-86_400_000);
        assert_eq!(to_time(1_500), SystemTime::UNIX_EPOCH + Duration::from_millis(1_500));
        assert_eq!(to_millis(SystemTime::UNIX_EPOCH + Duration::from_micros(1_999)), 1);
    }

    #[test]
    fn a_time_out_of_reach_does_no_harm() {
        for millis in [i64::MAX, i64::MIN] {
            let _ = to_time(millis);
        }
        if let Some(far) = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(i64::MAX as u64)) {
            assert_eq!(to_millis(far), i64::MAX);
        }
    }

    #[test]
    fn every_word_of_every_set_comes_back() {
        for &state in ServerState::ALL {
            assert_eq!(to_state(state.as_str()), Some(state));
        }
        assert_eq!(to_state("asleep"), None);
        for &class in FaultClass::ALL {
            for &reason in DeathReason::ALL {
                let before = Fault { reason, ..Fault::new(class, "it fell") };
                assert_eq!(to_fault(&fault(&before)), Some(before));
            }
        }
    }

    #[test]
    fn a_fault_comes_back_whole() {
        let check = |exit: Option<Exit>| {
            let before = Fault {
                reason: DeathReason::Signal,
                class: FaultClass::CrashRunning,
                message: "it \"fell\"\n\u{1f40e}".to_owned(),
                hint: Some("lift it".to_owned()),
                exit,
                stderr_tail: "line\nline".to_owned(),
            };
            assert_eq!(to_fault(&fault(&before)), Some(before));
        };
        check(None);
        check(Some(Exit::Code(-1)));
        check(Some(Exit::Signal(9)));
    }

    #[test]
    fn a_fault_that_cannot_be_read_is_none() {
        let check = |json: &str, is_one: bool| assert_eq!(to_fault(json).is_some(), is_one, "{json}");
        check(r#"{"reason":"exit","class":"hang","message":"m"}"#, true);
        check(r#"{"reason":"exit","class":"hang","message":"m","later":1}"#, true);
        check(r#"{"reason":"exit","class":"bored","message":"m"}"#, false);
        check(r#"{"reason":"exit"}"#, false);
        check("", false);
    }

    #[test]
    fn tools_come_back_byte_for_byte() {
        let texts = [
            r#"{ "name":"a",  "n":1.00e2, "n":2 , "deep":[[[{}]]] }"#,
            "{\n\t\"name\" : \"\\u00e9 \u{e9} \\/\"\r\n}",
            "123456789012345678901234567890",
            "null",
        ];
        let raw = |text: &&str| RawValue::from_string((*text).to_owned()).expect("it is JSON");
        let tools: Vec<_> = texts.iter().map(raw).collect();
        for count in 0..=tools.len() {
            let back = to_tools(&listing(&tools[..count])).expect("it is a list");
            assert_eq!(back.iter().map(|tool| tool.get()).collect::<Vec<_>>(), texts[..count]);
        }
        assert!(to_tools("[1,").is_err());
    }
}
