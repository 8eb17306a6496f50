-- How every deployment of a routing file stands. Changes nothing.
-- KEYS: 1 pauses (hash), then each deployment (hash) and its calls under way (zset), then each provider (hash)
-- ARGV: 1 number of deployments, 2 "" or the time in ms, for tests that move the clock
-- Returns {the time, pauses {scope, "until since reason", ...}, a row a deployment {cool_until, cool_kind, cool_why,
-- open_until, open_why, limit, 1 if it is being tried, calls under way, answers, first_us, rated, token_us, output_mt,
-- measured}, a row a provider {cool_until, kind, why}}
local time = redis.call('TIME')
local now = tonumber(ARGV[2]) or time[1] * 1000 + math.floor(time[2] / 1000)
local last = 1 + 2 * tonumber(ARGV[1])

local deployments = {}
for at = 2, last, 2 do
  local row = redis.call('HMGET', KEYS[at], 'cool_until', 'cool_kind', 'cool_why', 'open_until', 'open_why', 'limit', 'probe')
  local probe_until = row[7] and redis.call('ZSCORE', KEYS[at + 1], row[7])
  row[7] = probe_until and tonumber(probe_until) > now and 1 or 0
  row[8] = redis.call('ZCOUNT', KEYS[at + 1], '(' .. string.format('%d', now), '+inf')
  for _, value in ipairs(redis.call('HMGET', KEYS[at], 'answers', 'first_us', 'rated', 'token_us', 'output_mt', 'measured')) do
    row[#row + 1] = value
  end
  deployments[#deployments + 1] = row
end

local providers = {}
for at = last + 1, #KEYS do
  providers[#providers + 1] = redis.call('HMGET', KEYS[at], 'cool_until', 'cool_kind', 'cool_why')
end
return {now, redis.call('HGETALL', KEYS[1]), deployments, providers}
