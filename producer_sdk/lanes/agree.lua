-- How many shards the fleet has: the first who asks says it. KEYS: root. ARGV: 1 how many the caller knows of, 2 '1' to
-- change it, 3 '1' where this shard is used no more: then its permanent keys go, but for a week's word of the change.
-- Returns the number that holds.

if ARGV[2] == '1' then redis.call('HSET', STATE, 'shards', ARGV[1]) end
redis.call('HSETNX', STATE, 'shards', ARGV[1])
if ARGV[3] == '1' then
  local version = redis.call('HGET', STATE, 'limits')
  if version then
    redis.call('UNLINK', LIMITS .. version)
    redis.call('HDEL', STATE, 'limits')
  end
  redis.call('EXPIRE', STATE, 604800)
elseif ARGV[2] == '1' then redis.call('PERSIST', STATE) end
return tonumber(redis.call('HGET', STATE, 'shards'))
