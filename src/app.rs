//! Composition root: settings in, running tasks out. The only module that knows every room.
