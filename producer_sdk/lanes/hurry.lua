-- Lets a tenant's jobs that were handed back with a delay go at once: what they waited for may be there now.
-- KEYS: root. ARGV: 1 tenant, 2 how many that keep their time to pass over. Returns {hurried, passed over}: call it again
-- while the two are a thousand together.

local hurried, kept = 0, 0
for _, id in ipairs(redis.call('ZRANGEBYSCORE', DELAYED_OF .. ARGV[1], '(' .. NOW, '+inf', 'LIMIT', ARGV[2], 1000)) do
  local job = read(id)
  if job and job.back then
    redis.call('ZADD', DELAYED_OF .. ARGV[1], NOW, id)
    hurried = hurried + 1
  else kept = kept + 1 end
end
if hurried > 0 then
  redis.call('ZADD', DELAYED, NOW, ARGV[1])
  redis.call('PUBLISH', WAKE, 'wake')
end
return { hurried, kept }
