-- What every script begins with: the layout of the store, how a record is read and written, and its indexes.
--
-- KEYS[1] is "{prefix}". All keys begin with it, and so lie in one slot of a cluster. With S a state's number:
--
--   {prefix}:m:<id>         hash      a record: `head`, which the scripts read, and `body`, which is only handed on
--   {prefix}:ids:S          zset      the pages of the state's ids, each named by where it begins
--   {prefix}:ids:S:<begin>  zset      one page: up to PAGE ids, in order; small enough to be stored compactly
--   {prefix}:lane:S:...     zset      the messages of one priority, origin and route: <when due><id>, in order, the time
--                                     in 8 bytes, since it's for every message once more
--   {prefix}:heads:S        zset      the first of each lane, in the order in which they are claimed
--   {prefix}:counts         hash      how many messages a state has
--   {prefix}:damaged        set       ids that claims have come across whose records can't be read
--   {prefix}:notes          hash      the notes, by name
--   {prefix}:changes        stream    the last changes that may be work for somebody, of which only the last counts
--   {prefix}:format         string    the version of this layout
--
-- All numbers of a record are texts: Lua's numbers are doubles, which hold no 64 bits. A time is 15 hexadecimal digits,
-- ten of seconds since the first instant of year 1, five of microseconds. Texts are compared by the server, or as numbers
-- in two parts: Lua compares them by the server's locale.

local base = KEYS[1]
local call = redis.call
local sub, match, format = string.sub, string.match, string.format

local PAGE = 64
local ACTIVE = '1'
local NOWHERE = '-'
local UNSET = '000000000000000'
local NEVER = '497786387ff423f'
local SECONDS_TO_1970 = 62135596800

local function clock()
  local time = call('TIME')
  return format('%010x%05x', time[1] + SECONDS_TO_1970, time[2])
end

local function plus(time, seconds, micros)
  local s, m = tonumber(sub(time, 1, 10), 16) + seconds, tonumber(sub(time, 11), 16) + micros
  if m >= 1000000 then
    s, m = s + 1, m - 1000000
  end
  return format('%010x%05x', s, m)
end

local function is_later(time, than)
  local seconds, others = tonumber(sub(time, 1, 10), 16), tonumber(sub(than, 1, 10), 16)
  if seconds ~= others then
    return seconds > others
  end
  return tonumber(sub(time, 11), 16) > tonumber(sub(than, 11), 16)
end

local function increment(number)
  if #number < 15 then
    return format('%d', number + 1)
  end
  local kept, nines = match(number, '^(.-)(9*)$')
  if kept == '' then
    return '1' .. string.rep('0', #nines)
  end
  return sub(kept, 1, -2) .. (sub(kept, -1) + 1) .. string.rep('0', #nines)
end

-- A time and an id as a lane has them. Sorts by both.
local function member_of(time, id)
  return struct.pack('>I5I3', tonumber(sub(time, 1, 10), 16), tonumber(sub(time, 11), 16)) .. id
end

local function parts_of(member)
  local seconds, micros = struct.unpack('>I5I3', member)
  return format('%010x%05x', seconds, micros), sub(member, 9)
end

-- Records

local HEAD = '^(%d+) ([0-5]) ([0-5-]) (%d+) (%d+) (%d+) (%x+) (%x+) (%x+) (%x+) ([^ ]*) ([^ ]*)$'

local function parse(head)
  local r = {}
  r.version, r.state, r.origin, r.priority, r.attempts, r.deliveries, r.next_retry, r.lease_expires, r.created,
    r.updated, r.owner, r.route = match(head, HEAD)
  if not r.version or #r.next_retry ~= 15 or #r.lease_expires ~= 15 or #r.created ~= 15 or #r.updated ~= 15 then
    return nil
  end
  return r
end

local function text_of(r)
  return table.concat({
    r.version, r.state, r.origin, r.priority, r.attempts, r.deliveries, r.next_retry, r.lease_expires, r.created,
    r.updated, r.owner, r.route
  }, ' ')
end

local function key_of(id)
  return base .. ':m:' .. id
end

-- Returns the record; or nothing, and 'missing' or 'damaged'.
local function read(id)
  local found = redis.pcall('HMGET', key_of(id), 'head', 'body')
  if not found.err and found[1] and found[2] then
    local r = parse(found[1])
    if r then
      r.head, r.body = found[1], found[2]
      return r
    end
  end
  return nil, call('EXISTS', key_of(id)) == 0 and 'missing' or 'damaged'
end

local function write(id, r, body)
  r.head = text_of(r)
  if body then
    call('HSET', key_of(id), 'head', r.head, 'body', body)
  else
    call('HSET', key_of(id), 'head', r.head)
  end
end

-- How many messages each state has: counted while a script runs, written at its end

local gained = {}

local function count(state, by)
  gained[state] = (gained[state] or 0) + by
end

local function write_counts()
  for state, by in pairs(gained) do
    if by ~= 0 then
      call('HINCRBY', base .. ':counts', state, by)
    end
  end
end

-- The ids of a state, in order, in pages

local function pages_of(state)
  return base .. ':ids:' .. state
end

local function page_at(state, id)
  return call('ZREVRANGEBYLEX', pages_of(state), '[' .. id, '-', 'LIMIT', 0, 1)[1]
end

local function page_key(state, begin)
  return base .. ':ids:' .. state .. ':' .. begin
end

-- Halves a page that is full; one that grew at its end, as with ids that rise, only begins the next.
local function split(state, begin, id)
  local key = page_key(state, begin)
  local last = call('ZRANGE', key, -1, -1)[1]
  local from = last == id and PAGE or PAGE / 2
  local moved = call('ZRANGE', key, from, -1)
  local scored = {}
  for number, each in ipairs(moved) do
    scored[2 * number - 1], scored[2 * number] = 0, each
  end
  call('ZADD', page_key(state, moved[1]), unpack(scored))
  call('ZREMRANGEBYRANK', key, from, -1)
  call('ZADD', pages_of(state), 0, moved[1])
end

-- Puts the ids of the page that begins at `right` into the one before, if they are few together.
local function merge(state, left, right)
  local from, into = page_key(state, right), page_key(state, left)
  if call('ZCARD', from) + call('ZCARD', into) > PAGE / 2 then
    return false
  end
  local scored = {}
  for number, each in ipairs(call('ZRANGE', from, 0, -1)) do
    scored[2 * number - 1], scored[2 * number] = 0, each
  end
  call('ZADD', into, unpack(scored))
  call('DEL', from)
  call('ZREM', pages_of(state), right)
  return true
end

local function merge_with_neighbours(state, begin)
  local before = call('ZREVRANGEBYLEX', pages_of(state), '(' .. begin, '-', 'LIMIT', 0, 1)[1]
  if before and merge(state, before, begin) then
    begin = before
  end
  local after = call('ZRANGEBYLEX', pages_of(state), '(' .. begin, '+', 'LIMIT', 0, 1)[1]
  if after then
    merge(state, begin, after)
  end
end

local function enter_state(state, id)
  local begin = page_at(state, id)
  if not begin then
    begin = ''
    call('ZADD', pages_of(state), 0, begin)
  end
  local key = page_key(state, begin)
  if call('ZADD', key, 0, id) == 1 then
    count(state, 1)
    if call('ZCARD', key) > PAGE then
      split(state, begin, id)
    end
  end
end

local function leave_state(state, id)
  local begin = page_at(state, id)
  local key = begin and page_key(state, begin)
  if not begin or call('ZREM', key, id) == 0 then
    return
  end
  count(state, -1)
  local size = call('ZCARD', key)
  if size == 0 then
    call('ZREM', pages_of(state), begin)
  elseif size % 8 == 0 and size <= PAGE / 4 then
    merge_with_neighbours(state, begin)
  end
end

-- What is due when: lanes, and the first of each lane

local function heads_of(state)
  return base .. ':heads:' .. state
end

local function lane_key(state, priority, name)
  return base .. ':lane:' .. state .. ':' .. priority .. ':' .. name
end

-- Where a record is in the indexes: its state, its priority, when it's due, and its lane's name within these, which is
-- where it was claimed from and its route.
local function place_of(r)
  return {
    state = r.state,
    priority = r.priority,
    due = r.state == ACTIVE and r.lease_expires or r.next_retry,
    lane = (r.state == ACTIVE and r.origin or NOWHERE) .. r.route
  }
end

-- Sorts by priority, then when due, then id. The number of digits makes numbers of any size sort as texts.
local function head_of(priority, member, name)
  local due, id = parts_of(member)
  return format('%02d', #priority) .. priority .. ' ' .. due .. ' ' .. id .. ' ' .. name
end

local function enter_lane(place, id)
  if place.due == NEVER then
    return
  end
  local member = member_of(place.due, id)
  local key = lane_key(place.state, place.priority, place.lane)
  call('ZADD', key, 0, member)
  local first = call('ZRANGE', key, 0, 1)
  if first[1] == member then
    if first[2] then
      call('ZREM', heads_of(place.state), head_of(place.priority, first[2], place.lane))
    end
    call('ZADD', heads_of(place.state), 0, head_of(place.priority, member, place.lane))
  end
end

local function leave_lane(place, id)
  if place.due == NEVER then
    return
  end
  local member = member_of(place.due, id)
  local key = lane_key(place.state, place.priority, place.lane)
  local first = call('ZRANGE', key, 0, 1)
  if call('ZREM', key, member) == 1 and first[1] == member then
    call('ZREM', heads_of(place.state), head_of(place.priority, member, place.lane))
    if first[2] then
      call('ZADD', heads_of(place.state), 0, head_of(place.priority, first[2], place.lane))
    end
  end
end

-- Makes the indexes say that `id` is at `new`, where they said `old`; either may be nil.
local function reindex(id, old, new)
  local same_state = old and new and old.state == new.state
  if same_state and old.due == new.due and old.priority == new.priority and old.lane == new.lane then
    return
  end
  if old then
    leave_lane(old, id)
  end
  if new then
    enter_lane(new, id)
  end
  if not same_state then
    if old then
      leave_state(old.state, id)
    end
    if new then
      enter_state(new.state, id)
    end
  end
end

-- Takes an id whose record can't be read out of the way of claims. The record itself is kept.
local function set_aside(id, state)
  leave_state(state, id)
  if call('EXISTS', key_of(id)) == 1 then
    call('SADD', base .. ':damaged', id)
  end
end
