"""From archives or folders to checked data and shards."""
