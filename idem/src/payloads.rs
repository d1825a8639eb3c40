//! Opens the store that `IDEM_PAYLOAD_URL` names: a folder of this machine, or a bucket of a cloud.

use std::sync::Arc;

use anyhow::{Context, bail};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use reqwest::Url;
use service::Payloads;

use crate::config::{Config, process_env};

/// Opens the payload store of the settings. A bucket is not asked for anything yet: one that cannot be
/// reached shows when the first payload comes.
///
/// # Errors
/// When the URL names no store, the folder cannot be made, or a variable of the cloud is wrong.
pub(crate) fn open_payloads(config: &Config) -> anyhow::Result<Payloads> {
    let url: Url = config.payload_url.parse().context("IDEM_PAYLOAD_URL is not a URL")?;
    if url.scheme() == "file" {
        return open_folder(&url);
    }
    let options = options(url.scheme(), process_env())?;
    let (objects, prefix) = object_store::parse_url_opts(&url, options)
        .context("the store of IDEM_PAYLOAD_URL cannot be opened")?;
    Ok(Payloads::new(Arc::from(objects), prefix))
}

fn open_folder(url: &Url) -> anyhow::Result<Payloads> {
    let path = url.to_file_path().map_err(|()| anyhow::anyhow!("IDEM_PAYLOAD_URL names no folder"))?;
    std::fs::create_dir_all(&path).context("the payload directory cannot be made")?;
    // What the row calls received must survive a power cut, like the row.
    let files = LocalFileSystem::new_with_prefix(&path)?.with_fsync(true);
    Ok(Payloads::new(Arc::new(files), Path::default()))
}

/// The variables of one cloud and of no other program: the store would take a plain `TOKEN` or `REGION`
/// for its own too.
fn options(
    scheme: &str,
    env: impl Iterator<Item = (String, String)>,
) -> anyhow::Result<Vec<(String, String)>> {
    let prefix = match scheme {
        "s3" => "AWS_",
        "gs" => "GOOGLE_",
        "az" => "AZURE_",
        _ => bail!("IDEM_PAYLOAD_URL names no store that this build knows"),
    };
    Ok(env.filter(|(name, value)| name.starts_with(prefix) && !value.is_empty()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(names: &[&str]) -> Vec<(String, String)> {
        names.iter().map(|name| ((*name).to_owned(), "x".to_owned())).collect()
    }

    #[test]
    fn a_store_sees_the_variables_of_its_cloud_only() -> anyhow::Result<()> {
        let all = ["AWS_REGION", "GOOGLE_SERVICE_ACCOUNT", "AZURE_STORAGE_ACCOUNT_NAME", "TOKEN", "REGION"];
        for (scheme, name) in [("s3", all[0]), ("gs", all[1]), ("az", all[2])] {
            assert_eq!(options(scheme, env(&all).into_iter())?, env(&[name]), "{scheme}");
        }
        assert!(options("ftp", env(&all).into_iter()).is_err());
        Ok(())
    }

    #[test]
    fn every_cloud_of_the_settings_is_in_this_build() {
        let aws = [("aws_region", "eu-central-1")];
        let azure = [("azure_storage_account_name", "me"), ("azure_storage_access_key", "a2V5")];
        for (url, options) in [("s3://b/a/b", &aws[..]), ("gs://b/a/b", &[]), ("az://c/a/b", &azure)] {
            let url: Url = url.parse().expect("a URL");
            let opened = object_store::parse_url_opts(&url, options.iter().copied());
            let (_, prefix) = opened.unwrap_or_else(|error| panic!("{url}: {error}"));
            assert_eq!(prefix.as_ref(), "a/b");
        }
    }
}
