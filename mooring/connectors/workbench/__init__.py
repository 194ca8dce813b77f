"""What `mooring connectors` offers to authors of connectors: a first file, a linter, differences, pages."""
