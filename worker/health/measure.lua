-- What an answer says of its deployment's speed; stands before finish.lua. Means in which a new answer counts an eighth.
-- The deployment's fields: answers (in the means; after `stale` ms without one they begin anew), first_us (until the first
-- token), rated (answers long enough to tell), token_us (for each token), output_mt (thousandths of tokens of an answer),
-- measured (when)
local function mean(old, new, answers, least)
  if answers <= 1 then return math.floor(new) end
  if answers > 4 then new = math.min(new, 4 * math.max(old, least)) end
  return math.floor(old + (new - old) / math.min(answers, 8))
end

-- said: ms to the first token ("": nothing is said), "1": it had not come by then, the answer's tokens, ms it took after
-- the first, fewest tokens that tell a pace, stale ms
local function measure(key, now, said)
  local first, tokens = tonumber(said[1]), tonumber(said[3])
  if not first then return end
  local kept = redis.call('HMGET', key, 'answers', 'first_us', 'rated', 'token_us', 'output_mt', 'measured')
  for at = 1, 6 do kept[at] = tonumber(kept[at]) or 0 end
  if now - kept[6] > tonumber(said[6]) then kept = {0, 0, 0, 0, 0} end
  local answers, silent = kept[1] + 1, said[2] == '1'
  if silent and (kept[1] == 0 or first * 1000 <= kept[2]) then return end
  redis.call('HSET', key, 'answers', answers, 'first_us', mean(kept[2], first * 1000, answers, 1000), 'measured', now)
  if silent then return end
  redis.call('HSET', key, 'output_mt', mean(kept[5], tokens * 1000, answers, 1e9), 'rated', kept[3])
  if tokens >= tonumber(said[5]) then
    local pace = mean(kept[4], tonumber(said[4]) * 1000 / (tokens - 1), kept[3] + 1, 100)
    redis.call('HSET', key, 'rated', kept[3] + 1, 'token_us', pace)
  end
end
