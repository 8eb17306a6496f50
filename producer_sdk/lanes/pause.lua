-- Pauses a tenant: none of its waiting jobs is handed out until then; what runs goes on. Again: what is said last holds.
-- KEYS: root. ARGV: 1 tenant, 2 for how many ms (0: until it is resumed), 3 reason. Returns until when, 0 likewise.

local tenant, for_ms = ARGV[1], tonumber(ARGV[2])
local until_ms = for_ms > 0 and NOW + for_ms or 0
let_go(tenant, 'paused')
redis.call('HSET', PAUSED, tenant, string.format('%d', until_ms) .. ' ' .. ARGV[3])
for _, lane in ipairs(LANES) do
  redis.call('ZREM', THROTTLED .. lane, tenant)
  leave(lane, tenant)
  if until_ms > 0 then throttle(lane, tenant, until_ms) end
end
held_up(tenant, 'paused: ' .. ARGV[3]:sub(1, 100), until_ms)
return until_ms
