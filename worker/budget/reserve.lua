-- Admits one attempt: adds its worst case to every window, or to none. The same id again gets the same answer.
-- ARGV: 2 attempt id; 3 worst case; 4 the millisecond in the id; 5 ms to keep; then each window's name, scope and limit.
-- Returns {'reserved', epoch} | {'refused', window, used, held, limit, top-up} | {'rebuild'} | {'clock', ms apart}.
-- What an operator has set for a scope goes before the limit that the worker read in its routing.yaml.
-- Window: hash {used, held}; used is settled and held together. Record of an attempt: hash {hold, settled, windows}.

-- Exact for amounts up to 4 * 10^18: nine digits apart, so that the sign of the difference is right.
local function parts(amount)
  return tonumber(amount:sub(1, -10)) or 0, tonumber(amount:sub(-9))
end
local function fits(used, amount, limit, top_up)
  local used_high, used_low = parts(used)
  local amount_high, amount_low = parts(amount)
  local limit_high, limit_low = parts(limit)
  local top_high, top_low = parts(top_up)
  local high, low = used_high + amount_high - limit_high - top_high, used_low + amount_low - limit_low - top_low
  return high * 1e9 + low <= 0
end

local epoch = current_epoch()
if not epoch then return {'rebuild'} end
-- Windows are named by the worker's clock, and a rebuild counts 34 days: half a day apart is a broken clock.
local apart = tonumber(ARGV[4]) - now_ms()
if math.abs(apart) > 43200000 then return {'clock', string.format('%d', apart)} end

local root, id, amount, keep_ms = KEYS[1] .. ':' .. epoch, ARGV[2], ARGV[3], ARGV[5]
local record = root .. ':a:' .. id
if redis.call('EXISTS', record) == 1 then return {'reserved', epoch} end
for i = 6, #ARGV, 3 do
  local window = redis.call('HMGET', root .. ':w:' .. ARGV[i], 'used', 'held')
  local used, held = window[1] or '0', window[2] or '0'
  local changed = redis.call('HMGET', root .. ':limits', 'set:' .. ARGV[i + 1], 'top:' .. ARGV[i])
  local limit, top_up = changed[1] or ARGV[i + 2], changed[2] or '0'
  if not fits(used, amount, limit, top_up) then return {'refused', ARGV[i], used, held, limit, top_up} end
end

local names = {}
for i = 6, #ARGV, 3 do
  local window = root .. ':w:' .. ARGV[i]
  add(window, 'used', '', amount)
  add(window, 'held', '', amount)
  redis.call('PEXPIRE', window, keep_ms)
  names[#names + 1] = ARGV[i]
end
redis.call('HSET', record, 'hold', amount, 'windows', table.concat(names, '\n'))
redis.call('PEXPIRE', record, keep_ms)
redis.call('ZADD', root .. ':holds', now_ms(), id)
redis.call('PEXPIRE', root .. ':holds', keep_ms)
return {'reserved', epoch}
