-- KEYS: root. ARGV: tags. Returns 1 for each tag that holds its job, else 0.

local replies = {}
for i, tag in ipairs(ARGV) do
  local _, is_live = holder(tag)
  replies[i] = is_live and 1 or 0
end
return replies
