-- Dead jobs, the newest first. KEYS: root. ARGV: 1 offset, 2 limit.
-- Returns {how many there are, rows}; a row is {job id, tenant, deliveries, reason, since_ms}.

local rows = {}
local found = redis.call('ZREVRANGE', DEAD, ARGV[1], ARGV[1] + ARGV[2] - 1, 'WITHSCORES')
for i = 1, #found, 2 do
  local fields = redis.call('HMGET', DEAD_OF .. found[i], 'tenant', 'deliveries', 'reason')
  if fields[1] then
    rows[#rows + 1] = { found[i], fields[1], tonumber(fields[2]), fields[3], tonumber(found[i + 1]) }
  end
end
return { redis.call('ZCARD', DEAD), rows }
