-- Puts jobs into their tenants' queues, or delays them. Idempotent on the job id while the job is known.
-- KEYS: root. ARGV: 1 operation id, 2 ttl_s of the finished mark, 3 depth cap (0: none); then 9 a job: id, tenant,
-- lane, message, digest, cost, priority, due_ms, deadline_ms. Returns {outcome, depth} a job; the same operation id
-- again gets the same outcome.

local op, ttl, depth_cap = ARGV[1], ARGV[2], tonumber(ARGV[3])

local function depth_of(tenant)
  local depth = redis.call('ZCARD', DELAYED_OF .. tenant)
  for _, lane in ipairs(LANES) do depth = depth + redis.call('ZCARD', QUEUE .. lane .. ':' .. tenant) end
  return depth
end

local function put(number, id, tenant, lane, message, digest, cost, priority, due, deadline)
  local own, depth = op .. number, depth_of(tenant)
  local known = read(id)
  if known and known.digest ~= digest then return { 'conflict', depth } end
  if known then return { known.op == own and 'accepted' or 'duplicate', depth } end
  if depth_cap > 0 and depth >= depth_cap then return { 'queue_full', depth } end
  local seq = redis.call('HINCRBY', STATE, 'seq', 1)
  local job = { id = id, tenant = tenant, lane = lane, priority = priority, seq = seq, deadline = tonumber(deadline) }
  redis.call('SET', MESSAGE .. id, message)
  redis.call('HSET', JOB .. id, 'tenant', tenant, 'lane', lane, 'digest', digest, 'cost', cost, 'priority', priority,
    'seq', seq, 'put', NOW, 'ttl', ttl, 'op', own)
  if job.deadline > 0 then redis.call('HSET', JOB .. id, 'deadline', deadline) end
  redis.call('ZADD', TENANTS, 'NX', 0, tenant)
  wait_again(job, tonumber(due))
  return { 'accepted', depth + 1 }
end

local replies = {}
for i = 4, #ARGV, 9 do replies[#replies + 1] = put(i, unpack(ARGV, i, i + 8)) end
return replies
