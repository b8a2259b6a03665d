-- The earliest time at which a message of the state ARGV[1] is due; nothing without any. One step for each priority.

local oldest
local cursor = '-'
while true do
  local head = call('ZRANGEBYLEX', heads_of(ARGV[1]), cursor, '+', 'LIMIT', 0, 1)[1]
  if not head then
    break
  end
  local code, due = match(head, '^(%d+) (%x+) ')
  if not oldest or is_later(oldest, due) then
    oldest = due
  end
  cursor = '(' .. code .. ' g' -- after every time
end
if not oldest and tonumber(call('HGET', base .. ':counts', ARGV[1]) or '0') > 0 then
  return NEVER
end
return oldest
