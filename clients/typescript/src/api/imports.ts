// Imports of files. The code for them is loaded when the first file is uploaded.

import type { ImportJob, UploadOptions } from '../imports/upload.js';
import type { Device } from '../sync/device.js';
import type { Endpoint } from '../transport/http.js';

export class Imports {
  constructor(private readonly endpoint: Endpoint, private readonly device: Device) {}

  /**
   * Uploads a file and returns the import when it has ended, in whatever state. Rejects with `ImportError` if the server
   * refuses it, and with `RequestError` if the server cannot be reached for several minutes.
   */
  async upload(file: Blob, options: UploadOptions): Promise<ImportJob> {
    const { upload } = await import('../imports/upload.js');
    return upload(this.endpoint, this.device.newId, file, options);
  }
}
