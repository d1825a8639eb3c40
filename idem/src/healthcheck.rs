//! `idem healthcheck`: requests `/readyz` once and reports the result as exit code, for containers without
//! curl.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, ensure};

const TIMEOUT: Duration = Duration::from_secs(2);

/// Requests `{url}/readyz` once. The exit code is 0 after a success within two seconds, else 1, and then the
/// reason is printed on stderr.
pub async fn run_healthcheck(url: &str) -> ExitCode {
    match request_readiness(url).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("not ready: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The base URL of a server that listens on `listen`, as seen from its own machine. An unspecified
/// address such as `0.0.0.0` means all interfaces, so the loopback address takes its place.
#[must_use]
pub fn local_server_url(listen: SocketAddr) -> String {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    format!("http://{}", SocketAddr::new(ip, listen.port()))
}

async fn request_readiness(url: &str) -> anyhow::Result<()> {
    let client =
        reqwest::Client::builder().timeout(TIMEOUT).build().context("cannot create an HTTP client")?;
    let url = format!("{}/readyz", url.trim_end_matches('/'));
    let response = client.get(&url).send().await?;
    ensure!(response.status().is_success(), "{url} responded {}", response.status());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unspecified_address_is_checked_on_loopback() -> anyhow::Result<()> {
        for (listen, url) in [
            ("0.0.0.0:8080", "http://127.0.0.1:8080"),
            ("[::]:1", "http://[::1]:1"),
            ("10.0.0.1:80", "http://10.0.0.1:80"),
        ] {
            assert_eq!(local_server_url(listen.parse()?), url);
        }
        Ok(())
    }
}
