//! The header that a load balancer puts before a connection to say whose it is: PROXY protocol, versions 1 and 2
//! (haproxy's `proxy-protocol.txt`). In: its bytes. Out: the client's address.

use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::net::SocketAddr;

/// Bytes that both versions have at least, and that tell which it is.
pub const BEGINNING: usize = 12;

/// Longest header of version 1, line end included.
pub const LINE_MAX: usize = 107;

/// Longest rest of a header of version 2 that is taken: addresses and a few extensions.
pub const REST_MAX: usize = 2048;

/// What version 2 begins with: bytes that no other protocol begins with.
const SIGNATURE: [u8; BEGINNING] = *b"\r\n\r\n\0\r\nQUIT\n";

/// What is wrong with a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed PROXY header: {what}")]
pub struct ProxyHeaderError {
    /// Which part.
    pub what: &'static str,
}

fn wrong<T>(what: &'static str) -> Result<T, ProxyHeaderError> {
    Err(ProxyHeaderError { what })
}

/// Which version begins so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// A line of text up to `\r\n`.
    One,
    /// Four more bytes, then as many as they say.
    Two,
}

/// Tells the version.
pub fn version(beginning: &[u8; BEGINNING]) -> Result<Version, ProxyHeaderError> {
    if *beginning == SIGNATURE {
        Ok(Version::Two)
    } else if beginning.starts_with(b"PROXY ") {
        Ok(Version::One)
    } else {
        wrong("there is none")
    }
}

/// Reads a whole line of version 1. `None`: the balancer does not say.
pub fn line(line: &[u8]) -> Result<Option<SocketAddr>, ProxyHeaderError> {
    let text = std::str::from_utf8(line).ok().and_then(|text| text.strip_suffix("\r\n"));
    let Some(text) = text else { return wrong("the line's end") };
    let mut words = text.split(' ');
    let (_, family) = (words.next(), words.next());
    let family = match family {
        Some("UNKNOWN") => return Ok(None),
        Some(family @ ("TCP4" | "TCP6")) => family,
        _ => return wrong("the family"),
    };
    let (Some(source), Some(_destination), Some(port), Some(_), None) =
        (words.next(), words.next(), words.next(), words.next(), words.next())
    else {
        return wrong("the number of its words");
    };
    let address = match family {
        "TCP4" => source.parse::<Ipv4Addr>().ok().map(IpAddr::from),
        _ => source.parse::<Ipv6Addr>().ok().map(IpAddr::from),
    };
    let plain = port.bytes().all(|byte| byte.is_ascii_digit());
    match (address, port.parse()) {
        (Some(address), Ok(port)) if plain => Ok(Some(SocketAddr::new(address, port))),
        _ => wrong("the source address"),
    }
}

/// What the four bytes behind the signature of version 2 say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    family: u8,
    /// The balancer's own connection, a health check: there is no client behind it.
    local: bool,
    /// Bytes that follow.
    pub rest: usize,
}

/// Reads the four bytes behind the signature of version 2.
pub fn frame([version, family, high, low]: [u8; 4]) -> Result<Frame, ProxyHeaderError> {
    let local = match version {
        0x20 => true,
        0x21 => false,
        _ => return wrong("the version or the command"),
    };
    let rest = usize::from(u16::from_be_bytes([high, low]));
    if rest > REST_MAX {
        return wrong("its length");
    }
    Ok(Frame { family, local, rest })
}

/// Reads the rest. `None`: the balancer does not say, or speaks for itself.
pub fn address(frame: Frame, rest: &[u8]) -> Result<Option<SocketAddr>, ProxyHeaderError> {
    if frame.local {
        return Ok(None);
    }
    match frame.family {
        0x11 => match rest.first_chunk::<12>() {
            Some([a, b, c, d, _, _, _, _, high, low, _, _]) => {
                let address = Ipv4Addr::new(*a, *b, *c, *d);
                Ok(Some(SocketAddr::new(address.into(), u16::from_be_bytes([*high, *low]))))
            }
            None => wrong("too short for its addresses"),
        },
        0x21 => match (rest.first_chunk::<16>(), rest.get(32..34)) {
            (Some(address), Some(&[high, low])) => {
                let address = Ipv6Addr::from(*address);
                Ok(Some(SocketAddr::new(address.into(), u16::from_be_bytes([high, low]))))
            }
            _ => wrong("too short for its addresses"),
        },
        // Not said, or over a Unix socket.
        0x00 | 0x31 => Ok(None),
        _ => wrong("the family"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn version_1_says_it_in_words() {
        let of = |text: &str| line(text.as_bytes());
        let four = "PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\n";
        assert_eq!(version(four.as_bytes().first_chunk().unwrap()), Ok(Version::One));
        assert_eq!(of(four), Ok(Some("192.0.2.1:56324".parse().unwrap())));
        let six = "PROXY TCP6 2001:db8::1 2001:db8::2 1 2\r\n";
        assert_eq!(of(six), Ok(Some("[2001:db8::1]:1".parse().unwrap())));
        assert_eq!(of("PROXY UNKNOWN whatever follows\r\n"), Ok(None));
        for bad in [
            "PROXY TCP4 192.0.2.1 192.0.2.2 56324 443",
            "PROXY TCP4 2001:db8::1 192.0.2.2 1 2\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 70000 443\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 +1 443\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 1 2 3\r\n",
            "PROXY UDP4 192.0.2.1 192.0.2.2 1 2\r\n",
        ] {
            assert!(of(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn version_2_says_it_in_bytes() {
        assert_eq!(version(&SIGNATURE), Ok(Version::Two));
        assert!(version(b"GET / HTTP/1").is_err());
        let four = frame([0x21, 0x11, 0, 12]).unwrap();
        let rest = [10, 0, 0, 1, 10, 0, 0, 2, 0x12, 0x34, 0, 80];
        assert_eq!(address(four, &rest), Ok(Some("10.0.0.1:4660".parse().unwrap())));
        assert!(address(four, &rest[..11]).is_err());
        let six = frame([0x21, 0x21, 0, 36]).unwrap();
        let mut rest = [0; 36];
        (rest[15], rest[33]) = (1, 7);
        assert_eq!(address(six, &rest), Ok(Some("[::1]:7".parse().unwrap())));
        assert_eq!(address(frame([0x20, 0x11, 0, 12]).unwrap(), &[]), Ok(None), "a health check");
        for bad in [[0x11, 0x11, 0, 12], [0x22, 0x11, 0, 12], [0x21, 0x11, 0xff, 0xff]] {
            assert!(frame(bad).is_err(), "{bad:?}");
        }
        assert!(address(frame([0x21, 0x99, 0, 0]).unwrap(), &[]).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_give_an_answer(bytes: Vec<u8>, head: [u8; 4], beginning: [u8; BEGINNING]) {
            prop_assert!(version(&beginning).is_ok() || !beginning.starts_with(b"PROXY "));
            prop_assert!(line(&bytes).is_err() || bytes.ends_with(b"\r\n"));
            if let Ok(frame) = frame(head) {
                prop_assert!(frame.rest <= REST_MAX);
                prop_assert!(frame.local || address(frame, &[]).is_ok_and(|found| found.is_none()) || address(frame, &[]).is_err());
            }
        }
    }
}
