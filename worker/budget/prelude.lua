-- Prelude of every budget script.
-- KEYS[1]: the books, a hash {epoch, run_id}, the one key here that never expires. Every other key is
--   KEYS[1]:<epoch>:… under the same hash tag, so that what an older epoch left is never read again.
-- ARGV[1]: '' in service, or the run id to take for the server's (fakeredis has no INFO).
-- Amounts are whole pico-dollars as decimal strings: Lua's own numbers are exact only up to 2^53, which is 9,007 USD.

local function run_id()
  if ARGV[1] ~= '' then return ARGV[1] end
  return string.match(redis.call('INFO', 'server'), 'run_id:(%w+)')
end

-- The epoch of the books, or nil where they are missing or were written under another server run: a restart may
-- have rolled back their last writes.
local function current_epoch()
  local books = redis.call('HMGET', KEYS[1], 'epoch', 'run_id')
  if books[1] and books[2] == run_id() then return books[1] end
  return nil
end

local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- Adds sign .. amount exactly. Redis takes no '-0'.
local function add(window, field, sign, amount)
  if amount ~= '0' then redis.call('HINCRBY', window, field, sign .. amount) end
end
