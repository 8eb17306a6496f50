-- Pauses a tenant: none of its waiting jobs is handed out until then; what runs goes on. Again: what is said last holds.
-- KEYS: root. ARGV: 1 tenant, 2 until_ms (0: until it is resumed), 3 reason. Returns nothing.

local tenant, until_ms, reason = ARGV[1], tonumber(ARGV[2]), ARGV[3]
redis.call('HSET', PAUSED, tenant, string.format('%d', until_ms) .. ' ' .. reason)
redis.call('ZREM', THROTTLED, tenant)
for _, lane in ipairs(LANES) do leave(lane, tenant) end
if until_ms > NOW then redis.call('ZADD', THROTTLED, until_ms, tenant) end
