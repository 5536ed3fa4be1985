"""Tests, file by file like the package they mirror. Real PostgreSQL, real S3 protocol."""
