//! The data path's I/O: listener, TLS, server connections and their sign-in, pools, the driver that feeds the session
//! machine and carries out its actions.

pub mod settings;

pub use settings::Settings;
