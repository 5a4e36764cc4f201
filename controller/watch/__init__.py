"""kopf's watches: they feed the cache."""
