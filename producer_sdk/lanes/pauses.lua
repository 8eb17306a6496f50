-- Who is paused. KEYS: root. Returns tenant and "<until_ms, or 0> <reason>" by turns.

return redis.call('HGETALL', PAUSED)
