-- A call has ended: free its slot, and learn of it. What is learned is learned once: with the slot.
-- KEYS: 1 deployment (hash), 2 its calls under way (zset), 3 provider (hash)
-- ARGV: 1 attempt, 2 when it began (ms, by this server), 3 "ok", "bad" or "": what it says of the breaker, 4 "1": it
--       was too much, 5 ms to cool down (0: none), 6 the cool-down's kind, 7 its words, 8 "1": the whole provider
--       cools, 9 what an open time is multiplied by (thousandths), 10 life ms, 11 half a window ms, 12 least calls,
--       13 share of failures (thousandths), 14 failures in a row, 15 first and 16 longest open time ms, 17 "" or the
--       time in ms, for tests that move the clock, 18 to 23 what it says of the speed (measure.lua)
-- Returns {"", "opened" or "closed", ms that it is open, words}
-- The deployment's fields: cool_until, cool_kind, cool_why; win, ok, bad, ok0, bad0 (calls of this half window and the
-- one before), row (failures in a row); open_until, open_why, opened (times in a row), probe (the attempt that tries
-- it); limit (calls at once, thousandths; none before the first "too much"), cut (when it was last lowered)
local time = redis.call('TIME')
local now = tonumber(ARGV[17]) or time[1] * 1000 + math.floor(time[2] / 1000)
local number = {}
for at = 9, 16 do number[at] = tonumber(ARGV[at]) end
local attempt, verdict, life = ARGV[1], ARGV[3], number[10]

local cool = tonumber(ARGV[5])
if cool > 0 then
  local cools = ARGV[8] == '1' and KEYS[3] or KEYS[1]
  if now + cool > (tonumber(redis.call('HGET', cools, 'cool_until')) or 0) then
    redis.call('HSET', cools, 'cool_until', now + cool, 'cool_kind', ARGV[6], 'cool_why', ARGV[7])
  end
  redis.call('PEXPIRE', cools, math.max(life, cool))
end

local under_way = redis.call('ZCARD', KEYS[2])
if redis.call('ZREM', KEYS[2], attempt) == 0 then
  return {'', 0, ''}
end

measure(KEYS[1], now, {unpack(ARGV, 18)})
local kept = redis.call('HMGET', KEYS[1], 'limit', 'cut', 'win', 'ok', 'bad', 'ok0', 'bad0', 'row', 'open_until',
  'opened', 'probe', 'cool_until')
local limit = tonumber(kept[1])
if ARGV[4] == '1' and tonumber(ARGV[2]) > (tonumber(kept[2]) or 0) then
  limit = math.max(1000, math.floor((limit or under_way * 1000) * 0.7))
  redis.call('HSET', KEYS[1], 'limit', limit, 'cut', now)
elseif verdict == 'ok' and limit and under_way * 2000 >= limit then
  redis.call('HSET', KEYS[1], 'limit', math.floor(limit + 1000000 / limit))
end

local told = {'', 0, ''}
local open_until, opened = tonumber(kept[9]), tonumber(kept[10]) or 0
local function open(why, times)
  local ms = math.floor(math.min(number[16], number[15] * 2 ^ times) * number[9] / 1000)
  redis.call('HSET', KEYS[1], 'open_until', now + ms, 'open_why', why, 'opened', times + 1)
  redis.call('HDEL', KEYS[1], 'win', 'ok', 'bad', 'ok0', 'bad0', 'row', 'probe')
  told = {'opened', ms, why}
end
if open_until and kept[11] == attempt then
  redis.call('HDEL', KEYS[1], 'probe')
  if verdict == 'ok' then
    redis.call('HDEL', KEYS[1], 'open_until', 'open_why', 'opened')
    told = {'closed', 0, ''}
  elseif verdict == 'bad' and open_until <= now then
    open('it was tried again and failed', opened)
  end
elseif not open_until and verdict ~= '' then
  local win = math.floor(now / number[11])
  local passed = win - (tonumber(kept[3]) or win)
  local ok, bad, ok0, bad0 = tonumber(kept[4]) or 0, tonumber(kept[5]) or 0, tonumber(kept[6]) or 0, tonumber(kept[7]) or 0
  if passed ~= 0 then
    ok, bad, ok0, bad0 = 0, 0, passed == 1 and ok or 0, passed == 1 and bad or 0
  end
  local row = verdict == 'bad' and (tonumber(kept[8]) or 0) + 1 or 0
  if verdict == 'bad' then bad = bad + 1 else ok = ok + 1 end
  redis.call('HSET', KEYS[1], 'win', win, 'ok', ok, 'bad', bad, 'ok0', ok0, 'bad0', bad0, 'row', row)
  local failed, all = bad + bad0, ok + bad + ok0 + bad0
  if row >= number[14] then
    open(string.format('%d calls in a row failed', row), 0)
  elseif verdict == 'bad' and all >= number[12] and failed * 1000 >= all * number[13] then
    open(string.format('%d of %d calls failed', failed, all), 0)
  end
end
redis.call('PEXPIRE', KEYS[1], math.max(life, (tonumber(kept[12]) or 0) - now))
return told
