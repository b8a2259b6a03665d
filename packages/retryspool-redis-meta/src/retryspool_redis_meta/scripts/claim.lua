-- Claims: ARGV is owner, lease in seconds and microseconds, limit, 1 if the oldest are to come first whatever their
-- priority, the number of sources, the sources, excluded routes.
-- Returns id, head and body of each, in the order of the contract. Visits the first of each lane that is due, and no
-- message but those it claims; a lane of an excluded route is one step, however many messages wait in it.

local now = clock()
local owner, limit = ARGV[1], tonumber(ARGV[4])
local expires = plus(now, ARGV[2], ARGV[3])
local sources, is_source, excluded = {}, { [NOWHERE] = true }, {}
for at = 7, 6 + ARGV[6] do
  sources[#sources + 1] = ARGV[at]
  is_source[ARGV[at]] = true
end
for at = 7 + ARGV[6], #ARGV do
  excluded[ARGV[at]] = true
end

local claimed, left = {}, limit

local function claim(id, state)
  local r = read(id)
  if not r or r.state ~= state then
    set_aside(id, state)
    return
  end
  r.origin = state == ACTIVE and r.origin or state
  r.state, r.owner, r.lease_expires, r.updated = ACTIVE, owner, expires, now
  r.version, r.deliveries = increment(r.version), increment(r.deliveries)
  local body = r.body
  write(id, r)
  enter_lane(place_of(r), id)
  if state ~= ACTIVE then
    leave_state(state, id)
    enter_state(ACTIVE, id)
  end
  local n = #claimed
  claimed[n + 1], claimed[n + 2], claimed[n + 3] = id, r.head, body
  left = left - 1
end

-- Takes from the lane whose first message is `head` those that are due before the first of the next lane.
local function take(state, head, priority, name, bound)
  local lane = lane_key(state, priority, name)
  local members = call('ZRANGEBYLEX', lane, '-', bound, 'LIMIT', 0, left)
  call('ZREM', heads_of(state), head)
  if #members > 0 then
    call('ZREM', lane, unpack(members))
  end
  local first = call('ZRANGE', lane, 0, 0)[1]
  if first then
    call('ZADD', heads_of(state), 0, head_of(priority, first, name))
  end
  for _, member in ipairs(members) do
    claim(sub(member, 9), state)
  end
end

local function is_passed_over(state, name)
  return excluded[sub(name, 2)] or (state == ACTIVE and not is_source[sub(name, 1, 1)])
end

local function claim_by_priority(state)
  local cursor = '-'
  while left > 0 do
    local two = call('ZRANGEBYLEX', heads_of(state), cursor, '+', 'LIMIT', 0, 2)
    if not two[1] then
      return
    end
    local code, due, name = match(two[1], '^(%d+) (%x+) [^ ]+ (.+)$')
    if is_later(due, now) then
      cursor = '(' .. code .. ' g' -- after every time: on to the next priority
    elseif is_passed_over(state, name) then
      cursor = '(' .. two[1]
    else
      local bound = '[' .. member_of(now, '~') -- after every id
      if two[2] then
        local next_code, next_due, next_id = match(two[2], '^(%d+) (%x+) ([^ ]+) ')
        if next_code == code and not is_later(next_due, now) then
          bound = '(' .. member_of(next_due, next_id)
        end
      end
      take(state, two[1], sub(code, 3), name, bound)
    end
  end
end

-- Whether one that is due at `due` goes before another, by its id if both are due at once: byte by byte, since Lua
-- compares texts by the server's locale.
local function goes_before(due, id, than_due, than_id)
  if due ~= than_due then
    return is_later(than_due, due)
  end
  for at = 1, math.min(#id, #than_id) do
    local one, other = id:byte(at), than_id:byte(at)
    if one ~= other then
      return one < other
    end
  end
  return #id < #than_id
end

-- The first of a priority, from `cursor` on, that is due and isn't passed over.
local function first_due(state, code, cursor)
  while true do
    local head = call('ZRANGEBYLEX', heads_of(state), cursor, '(' .. code .. ' g', 'LIMIT', 0, 1)[1]
    if not head then
      return nil
    end
    local due, id, name = match(head, '^%d+ (%x+) ([^ ]+) (.+)$')
    if is_later(due, now) then
      return nil
    end
    if not is_passed_over(state, name) then
      return { code = code, head = head, due = due, id = id, name = name }
    end
    cursor = '(' .. head
  end
end

-- The first of each priority.
local function firsts_of(state)
  local firsts, cursor = {}, '-'
  while true do
    local head = call('ZRANGEBYLEX', heads_of(state), cursor, '+', 'LIMIT', 0, 1)[1]
    if not head then
      return firsts
    end
    local code = match(head, '^%d+')
    firsts[#firsts + 1] = first_due(state, code, '[' .. head)
    cursor = '(' .. code .. ' g'
  end
end

-- Merges the priorities: as many steps as messages at the most, each a look at the first of each priority.
local function claim_oldest(state)
  local firsts = firsts_of(state)
  while left > 0 and #firsts > 0 do
    local at = 1
    for other = 2, #firsts do
      if goes_before(firsts[other].due, firsts[other].id, firsts[at].due, firsts[at].id) then
        at = other
      end
    end
    local oldest = firsts[at]
    local rival = first_due(state, oldest.code, '(' .. oldest.head)
    for other, each in ipairs(firsts) do
      if other ~= at and (not rival or goes_before(each.due, each.id, rival.due, rival.id)) then
        rival = each
      end
    end
    local bound = rival and '(' .. member_of(rival.due, rival.id) or '[' .. member_of(now, '~')
    take(state, oldest.head, sub(oldest.code, 3), oldest.name, bound)
    local next_one = first_due(state, oldest.code, '(' .. oldest.head)
    if next_one then
      firsts[at] = next_one
    else
      table.remove(firsts, at)
    end
  end
end

local claim_from = ARGV[5] == '1' and claim_oldest or claim_by_priority
claim_from(ACTIVE)
for _, state in ipairs(sources) do
  claim_from(state)
end
write_counts()
return claimed
