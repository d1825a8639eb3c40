//! Opens the payload store that `IDEM_PAYLOAD_URL` names: a directory of this machine or a bucket of a cloud.

use std::sync::Arc;

use anyhow::{Context, bail};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use reqwest::Url;
use service::Payloads;

use crate::config::{Config, process_env};

/// Opens the store of import payloads. Creates its directory if it is on this machine. No request is sent to
/// a bucket yet: if it cannot be reached, the first upload fails.
///
/// # Errors
/// If the URL names no supported store, the directory cannot be created, or a variable of the cloud is wrong.
pub(crate) fn open_payload_store(config: &Config) -> anyhow::Result<Payloads> {
    let url: Url = config.payload_url.parse().context("IDEM_PAYLOAD_URL is not a URL")?;
    if url.scheme() == "file" {
        return open_directory_store(&url);
    }
    let options = cloud_options_from_env(url.scheme(), process_env())?;
    if cfg!(not(feature = "cloud-stores")) {
        bail!(
            "IDEM_PAYLOAD_URL names a cloud, but this build only supports file://: build it with the feature \
             cloud-stores, as `make release` does"
        );
    }
    let (objects, prefix) = object_store::parse_url_opts(&url, options)
        .context("cannot open the payload store of IDEM_PAYLOAD_URL")?;
    Ok(Payloads::new(Arc::from(objects), prefix))
}

fn open_directory_store(url: &Url) -> anyhow::Result<Payloads> {
    let path = url
        .to_file_path()
        .map_err(|()| anyhow::anyhow!("IDEM_PAYLOAD_URL does not name a directory of this machine"))?;
    std::fs::create_dir_all(&path).context("cannot create the payload directory of IDEM_PAYLOAD_URL")?;
    // Bytes that the import's row counts as received must survive a power failure, as the row does.
    let files = LocalFileSystem::new_with_prefix(&path)?.with_fsync(true);
    Ok(Payloads::new(Arc::new(files), Path::default()))
}

/// The environment variables of the cloud that the URL scheme names. All others are left out, because the
/// object store would also use a plain `TOKEN` or `REGION`, which may belong to another program.
fn cloud_options_from_env(
    scheme: &str,
    env: impl Iterator<Item = (String, String)>,
) -> anyhow::Result<Vec<(String, String)>> {
    let prefix = match scheme {
        "s3" => "AWS_",
        "gs" => "GOOGLE_",
        "az" => "AZURE_",
        _ => bail!("IDEM_PAYLOAD_URL must begin with file://, s3://, gs:// or az://"),
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
    fn a_store_gets_the_variables_of_its_cloud_only() -> anyhow::Result<()> {
        let all = ["AWS_REGION", "GOOGLE_SERVICE_ACCOUNT", "AZURE_STORAGE_ACCOUNT_NAME", "TOKEN", "REGION"];
        for (scheme, name) in [("s3", all[0]), ("gs", all[1]), ("az", all[2])] {
            assert_eq!(cloud_options_from_env(scheme, env(&all).into_iter())?, env(&[name]), "{scheme}");
        }
        assert!(cloud_options_from_env("ftp", env(&all).into_iter()).is_err());
        Ok(())
    }

    #[cfg(feature = "cloud-stores")]
    #[test]
    fn this_build_supports_every_cloud_of_the_settings() {
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
