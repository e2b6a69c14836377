//! What the kubelet sees of us: a socket in its plugin directory, and who answers there.
//!
//! [`RegistrationSocket::bind`] makes the file, [`serve`] answers on it and tells what the kubelet did
//! ([`KubeletCall`]), [`RegistrationSocket::remove`] takes the file away if it is still ours, by which the kubelet
//! unregisters the driver. [`check`] is the self-check behind `/healthz`.
//!
//! The kubelet sends no valid `:authority`, so a shim rewrites it before HTTP/2 sees it (`authority/`), which takes a
//! decoder of header blocks (`hpack/`).

mod authority;
mod health;
mod hpack;
mod proto;
#[cfg(test)]
mod raw;
mod registration;
mod socket;

pub use health::{HealthError, check};
pub use registration::{KubeletCall, PluginInfo, serve};
pub use socket::{Action, RegistrationSocket, Removal, SocketError, SocketFile};
