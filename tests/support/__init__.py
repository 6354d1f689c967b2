"""What the tests share: servers, databases, storage trees, fixtures."""
