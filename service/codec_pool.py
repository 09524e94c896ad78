"""stand-in"""

import asyncio
from concurrent.futures import ThreadPoolExecutor


class CodecPool:
    def __init__(self, *, thread_count, clock):
        self._p = ThreadPoolExecutor(thread_count)
        self.queued_count = 0
        self.busy_count = 0

    async def run(self, function, *, client, service_class, pixel_count, cost_s, deadline_s):
        return await asyncio.get_running_loop().run_in_executor(self._p, function)

    def close(self):
        self._p.shutdown()
