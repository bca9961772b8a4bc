//! The data path's I/O: listener, TLS, server connections and their sign-in, pools, the driver that feeds the session
//! machine and carries out its actions.

pub mod auth;
pub mod frames;

pub mod login;
pub mod server;
pub mod settings;
pub mod stream;
pub mod tls;

pub use settings::Settings;
pub use stream::Stream;
