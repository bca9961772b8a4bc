//! Writing messages. Every function appends one whole message to `out` and cannot fail.
//!
//! Text ends at its first zero byte, as the protocol cannot carry one; text that was cut out of a message never has one.

mod backend;
mod frontend;

use backend::value;

pub use backend::*;
pub use frontend::*;

use super::Tag;

/// Appends a message: letter, length, and what `body` writes.
#[inline]
fn message(out: &mut Vec<u8>, tag: Tag, body: impl FnOnce(&mut Vec<u8>)) {
    out.push(tag.0);
    counted(out, body);
}

/// Appends a length field that counts itself, and what `body` writes.
#[inline]
fn counted(out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    body(out);
    let len = length(out.len() - start);
    if let Some(field) = out.get_mut(start..start + 4) {
        field.copy_from_slice(&len);
    }
}

/// A length as the protocol writes it. Our own messages are far below the bound; a value beyond it would be refused by
/// the receiver, not misread.
fn length(len: usize) -> [u8; 4] {
    u32::try_from(len).unwrap_or(u32::MAX).to_be_bytes()
}

/// A count of items as the protocol writes it.
fn count(items: usize) -> [u8; 2] {
    u16::try_from(items).unwrap_or(u16::MAX).to_be_bytes()
}

#[inline]
fn cstr(out: &mut Vec<u8>, text: &[u8]) {
    if text.contains(&0) {
        out.extend(text.iter().take_while(|byte| **byte != 0));
    } else {
        out.extend_from_slice(text);
    }
    out.push(0);
}

#[cfg(test)]
mod tests;
