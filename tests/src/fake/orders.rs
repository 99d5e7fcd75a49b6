//! Orders to a running fake server: one datagram each, mischief at once, whatever its arguments say.

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::Arc;
use std::thread;

use serde_json::json;

use super::mischief;
use super::wire::Output;

/// What a running fake server can be told to do. The text form is what travels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// Read on, and never say anything again.
    Hang,
    /// Write so many lines that are not JSON.
    Garbage(usize),
    /// Write one line of so many bytes.
    Oversize(usize),
    /// Exit with this code.
    Exit(u8),
    /// Start an orphaned daemon that notes its pid in the file, and exit with code 0.
    Daemonise(PathBuf),
    /// Close standard output and live on.
    CloseStdout,
    /// Send so many notifications.
    Flood(usize),
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hang => f.write_str("hang"),
            Self::Garbage(lines) => write!(f, "garbage {lines}"),
            Self::Oversize(bytes) => write!(f, "oversize {bytes}"),
            Self::Exit(code) => write!(f, "exit {code}"),
            Self::Daemonise(file) => write!(f, "daemonise {}", file.display()),
            Self::CloseStdout => f.write_str("close-stdout"),
            Self::Flood(count) => write!(f, "flood {count}"),
        }
    }
}

impl Order {
    /// Reads the text form. `None`: it is no order.
    fn read(text: &str) -> Option<Self> {
        let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
        Some(match word {
            "hang" => Self::Hang,
            "garbage" => Self::Garbage(rest.parse().ok()?),
            "oversize" => Self::Oversize(rest.parse().ok()?),
            "exit" => Self::Exit(rest.parse().ok()?),
            "daemonise" => Self::Daemonise(rest.into()),
            "close-stdout" => Self::CloseStdout,
            "flood" => Self::Flood(rest.parse().ok()?),
            _ => return None,
        })
    }

    /// Gives the order to the fake server that listens at `socket`. Errors: nobody does.
    pub fn give(&self, socket: &Path) -> io::Result<()> {
        UnixDatagram::unbound()?.send_to(self.to_string().as_bytes(), socket).map(drop)
    }

    fn obey(&self, output: &Output) {
        match self {
            Self::Hang => output.hush(),
            Self::Garbage(lines) => (0..*lines).for_each(|line| output.line(format!("}}garbage {line}{{").as_bytes())),
            Self::Oversize(bytes) => output.line(&vec![b'x'; *bytes]),
            Self::Exit(code) => process::exit(i32::from(*code)),
            Self::Daemonise(file) => {
                let outcome = file.to_str().map(mischief::daemonise);
                process::exit(i32::from(!matches!(outcome, Some(Ok(())))));
            }
            Self::CloseStdout => mischief::close_stdout(),
            Self::Flood(count) => (0..*count).for_each(|number| {
                let params = json!({"level": "info", "data": format!("line {number} of a flood")});
                output.send(&json!({"jsonrpc": "2.0", "method": "notifications/message", "params": params}));
            }),
        }
    }
}

/// Takes orders at `socket` from now on, in the place of whoever did before.
pub(super) fn listen(socket: &str, output: Arc<Output>) -> io::Result<()> {
    match fs::remove_file(socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let socket = UnixDatagram::bind(socket)?;
    thread::spawn(move || {
        let mut text = [0; 4096];
        while let Ok(length) = socket.recv(&mut text) {
            if let Some(order) = std::str::from_utf8(&text[..length]).ok().and_then(Order::read) {
                order.obey(&output);
            }
        }
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_order_arrives_as_it_was_given() {
        for order in [
            Order::Hang,
            Order::Garbage(3),
            Order::Oversize(1 << 20),
            Order::Exit(7),
            Order::Daemonise("a folder/pids".into()),
            Order::CloseStdout,
            Order::Flood(100),
        ] {
            assert_eq!(Order::read(&order.to_string()), Some(order));
        }
        assert_eq!(Order::read("dance"), None);
    }
}
