"""Which shards this process works on: one Lease per shard, and the election of its holder."""
