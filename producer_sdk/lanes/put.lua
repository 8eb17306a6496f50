-- Puts jobs into their tenants' queues, or delays them. Idempotent on the job id while the job is known.
-- KEYS: root. ARGV: 1 operation, 2 ttl_s of the finished mark, 3 '1' where depth caps do not hold (a job that a job
-- has put), 4 the number of shards; then 11 a job: id, tenant, lane, task, message, digest, cost, tokens, priority,
-- due_ms, deadline_ms. Returns {outcome, depth, its cap or -1} a job; the same operation again gets the same outcome.

-- What a job keeps of its operation and its digest: enough to know them again.
local function short(text, bytes)
  return (redis.sha1hex(text):sub(1, 2 * bytes):gsub('%x%x', function(hex) return string.char(tonumber(hex, 16)) end))
end

local op, ttl, is_inside = short(ARGV[1], 5), tonumber(ARGV[2]), ARGV[3] == '1'
local shards = redis.call('HGET', STATE, 'shards')
if shards and shards ~= ARGV[4] then return redis.error_reply('WRONGSHARDS ' .. shards) end

local function depth_of(tenant)
  local depth = redis.call('ZCARD', DELAYED_OF .. tenant)
  for _, lane in ipairs(LANES) do
    depth = depth + redis.call('ZCARD', queue_of(lane, '', tenant))
    for _, flow in ipairs(redis.call('SMEMBERS', FLOWS .. lane .. ':' .. tenant)) do
      depth = depth + redis.call('ZCARD', queue_of(lane, flow, tenant))
    end
  end
  return depth
end

local function put(number, id, tenant, lane, task, message, digest, cost, tokens, priority, due, deadline)
  local own, depth, cap = op .. number, depth_of(tenant), limits_of(tenant).pending
  local known = read(id)
  digest = short(digest, 8)
  if known and known.digest ~= digest then return { 'conflict', depth, cap or -1 } end
  if known then return { known.op == own and 'accepted' or 'duplicate', depth, cap or -1 } end
  if cap and depth >= cap and not is_inside then return { 'queue_full', depth, cap } end
  local job = { id = id, tenant = tenant, lane = lane, task = task, digest = digest, cost = tonumber(cost), put = NOW,
    tokens = tonumber(tokens), priority = tonumber(priority), deadline = tonumber(deadline), ttl = ttl, op = own,
    state = tonumber(due) > NOW and 'delayed' or 'pending', spot = 0, ahead = depth, is_fresh = true }
  write_fresh(job, message)
  redis.call('ZADD', TENANTS, 'NX', 0, tenant)
  wait_again(job, tonumber(due))
  return { 'accepted', depth + 1, cap or -1 }
end

local replies = {}
for i = 5, #ARGV, 11 do replies[#replies + 1] = put(i, unpack(ARGV, i, i + 10)) end
return replies
