//! The driver behind the socket.
