-- Writes one part of a rebuild under its own epoch, before the books turn to it; absolute, so safe to repeat.
-- ARGV: 2 epoch; 3 number of the part; 4 ms to keep; then rows of six:
--   'w', name, used, held, '', ''  |  'a', attempt id, hold, windows, the millisecond in the id, batch or ''
--   |  'b', batch, total, drawn, windows, ''  |  'l', field, amount, '', '', ''
-- Returns 1, or 0 when the books have turned to this epoch or a newer one: then nothing is written.
local books = redis.call('HGET', KEYS[1], 'epoch')
if books and tonumber(books) >= tonumber(ARGV[2]) then return 0 end
local root, keep_ms = KEYS[1] .. ':' .. ARGV[2], ARGV[4]
for i = 5, #ARGV, 6 do
  local kind, name, first, second, third, batch = unpack(ARGV, i, i + 5)
  local key = root .. ':' .. kind .. ':' .. name
  if kind == 'l' then
    key = root .. ':limits'
    redis.call('HSET', key, name, first)
  elseif kind == 'w' then
    redis.call('HSET', key, 'used', first, 'held', second)
  elseif kind == 'b' then
    redis.call('HSET', key, 'total', first, 'drawn', second, 'windows', third)
    redis.call('ZADD', root .. ':batches', 0, name)
    redis.call('PEXPIRE', root .. ':batches', keep_ms)
  else
    redis.call('HSET', key, 'hold', first, 'windows', second)
    if batch ~= '' then redis.call('HSET', key, 'batch', batch, 'draws', first) end
    redis.call('ZADD', root .. ':holds', third, name)
    redis.call('PEXPIRE', root .. ':holds', keep_ms)
  end
  redis.call('PEXPIRE', key, keep_ms)
end
redis.call('HSET', root .. ':staged', ARGV[3], run_id())
redis.call('PEXPIRE', root .. ':staged', keep_ms)
return 1
