//! What answers mean: whose fault, and what to change.

use std::error::Error;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};

use crate::store::trial::words;

pub(super) const NO_BUCKET: &str = "the bucket does not exist: make it, or change `bucket`";

pub(super) const ASKED: &str = "the server does not do what the configuration asks of it";

/// What a failure is to the callers in this module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Worth trying again.
    Unavailable,
    /// Somebody has to change something.
    Refused,
    /// No such object.
    Missing,
    /// Something is there, and nothing was to be.
    Exists,
    /// Somebody else wrote at the same time: try again.
    Contended,
    /// The bytes are not what their checksum says.
    Corrupt,
    /// The upload in parts is gone: it was completed or aborted.
    NoUpload,
}

/// A failure, with what to change where that is known (else empty).
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) kind: Kind,
    pub(super) advice: &'static str,
    pub(super) source: Box<dyn Error + Send + Sync>,
}

impl Failed {
    pub(super) fn new(kind: Kind, advice: &'static str, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { kind, advice, source: source.into() }
    }
}

/// Reads an error of the SDK. Its text is kept, its type is not.
pub(super) fn failed<E>(error: SdkError<E>) -> Failed
where
    E: ProvideErrorMetadata + Error + Send + Sync + 'static,
{
    let status = error.raw_response().map(|r| r.status().as_u16());
    if let SdkError::ServiceError(service) = &error {
        let (code, message) = (service.err().code().unwrap_or(""), service.err().message().unwrap_or(""));
        let (kind, advice) = meaning(code, status.unwrap_or(0));
        return Failed::new(kind, advice, format!("{code} {message} (HTTP {})", status.unwrap_or(0)).trim_start().to_owned());
    }
    let (kind, advice) = if let Some(credentials) = credentials(&error) {
        match credentials {
            CredentialsError::ProviderTimedOut(_) | CredentialsError::ProviderError(_) => {
                (Kind::Unavailable, "credentials cannot be fetched")
            }
            _ => (Kind::Refused, "there are no usable credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile, or a role"),
        }
    } else {
        match &error {
            SdkError::ConstructionFailure(_) => (Kind::Refused, "the request cannot be made: see `endpoint`, `region` and `bucket`"),
            SdkError::DispatchFailure(failure) if failure.is_user() => (Kind::Refused, "the request cannot be sent: see `endpoint`"),
            SdkError::TimeoutError(_) => (Kind::Unavailable, "no answer in time"),
            SdkError::DispatchFailure(_) => (Kind::Unavailable, "no connection"),
            // An answer that is no S3: a proxy's page, or a connection cut within the answer.
            _ => (Kind::Unavailable, "the answer cannot be read"),
        }
    };
    Failed::new(kind, advice, words(&error))
}

fn credentials<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a CredentialsError> {
    let mut link = Some(error);
    while let Some(e) = link {
        if let Some(found) = e.downcast_ref() {
            return Some(found);
        }
        link = e.source();
    }
    None
}

/// Codes of the API reference, « Error responses », and those that other servers are known to use.
fn meaning(code: &str, status: u16) -> (Kind, &'static str) {
    match (code, status) {
        ("NoSuchBucket", _) => (Kind::Refused, NO_BUCKET),
        ("NoSuchUpload", _) => (Kind::NoUpload, ""),
        ("NoSuchKey" | "NotFound", _) => (Kind::Missing, ""),
        ("PreconditionFailed", _) | (_, 412) => (Kind::Exists, ""),
        ("ConditionalRequestConflict" | "OperationAborted", _) | ("", 409) => (Kind::Contended, ""),
        ("BadDigest" | "InvalidDigest" | "XAmzContentChecksumMismatch" | "XAmzContentSHA256Mismatch", _) => (Kind::Corrupt, ""),
        ("RequestTimeTooSkewed", _) => (Kind::Refused, "the clock of this machine is wrong: set it"),
        ("InvalidAccessKeyId" | "SignatureDoesNotMatch" | "InvalidToken", _) => (Kind::Refused, "the credentials are wrong"),
        // Temporary ones are renewed by whoever gives them.
        ("ExpiredToken", _) => (Kind::Unavailable, "the credentials have expired"),
        ("PermanentRedirect" | "AuthorizationHeaderMalformed" | "IllegalLocationConstraintException", _) | (_, 301 | 307) => {
            (Kind::Refused, "the bucket is in another region: set `region`, or `endpoint`")
        }
        ("AccessDenied" | "Forbidden" | "AllAccessDisabled", _) | (_, 401 | 403) => (
            Kind::Refused,
            "not permitted: grant s3:GetObject, s3:PutObject, s3:ListBucket (and s3:DeleteObject, s3:PutObjectRetention where used)",
        ),
        ("SlowDown" | "RequestTimeout" | "Throttling" | "ThrottlingException" | "RequestLimitExceeded" | "TooManyRequests", _)
        | (_, 429) => (Kind::Unavailable, "it is overloaded"),
        ("XMinioStorageFull" | "InsufficientStorage" | "QuotaExceeded", _) | (_, 507) => (Kind::Unavailable, "no space left in the store"),
        ("InvalidRequest" | "ObjectLockConfigurationNotFoundError", _) => (Kind::Refused, ASKED),
        (_, 501) => (Kind::Refused, "the server does not know this request"),
        (_, 500..) => (Kind::Unavailable, ""),
        (_, 404) => (Kind::Missing, ""),
        _ => (Kind::Refused, ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_by_itself_is_told_from_what_somebody_must_change() {
        for (code, status, kind) in [
            ("SlowDown", 503, Kind::Unavailable),
            ("InternalError", 500, Kind::Unavailable),
            ("RequestTimeout", 400, Kind::Unavailable),
            ("", 502, Kind::Unavailable),
            ("NotImplemented", 501, Kind::Refused),
            ("AccessDenied", 403, Kind::Refused),
            ("SignatureDoesNotMatch", 403, Kind::Refused),
            ("NoSuchBucket", 404, Kind::Refused),
            ("NoSuchKey", 404, Kind::Missing),
            ("", 404, Kind::Missing),
            ("PreconditionFailed", 412, Kind::Exists),
            ("ConditionalRequestConflict", 409, Kind::Contended),
            ("BucketAlreadyExists", 409, Kind::Refused),
            ("BadDigest", 400, Kind::Corrupt),
            ("InvalidArgument", 400, Kind::Refused),
        ] {
            assert_eq!(meaning(code, status).0, kind, "{code} {status}");
        }
    }
}
