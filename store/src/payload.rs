//! Stores the payloads of imports as objects of 8 MiB. The last one may be shorter.
//!
//! Each object is written by one `put`. Multipart uploads and appends are not used, because object stores
//! differ in them. Objects are named by number and content (decision 0062).

use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{GetOptions, GetRange, ObjectStore, ObjectStoreExt};
use uuid::Uuid;

use crate::error::Error;
use domain::limits::PAYLOAD_OBJECT_BYTES;
use domain::payload_objects::PayloadObjects;

/// The object store that holds the payloads of imports, apart from the database.
#[derive(Debug, Clone)]
pub struct Payloads {
    objects: Arc<dyn ObjectStore>,
    prefix: Path,
}

impl Payloads {
    /// Makes a store that keeps payloads in `objects`, below the path `prefix`. It does not connect.
    #[must_use]
    pub fn new(objects: Arc<dyn ObjectStore>, prefix: Path) -> Self {
        Self { objects, prefix }
    }

    /// Writes one object of a payload, a part of at most 8 MiB, under its name. An object of this name is
    /// replaced.
    ///
    /// # Errors
    /// [`Error::Payload`] if the object store fails.
    pub async fn put_object(
        &self,
        user_id: Uuid,
        import_id: Uuid,
        name: &str,
        bytes: Bytes,
    ) -> Result<(), Error> {
        self.objects.put(&self.object_path(user_id, import_id, name), bytes.into()).await?;
        Ok(())
    }

    /// Deletes an object that belongs to no payload, because another upload of the same part was recorded.
    ///
    /// # Errors
    /// [`Error::Payload`] if the object store fails. Some stores also fail if the object does not exist.
    pub async fn remove_unused_object(
        &self,
        user_id: Uuid,
        import_id: Uuid,
        name: &str,
    ) -> Result<(), Error> {
        Ok(self.objects.delete(&self.object_path(user_id, import_id, name)).await?)
    }

    /// Streams a payload of `size` bytes from the byte `offset` on. `names` are the names of its objects. If
    /// `offset` is not before the end, the stream is empty.
    ///
    /// The stream ends with [`Error::Payload`] if an object cannot be read. It ends with
    /// [`Error::PayloadChanged`] if an object has another size than when it was received.
    #[must_use]
    pub fn stream_payload(
        &self,
        user_id: Uuid,
        import_id: Uuid,
        names: &PayloadObjects,
        offset: u64,
        size: u64,
    ) -> BoxStream<'static, Result<Bytes, Error>> {
        if offset >= size {
            return futures::stream::empty().boxed();
        }
        let object_bytes = PAYLOAD_OBJECT_BYTES as u64;
        let (this, names) = (self.clone(), names.clone());
        let numbers = offset / object_bytes..size.div_ceil(object_bytes);
        futures::stream::iter(numbers)
            .then(move |number| {
                let (this, name) = (this.clone(), names.object_name(number));
                async move {
                    let skip = offset.saturating_sub(number * object_bytes);
                    let range = (skip > 0).then_some(GetRange::Offset(skip));
                    let options = GetOptions { range, ..GetOptions::default() };
                    let object =
                        this.objects.get_opts(&this.object_path(user_id, import_id, &name), options).await?;
                    if object.meta.size != object_bytes.min(size - number * object_bytes) {
                        return Err(Error::PayloadChanged);
                    }
                    Ok::<_, Error>(object.into_stream().map_err(Error::from))
                }
            })
            .try_flatten()
            .boxed()
    }

    /// Deletes all objects of the payload of an import, also those of uploads that were not recorded.
    ///
    /// # Errors
    /// [`Error::Payload`] if the object store fails.
    pub async fn remove_payload(&self, user_id: Uuid, import_id: Uuid) -> Result<(), Error> {
        let folder = self.payload_folder(user_id, import_id);
        let paths = self.objects.list(Some(&folder)).map_ok(|object| object.location).boxed();
        self.objects.delete_stream(paths).try_for_each(|_| async { Ok(()) }).await?;
        Ok(())
    }

    fn payload_folder(&self, user_id: Uuid, import_id: Uuid) -> Path {
        self.prefix.clone().join("payload").join(user_id.to_string()).join(import_id.to_string())
    }

    fn object_path(&self, user_id: Uuid, import_id: Uuid, name: &str) -> Path {
        self.payload_folder(user_id, import_id).join(name)
    }
}
