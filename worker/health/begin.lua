-- Begin a call at a deployment, or say why it takes none now. The same attempt again: the same slot.
-- KEYS: 1 deployment (hash), 2 its calls under way (zset: attempt -> ms until which its worker is believed in),
--       3 provider (hash), 4 pauses (hash)
-- ARGV: 1 attempt, 2 lease ms, 3 provider's name, 4 "1": though its breaker is open or its credit spent, 5 life ms of
--       a deployment's key, 6 "" or the time in ms, for tests that move the clock, 7 "" or the most calls at once
-- Returns {"" or why not (paused, a cool-down's kind, open, probing, full), ms until it may be asked again (0: nobody
-- knows), the time, words}
local time = redis.call('TIME')
local now = tonumber(ARGV[6]) or time[1] * 1000 + math.floor(time[2] / 1000)
local attempt, lease, forced = ARGV[1], tonumber(ARGV[2]), ARGV[4] == '1'

redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now)
if redis.call('ZSCORE', KEYS[2], attempt) then
  return {'', 0, now, ''}
end

for _, scope in ipairs({'all', 'provider:' .. ARGV[3]}) do
  local ends, since, reason = (redis.call('HGET', KEYS[4], scope) or ''):match('^(%d+) (%d+) (.*)$')
  ends = tonumber(ends)
  if ends == 0 or (ends and ends > now) then
    return {'paused', ends == 0 and 0 or ends - now, now, reason}
  end
end

for _, key in ipairs({KEYS[1], KEYS[3]}) do
  local cool = redis.call('HMGET', key, 'cool_until', 'cool_kind', 'cool_why')
  local left = (tonumber(cool[1]) or 0) - now
  if left > 0 and not (forced and cool[2] ~= 'rate_limited') then
    return {cool[2], left, now, cool[3]}
  end
end

local kept = redis.call('HMGET', KEYS[1], 'open_until', 'open_why', 'probe', 'limit')
local open_until = tonumber(kept[1])
local is_probed = kept[3] and redis.call('ZSCORE', KEYS[2], kept[3])
if open_until and not forced then
  if open_until > now then
    return {'open', open_until - now, now, kept[2]}
  end
  if is_probed then
    return {'probing', 1000, now, ''}
  end
end

local learned, stated, under_way = tonumber(kept[4]), tonumber(ARGV[7]), redis.call('ZCARD', KEYS[2])
local limit = math.min(learned and math.floor(learned / 1000) or math.huge, stated or math.huge)
if under_way >= limit then
  return {'full', 250, now, under_way .. ' of ' .. limit}
end

if open_until and not is_probed then
  redis.call('HSET', KEYS[1], 'probe', attempt)
  redis.call('PEXPIRE', KEYS[1], ARGV[5])
end
redis.call('ZADD', KEYS[2], now + lease, attempt)
redis.call('PEXPIRE', KEYS[2], lease)
return {'', 0, now, ''}
