//! The data path's I/O: listener, TLS, server connections and their sign-in, pools, the driver that feeds the session
//! machine and carries out its actions.

mod accept;
mod acquire;
mod affinity;
mod answer;
pub mod auth;
mod barrier;
mod beside;
pub mod cancel;
pub mod catalog;
mod client;
mod command;
pub mod console;
pub mod counts;
pub mod driver;
mod entrance;
mod facts;
mod flow;
pub mod frames;
mod fresh;
pub mod gate;
pub mod guesses;
pub mod handle;
mod hang_ups;
pub mod hba;
mod line;
pub mod links;
mod listen;
pub mod listener;
pub mod login;
mod pace;
pub mod pool;
pub mod query;
pub mod quota;
mod replay;
pub mod report;
mod resolve;
pub mod server;
pub mod settings;
pub mod stream;
mod timing;
pub mod tls;
mod tunnel;
pub mod worker;

pub use settings::Settings;
pub use stream::Stream;
