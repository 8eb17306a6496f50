-- The newest dead jobs. KEYS: root. ARGV: 1 limit. Returns {job id, tenant, deliveries, reason, since_ms} a job.

local rows = {}
local found = redis.call('ZREVRANGE', DEAD, 0, ARGV[1] - 1, 'WITHSCORES')
for i = 1, #found, 2 do
  local fields = redis.call('HMGET', DEAD_OF .. found[i], 'tenant', 'deliveries', 'reason')
  if fields[1] then
    rows[#rows + 1] = { found[i], fields[1], tonumber(fields[2]), fields[3], tonumber(found[i + 1]) }
  end
end
return rows
