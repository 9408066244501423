"""What every test starts from."""

from __future__ import annotations

from snn.allocator import keep_freed_memory

keep_freed_memory()
