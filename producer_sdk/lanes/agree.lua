-- How many shards the fleet has: the first who asks says it. KEYS: root. ARGV: 1 how many the caller knows of, 2 '1' to
-- change it. Returns the number that holds.

if ARGV[2] == '1' then redis.call('HSET', STATE, 'shards', ARGV[1]) end
redis.call('HSETNX', STATE, 'shards', ARGV[1])
return tonumber(redis.call('HGET', STATE, 'shards'))
