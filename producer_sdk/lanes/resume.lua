-- Lets a paused tenant go on. KEYS: root. ARGV: 1 tenant. Returns 1, or 0 where it was not paused.

local was_paused = is_paused(ARGV[1])
redis.call('HDEL', PAUSED, ARGV[1])
let_go(ARGV[1], 'paused')
look_again(ARGV[1])
return was_paused and 1 or 0
