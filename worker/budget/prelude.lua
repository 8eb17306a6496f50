-- Prelude of every budget script.
-- KEYS[1]: the books, a hash {epoch, run_id}, the one key here that never expires. Every other key is
--   KEYS[1]:<epoch>:… under the same hash tag, so that what an older epoch left is never read again.
-- ARGV[1]: '' in service, or the run id to take for the server's (fakeredis has no INFO).
-- Amounts are whole pico-dollars as decimal strings: Lua's own numbers are exact only up to 2^53, which is 9,007 USD.
--
-- Window   <root>:w:<name>   hash {used, held, soft}; used is settled and held together, soft the warning given last.
-- Attempt  <root>:a:<id>     hash {hold, settled, windows, batch, draws, covered}; draws: what it takes of its batch.
-- Batch    <root>:b:<id>     hash {total, drawn, windows}; what is not drawn is held in its windows.
-- <root>:holds and <root>:batches: sorted sets of the two, by the time at which they were reserved.

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
local function add(key, field, sign, amount)
  if amount ~= '0' then redis.call('HINCRBY', key, field, sign .. amount) end
end

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

-- Lets what a batch draws be another amount: its windows hold what is left of it.
local function draw(root, batch, before, after)
  local names = redis.call('HGET', root .. ':b:' .. batch, 'windows')
  if not names or before == after then return end
  add(root .. ':b:' .. batch, 'drawn', '-', before)
  add(root .. ':b:' .. batch, 'drawn', '', after)
  for name in string.gmatch(names, '[^\n]+') do
    for _, field in ipairs({'used', 'held'}) do
      add(root .. ':w:' .. name, field, '', before)
      add(root .. ':w:' .. name, field, '-', after)
    end
  end
end
