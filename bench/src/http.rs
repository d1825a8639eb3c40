//! A minimal HTTP/1.1 client that costs little CPU: requests are built beforehand, and a response is read by
//! its `Content-Length`.

use std::net::SocketAddr;

use anyhow::{Context, bail, ensure};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A connection that is kept alive.
pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// A response.
pub struct Response<'a> {
    /// The status code.
    pub status: u16,
    /// The whole body.
    pub body: &'a [u8],
}

impl Connection {
    /// Connects.
    pub async fn open(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::with_capacity(64 * 1024) })
    }

    /// Sends a request and reads the response.
    pub async fn exchange(&mut self, request: &[u8]) -> anyhow::Result<Response<'_>> {
        self.stream.write_all(request).await?;
        self.response().await
    }

    /// Sends a part of a request.
    pub async fn send(&mut self, part: &[u8]) -> anyhow::Result<()> {
        Ok(self.stream.write_all(part).await?)
    }

    /// Reads a whole response.
    pub async fn response(&mut self) -> anyhow::Result<Response<'_>> {
        self.buffer.clear();
        let head = loop {
            let read = self.stream.read_buf(&mut self.buffer).await?;
            ensure!(read > 0, "the server closed the connection");
            if let Some(end) = position(&self.buffer, b"\r\n\r\n") {
                break end + 4;
            }
        };
        let (status, length) = read_head(&self.buffer[..head])?;
        while self.buffer.len() < head + length {
            let read = self.stream.read_buf(&mut self.buffer).await?;
            ensure!(read > 0, "the server closed the connection within a response");
        }
        Ok(Response { status, body: &self.buffer[head..head + length] })
    }

    /// Sends a GraphQL request that is not measured, and returns its `data`.
    pub async fn graphql(&mut self, token: &str, query: &str, variables: Value) -> anyhow::Result<Value> {
        let body = json!({ "query": query, "variables": variables }).to_string();
        let response = self.exchange(&graphql(token, &body)).await?;
        let mut result: Value = serde_json::from_slice(response.body)?;
        ensure!(response.status == 200 && result.get("errors").is_none(), "{}: {result}", response.status);
        Ok(result["data"].take())
    }
}

fn read_head(head: &[u8]) -> anyhow::Result<(u16, usize)> {
    let text = std::str::from_utf8(head)?;
    let status = text.get(9..12).context("the response has no status")?.parse()?;
    for line in text.split("\r\n") {
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            return Ok((status, value.trim().parse()?));
        }
    }
    bail!("a response without Content-Length: {text}")
}

/// The position of a text in bytes.
pub fn position(bytes: &[u8], text: &[u8]) -> Option<usize> {
    bytes.windows(text.len()).position(|window| window == text)
}

/// A `POST /graphql` with this body.
pub fn graphql(token: &str, body: &str) -> Vec<u8> {
    post("/graphql", token, body)
}

/// A `POST` of this JSON.
pub fn post(path: &str, token: &str, body: &str) -> Vec<u8> {
    let mut request = head("POST", path, token, body.len() as u64);
    request.push_str(body);
    request.into_bytes()
}

/// A `GET`.
pub fn get(path: &str, token: &str) -> Vec<u8> {
    head("GET", path, token, 0).into_bytes()
}

/// The head of a `PUT` of an import's payload; the bytes follow.
pub fn put(token: &str, import_id: &str, length: u64) -> Vec<u8> {
    head("PUT", &format!("/imports/{import_id}/payload"), token, length).into_bytes()
}

fn head(method: &str, path: &str, token: &str, length: u64) -> String {
    format!(
        "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: application/json\r\nAccept: application/json\r\nContent-Length: {length}\r\n\r\n"
    )
}
