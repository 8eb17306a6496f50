-- Writes one part of a rebuild under its own epoch, before the books turn to it; absolute, so safe to repeat.
-- ARGV: 2 epoch; 3 number of the part; 4 ms to keep; then rows of five:
--   'w', name, used, held, ''  |  'a', attempt id, hold, windows, the millisecond in the id  |  'l', field, amount, '', ''
-- Returns 1, or 0 when the books have turned to this epoch or a newer one: then nothing is written.
local books = redis.call('HGET', KEYS[1], 'epoch')
if books and tonumber(books) >= tonumber(ARGV[2]) then return 0 end
local root, keep_ms = KEYS[1] .. ':' .. ARGV[2], ARGV[4]
for i = 5, #ARGV, 5 do
  local key = root .. ':' .. ARGV[i] .. ':' .. ARGV[i + 1]
  if ARGV[i] == 'l' then
    key = root .. ':limits'
    redis.call('HSET', key, ARGV[i + 1], ARGV[i + 2])
  elseif ARGV[i] == 'w' then
    redis.call('HSET', key, 'used', ARGV[i + 2], 'held', ARGV[i + 3])
  else
    redis.call('HSET', key, 'hold', ARGV[i + 2], 'windows', ARGV[i + 3])
    redis.call('ZADD', root .. ':holds', ARGV[i + 4], ARGV[i + 1])
    redis.call('PEXPIRE', root .. ':holds', keep_ms)
  end
  redis.call('PEXPIRE', key, keep_ms)
end
redis.call('HSET', root .. ':staged', ARGV[3], run_id())
redis.call('PEXPIRE', root .. ':staged', keep_ms)
return 1
