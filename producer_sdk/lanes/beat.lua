-- A worker's heartbeat: extends the leases of the tags that it names.
-- KEYS: root. ARGV: 1 lease_ms, then tags. Returns {the numbers of the lost ones, of the cancelled ones}, from 1, and 1
-- while nothing may be swept.

local lease, lost, cancelled = tonumber(ARGV[1]), {}, {}
local is_held_off = tick(lease, read_run())
for i = 2, #ARGV do
  local job, is_live = holder(ARGV[i])
  if not is_live then lost[#lost + 1] = i - 1
  else
    redis.call('ZADD', UNACKED, NOW + lease, job.id)
    if job.cancel then cancelled[#cancelled + 1] = i - 1 end
  end
end
return { lost, cancelled, is_held_off and 1 or 0 }
