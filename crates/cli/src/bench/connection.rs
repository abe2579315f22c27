//! This module is an HTTP/1.1 client with as little between the caller and the socket as possible:
//! on a machine shared with the server, what the client costs is taken from the server.
//!
//! One connection, one request at a time; answers are measured, not kept.

use std::io;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// What is read at a time: larger answers take several reads.
const READ_BYTES: usize = 64 * 1024;

/// A kept connection to a server.
#[derive(Debug)]
pub(super) struct Connection {
    stream: TcpStream,
    input: Vec<u8>,
    filled: usize,
}

/// The head of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Head {
    status: u16,
    len: usize,
    body: Body,
    closes: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Body {
    Sized(usize),
    Chunked,
    UntilClose,
}

impl Connection {
    /// Connects to a host and port.
    pub(super) async fn open(authority: &str) -> io::Result<Self> {
        let stream = TcpStream::connect(authority).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, input: vec![0; READ_BYTES], filled: 0 })
    }

    /// Sends a whole request and reads the answer to its end. Its status comes back, and whether the
    /// connection can be used again.
    pub(super) async fn exchange(&mut self, request: &[u8]) -> io::Result<(u16, bool)> {
        self.stream.write_all(request).await?;
        self.filled = 0;
        let head = loop {
            self.fill().await?;
            if let Some(head) = parse_head(&self.input[..self.filled])? {
                break head;
            }
        };
        match head.body {
            Body::Sized(length) => self.pass_over(head.len + length).await?,
            Body::Chunked => self.pass_over_chunks(head.len).await?,
            Body::UntilClose => while self.fill_again().await? > 0 {},
        }
        Ok((head.status, !head.closes && head.body != Body::UntilClose))
    }

    async fn fill(&mut self) -> io::Result<()> {
        if self.filled == self.input.len() {
            return Err(io::Error::other("the head of the answer is too long"));
        }
        match self.stream.read(&mut self.input[self.filled..]).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            count => {
                self.filled += count;
                Ok(())
            }
        }
    }

    /// Reads on over what has been read.
    async fn fill_again(&mut self) -> io::Result<usize> {
        self.filled = self.stream.read(&mut self.input).await?;
        Ok(self.filled)
    }

    async fn pass_over(&mut self, length: usize) -> io::Result<()> {
        let mut left = length.saturating_sub(self.filled);
        while left > 0 {
            match self.fill_again().await? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => left = left.saturating_sub(count),
            }
        }
        Ok(())
    }

    async fn pass_over_chunks(&mut self, head: usize) -> io::Result<()> {
        let mut text = self.input[head..self.filled].to_vec();
        while !chunks_are_complete(&text)? {
            match self.fill_again().await? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => text.extend_from_slice(&self.input[..count]),
            }
        }
        Ok(())
    }
}

/// The head, once it is there.
fn parse_head(input: &[u8]) -> io::Result<Option<Head>> {
    let Some(end) = input.windows(4).position(|window| window == b"\r\n\r\n") else {
        return Ok(None);
    };
    let invalid = || io::Error::new(io::ErrorKind::InvalidData, "not an HTTP answer");
    let mut lines = input[..end].split(|byte| *byte == b'\n');
    let status_line =
        lines.next().filter(|line| line.starts_with(b"HTTP/1.")).ok_or_else(invalid)?;
    let status: u16 = status_line.get(9..12).and_then(number).ok_or_else(invalid)?;
    let bodiless = matches!(status, 100..=199 | 204 | 304);
    let body = if bodiless { Body::Sized(0) } else { Body::UntilClose };
    let mut head = Head { status, len: end + 4, body, closes: false };
    for line in lines.filter(|_| !bodiless) {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if name.eq_ignore_ascii_case(b"content-length") {
            head.body = Body::Sized(number(value).ok_or_else(invalid)?);
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            head.body = Body::Chunked;
        } else if name.eq_ignore_ascii_case(b"connection") {
            head.closes = value.eq_ignore_ascii_case(b"close");
        }
    }
    Ok(Some(head))
}

fn number<T: std::str::FromStr>(text: &[u8]) -> Option<T> {
    str::from_utf8(text).ok()?.parse().ok()
}

fn chunks_are_complete(mut text: &[u8]) -> io::Result<bool> {
    loop {
        let Some(end) = text.windows(2).position(|window| window == b"\r\n") else {
            return Ok(false);
        };
        let digits = text[..end].split(|byte| *byte == b';').next().unwrap_or_default();
        let size = str::from_utf8(digits.trim_ascii())
            .ok()
            .and_then(|digits| usize::from_str_radix(digits, 16).ok())
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "not a chunk"))?;
        let next = end + 2 + size + 2;
        match text.get(next..) {
            Some(_) if size == 0 => return Ok(true),
            Some(rest) => text = rest,
            None => return Ok(false),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    /// What the client makes of an answer that arrives in these parts.
    async fn exchange(parts: Vec<Vec<u8>>) -> io::Result<(u16, bool)> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let authority = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 64];
            let _ = stream.read(&mut request).await.unwrap();
            for part in parts {
                stream.write_all(&part).await.unwrap();
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        });
        Connection::open(&authority).await.unwrap().exchange(b"GET / HTTP/1.1\r\n\r\n").await
    }

    #[tokio::test]
    async fn answers_are_read_to_their_end_however_they_are_framed_and_cut() {
        let long =
            [b"HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n".to_vec(), vec![b'x'; 200_000]];
        for (parts, expect) in [
            (vec![b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi".to_vec()], (200, true)),
            (vec![b"HTTP/1.1 20".to_vec(), b"1 Created\r\nContent-Length:0\r\n\r".to_vec(), b"\n".to_vec()], (201, true)),
            (vec![b"HTTP/1.1 204 No Content\r\n\r\n".to_vec()], (204, true)),
            (vec![b"HTTP/1.1 503 No\r\nconnection: close\r\ncontent-length: 1\r\n\r\n".to_vec(), b"x".to_vec()], (503, false)),
            (vec![b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\na;x=y\r\n01234".to_vec(), b"56789\r\n0\r\n\r\n".to_vec()], (200, true)),
            (vec![b"HTTP/1.0 200 OK\r\n\r\nuntil".to_vec(), b"the end".to_vec()], (200, false)),
            (long.to_vec(), (200, true)),
        ] {
            let text = String::from_utf8_lossy(&parts[0]).into_owned();
            assert_eq!(exchange(parts).await.unwrap(), expect, "{text}");
        }
    }

    #[tokio::test]
    async fn an_answer_cut_short_is_an_error() {
        for part in [
            "",
            "HTTP/1.1 200 OK\r\ncontent-le",
            "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhi",
            "SSH-2.0\r\n\r\n",
        ] {
            assert!(exchange(vec![part.as_bytes().to_vec()]).await.is_err(), "{part:?}");
        }
    }
}
