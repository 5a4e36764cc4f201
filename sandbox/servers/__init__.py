"""Real servers for demo and tests: S3, Azure Blob, WebDAV, SFTP, CMIS and HTTP."""
