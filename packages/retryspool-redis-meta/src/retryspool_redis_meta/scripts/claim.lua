-- Claims: ARGV is owner, lease in seconds and microseconds, limit, the number of sources, the sources, excluded routes.
-- Returns id, head and body of each, in the order of the contract. Visits the first of each lane that is due, and no
-- message but those it claims; a lane of an excluded route is one step, however many messages wait in it.

local now = clock()
local owner, limit = ARGV[1], tonumber(ARGV[4])
local expires = plus(now, ARGV[2], ARGV[3])
local sources, is_source, excluded = {}, { [NOWHERE] = true }, {}
for at = 6, 5 + ARGV[5] do
  sources[#sources + 1] = ARGV[at]
  is_source[ARGV[at]] = true
end
for at = 6 + ARGV[5], #ARGV do
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

local function claim_from(state)
  local cursor = '-'
  while left > 0 do
    local two = call('ZRANGEBYLEX', heads_of(state), cursor, '+', 'LIMIT', 0, 2)
    if not two[1] then
      return
    end
    local code, due, name = match(two[1], '^(%d+) (%x+) [^ ]+ (.+)$')
    if is_later(due, now) then
      cursor = '(' .. code .. ' g' -- after every time: on to the next priority
    elseif excluded[sub(name, 2)] or (state == ACTIVE and not is_source[sub(name, 1, 1)]) then
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

claim_from(ACTIVE)
for _, state in ipairs(sources) do
  claim_from(state)
end
write_counts()
return claimed
