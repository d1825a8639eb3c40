//! `idem healthcheck`: one question to `/readyz`, answered by the exit code. For containers without curl.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, ensure};

const TIMEOUT: Duration = Duration::from_secs(2);

/// Asks `{url}/readyz`; a success within two seconds is exit code 0, all else is 1 with the reason on stderr.
pub async fn run(url: &str) -> ExitCode {
    match ask(url).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("not ready: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Where a server that listens on `listen` can be asked from its own machine.
#[must_use]
pub fn local_url(listen: SocketAddr) -> String {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    format!("http://{}", SocketAddr::new(ip, listen.port()))
}

async fn ask(url: &str) -> anyhow::Result<()> {
    let client = reqwest::Client::builder().timeout(TIMEOUT).build().context("cannot make an HTTP client")?;
    let url = format!("{}/readyz", url.trim_end_matches('/'));
    let answer = client.get(&url).send().await?;
    ensure!(answer.status().is_success(), "{url} answers {}", answer.status());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_for_all_is_asked_on_loopback() -> anyhow::Result<()> {
        for (listen, url) in [
            ("0.0.0.0:8080", "http://127.0.0.1:8080"),
            ("[::]:1", "http://[::1]:1"),
            ("10.0.0.1:80", "http://10.0.0.1:80"),
        ] {
            assert_eq!(local_url(listen.parse()?), url);
        }
        Ok(())
    }
}
