//! The bearer token in a file that is renewed while we run, as the kubelet does it.
//!
//! kube reads such files too, but it does not trim them, and a token with a line break is no header.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use http::{HeaderValue, Request, header};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::cluster::client::AccessError;

/// A token is read again when it is this old, as in client-go.
const PERIOD: Duration = Duration::from_secs(50);

/// The token of one client.
pub(super) struct TokenFile {
    path: PathBuf,
    /// The header as last read, and when.
    cached: Mutex<(Instant, HeaderValue)>,
}

impl TokenFile {
    pub(super) fn open(path: PathBuf) -> Result<Self, AccessError> {
        let value = header_value(&path).map_err(AccessError::Credentials)?;
        Ok(Self {
            path,
            cached: Mutex::new((Instant::now(), value)),
        })
    }

    /// Adds the header Authorization. While the file cannot be read, the token that was read last is used.
    pub(super) fn authorize<B>(&self, mut request: Request<B>) -> Request<B> {
        let mut cached = self.cached.lock();
        if cached.0.elapsed() >= PERIOD {
            cached.0 = Instant::now();
            match header_value(&self.path) {
                Ok(value) => cached.1 = value,
                Err(error) => tracing::warn!("{error}: the token that was read before is used"),
            }
        }
        request
            .headers_mut()
            .insert(header::AUTHORIZATION, cached.1.clone());
        request
    }
}

/// The token without the white space around it.
pub(super) fn read(path: &Path) -> Result<String, String> {
    let text =
        std::fs::read_to_string(path).map_err(|error| format!("token file {}: {error}", path.display()))?;
    match text.trim() {
        "" => Err(format!("token file {} is empty", path.display())),
        token => Ok(token.to_owned()),
    }
}

fn header_value(path: &Path) -> Result<HeaderValue, String> {
    let mut value = HeaderValue::try_from(format!("Bearer {}", read(path)?))
        .map_err(|_| format!("token file {} holds no token", path.display()))?;
    value.set_sensitive(true);
    Ok(value)
}
