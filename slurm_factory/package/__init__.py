"""From a finished tree to published files: tarballs, licences, SBOM, manifest, publication."""
