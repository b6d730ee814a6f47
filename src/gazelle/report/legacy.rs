//! The text endpoints of old servers: one word for a status, one line for a date.

use crate::model::gazelle::TestResult;

/// What `GetValidationStatus` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// A result. `ABORTED` is UNDEFINED: the gateway maps it the other way round.
    Done(TestResult),
    /// Not performed yet.
    Pending,
    /// The server answers, and knows nothing: it says nothing.
    Nothing,
}

/// Reads it; `None` for anything else (a web page, an error).
pub fn status(body: &str) -> Option<Status> {
    let word = body.trim().trim_matches('"');
    if word.is_empty() {
        return Some(Status::Nothing);
    }
    match word.to_ascii_uppercase().replace([' ', '-'], "_").as_str() {
        "PASSED" => Some(Status::Done(TestResult::Passed)),
        "FAILED" => Some(Status::Done(TestResult::Failed)),
        "ABORTED" | "UNDEFINED" => Some(Status::Done(TestResult::Undefined)),
        "NOT_PERFORMED" | "VALIDATION_NOT_PERFORMED" | "PENDING" | "IN_PROGRESS" => Some(Status::Pending),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_old_servers_are_read() {
        assert_eq!(status("PASSED\n"), Some(Status::Done(TestResult::Passed)));
        assert_eq!(status("failed"), Some(Status::Done(TestResult::Failed)));
        assert_eq!(status("ABORTED"), Some(Status::Done(TestResult::Undefined)));
        assert_eq!(status("not performed"), Some(Status::Pending));
        assert_eq!(status("NOT_PERFORMED"), Some(Status::Pending));
        assert_eq!(status(""), Some(Status::Nothing));
        assert_eq!(status("<html>PASSED</html>"), None);
        assert_eq!(status("PASSED and more"), None);
    }
}
