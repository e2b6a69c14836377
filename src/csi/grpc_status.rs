//! Pure. The status that ends a call, read and taken out of headers and trailers before tonic sees it.
//!
//! tonic panics at details that are no base64, and makes `Unknown` of any code whose message is no UTF-8 or that is no
//! number: a provisioner would take that for "no volume was made".

use http::HeaderMap;
use percent_encoding::percent_decode;

use super::rpc_error::Code;

/// What the driver sent as the end of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum GrpcStatus {
    /// A code with its message.
    Sent(Code, String),
    /// It is not clear which code. What it looks like.
    Malformed(String),
}

/// Reads the status in headers or trailers, if there is one, and takes away what tonic must not read.
pub(super) fn take(headers: &mut HeaderMap) -> Option<GrpcStatus> {
    headers.remove("grpc-status-details-bin");
    let message = headers.remove("grpc-message");
    let mut values = headers.get_all("grpc-status").iter();
    let value = values.next()?;
    if let Some(other) = values.find(|other| *other != value) {
        return Some(GrpcStatus::Malformed(format!(
            "grpc-status {value:?} and {other:?}"
        )));
    }
    Some(match parse(value.as_bytes()) {
        Some(code) => {
            let message = message.as_ref().map_or(&b""[..], |message| message.as_bytes());
            GrpcStatus::Sent(code, percent_decode(message).decode_utf8_lossy().into_owned())
        }
        None => GrpcStatus::Malformed(format!("grpc-status {value:?}")),
    })
}

/// A number that has no name in gRPC is `Unknown`, as gRPC wants it.
fn parse(value: &[u8]) -> Option<Code> {
    if !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number: u32 = str::from_utf8(value).ok()?.parse().ok()?;
    let named = usize::try_from(number)
        .ok()
        .and_then(|number| Code::ALL.get(number));
    Some(named.copied().unwrap_or(Code::Unknown))
}

impl GrpcStatus {
    /// What holds when `later` follows, as trailers follow headers.
    pub(super) fn followed_by(self, later: Self) -> Self {
        match (self, later) {
            (Self::Sent(first, _), Self::Sent(second, _)) if first != second => {
                Self::Malformed(format!("the code {first} and then {second}"))
            }
            (Self::Sent(..), later @ Self::Malformed(_)) => later,
            (first, _) => first,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_grpc_number_has_the_name_that_go_prints() {
        const NAMES: [&str; 17] = [
            "OK",
            "Canceled",
            "Unknown",
            "InvalidArgument",
            "DeadlineExceeded",
            "NotFound",
            "AlreadyExists",
            "PermissionDenied",
            "ResourceExhausted",
            "FailedPrecondition",
            "Aborted",
            "OutOfRange",
            "Unimplemented",
            "Internal",
            "Unavailable",
            "DataLoss",
            "Unauthenticated",
        ];
        let name = |number: &str| parse(number.as_bytes()).map(|code| code.to_string());
        for (number, expected) in (0..).zip(NAMES) {
            let number: u32 = number;
            assert_eq!(name(&number.to_string()).as_deref(), Some(expected), "{number}");
        }
        for number in ["17", "255", "4294967295"] {
            assert_eq!(name(number).as_deref(), Some("Unknown"), "{number}");
        }
        for odd in ["", "-1", "+1", " 1", "1.0", "x", "4294967296"] {
            assert_eq!(name(odd), None, "{odd:?}");
        }
    }
}
