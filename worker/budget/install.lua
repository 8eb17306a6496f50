-- Turns the books to a rebuild's epoch, if all its parts were staged under this server run and none is newer.
-- ARGV: 2 epoch; 3 how many parts.
-- Returns 1 when the books are of this epoch now, else 0.
local books = redis.call('HMGET', KEYS[1], 'epoch', 'run_id')
if books[1] == ARGV[2] and books[2] == run_id() then return 1 end
if books[1] and tonumber(books[1]) >= tonumber(ARGV[2]) then return 0 end
local staged = redis.call('HVALS', KEYS[1] .. ':' .. ARGV[2] .. ':staged')
if #staged ~= tonumber(ARGV[3]) then return 0 end
for _, run in ipairs(staged) do
  if run ~= run_id() then return 0 end
end
redis.call('HSET', KEYS[1], 'epoch', ARGV[2], 'run_id', run_id())
return 1
