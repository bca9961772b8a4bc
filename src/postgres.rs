//! (room postgres)
