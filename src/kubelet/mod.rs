//! What the kubelet sees of us: a socket in its plugin directory, and who answers there.
//!
//! [`RegistrationSocket`] owns the file, [`serve`] answers on it and tells what the kubelet did ([`KubeletCall`]), [`check`] is
//! the self-check behind `/healthz`. The kubelet sends no valid `:authority`, so a shim rewrites it before HTTP/2 sees it
//! (`authority/`), which takes a decoder of header blocks (`hpack/`).
//!
//! ```no_run
//! # async fn registrar(term: impl Future<Output = ()>) -> Result<(), volwright::kubelet::SocketError> {
//! use volwright::kubelet::{PluginInfo, RegistrationSocket, serve};
//!
//! let plugin = PluginInfo { name: "csi.example".into(), endpoint: "/var/lib/kubelet/plugins/csi.example/csi.sock".into() };
//! let socket = RegistrationSocket::bind("/registration".as_ref(), &plugin.name).await?;
//! serve(&socket, plugin, |call| tracing::info!("{call:?}"), term).await;
//! socket.remove().await?;
//! # Ok(()) }
//! ```

mod authority;
mod health;
mod hpack;
mod proto;
mod registration;
mod socket;

pub use health::{HealthError, check};
pub use registration::{KubeletCall, PluginInfo, serve};
pub use socket::{Action, RegistrationSocket, Removal, SocketError, SocketFile};
