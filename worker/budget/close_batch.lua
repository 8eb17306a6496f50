-- Gives back what is left of batches; what their lines have drawn stays where it is.
-- ARGV: 2 … the batches. A batch that is not there is closed.
local epoch = current_epoch()
if not epoch then return 0 end
local root = KEYS[1] .. ':' .. epoch
for i = 2, #ARGV do
  local batch = redis.call('HMGET', root .. ':b:' .. ARGV[i], 'total', 'drawn')
  if batch[1] then
    draw(root, ARGV[i], batch[2], batch[1])
    redis.call('DEL', root .. ':b:' .. ARGV[i])
  end
  redis.call('ZREM', root .. ':batches', ARGV[i])
end
return 1
