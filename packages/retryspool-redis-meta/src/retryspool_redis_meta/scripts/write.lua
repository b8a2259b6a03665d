-- Writes, one after the other: five arguments each, which is kind, id and what the kind needs. One answer each, a text:
-- "ok <head>\n<body>" (the body only where the caller can't know it), "conflict <head>", or a word that says why not.
-- ARGV[1] is 1 if the caller will wait for the disk.

local now = clock()
local is_work, saw_another_ones = false, false
local kinds = {}

-- Stores a record; `before` is where it was in the indexes, if it was.
local function stored(id, before, r, body)
  r.updated = now
  write(id, r, body)
  local place = place_of(r)
  reindex(id, before, place)
  is_work = is_work or (r.owner == '' and place.due ~= NEVER)
  return 'ok ' .. r.head
end

function kinds.store(id, head, body)
  if call('EXISTS', key_of(id)) == 1 then
    saw_another_ones = true
    return 'exists'
  end
  local new = parse(head)
  new.version = '1'
  new.created = new.created == UNSET and now or new.created
  return stored(id, nil, new, body)
end

function kinds.update(id, head, body, if_version)
  local old, why = read(id)
  if not old then
    return why
  end
  if if_version ~= '' and old.version ~= if_version then
    return 'conflict ' .. old.head
  end
  local new = parse(head)
  new.version = increment(old.version)
  new.created = new.created == UNSET and old.created or new.created
  if call('SREM', base .. ':damaged', id) == 1 then
    return stored(id, nil, new, body) -- it was in no index, and is whole again
  end
  return stored(id, place_of(old), new, body)
end

function kinds.move(id, from, to)
  local r, why = read(id)
  if not r then
    return why
  end
  if r.state ~= from then
    return 'conflict ' .. r.head
  end
  if from == to then
    saw_another_ones = true
    return 'ok ' .. r.head .. '\n' .. r.body
  end
  local before = place_of(r)
  r.version, r.state, r.origin, r.owner, r.lease_expires = increment(r.version), to, NOWHERE, '', UNSET
  return stored(id, before, r) .. '\n' .. r.body
end

function kinds.renew(id, version, seconds, micros)
  local r, why = read(id)
  if not r then
    return why
  end
  if r.version ~= version or r.state ~= ACTIVE then
    return 'conflict ' .. r.head
  end
  local before = place_of(r)
  r.version, r.lease_expires = increment(r.version), plus(now, seconds, micros)
  return stored(id, before, r) .. '\n' .. r.body
end

function kinds.delete(id, if_version)
  local old, why = read(id)
  if old and if_version ~= '' and old.version ~= if_version then
    return 'conflict ' .. old.head
  end
  if not old and (why == 'missing' or if_version ~= '') then
    return why
  end
  call('DEL', key_of(id)) -- first, since it's allowed on a server that is out of memory, and with it all that follows
  if old then
    reindex(id, place_of(old), nil)
  else
    for state = 0, 5 do
      leave_state(tostring(state), id)
    end
  end
  call('SREM', base .. ':damaged', id)
  return 'ok'
end

function kinds.damaged(id, state)
  local old = read(id)
  if old then
    leave_lane(place_of(old), id)
  end
  set_aside(id, old and old.state or state)
  return 'ok'
end

-- Sets a note, or removes it: a change that ends the waiting of others, as work does.
function kinds.note(name, what, text)
  if what == 'set' then
    call('HSET', base .. ':notes', name, text)
  else
    call('HDEL', base .. ':notes', name)
  end
  is_work = true
  return 'ok'
end

local answers = {}
for at = 2, #ARGV, 5 do
  local done, answer = pcall(kinds[ARGV[at]], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3], ARGV[at + 4])
  if not done then
    answer = 'error ' .. (type(answer) == 'table' and answer.err or tostring(answer))
  end
  answers[#answers + 1] = answer
end
write_counts()
if is_work then
  call('XADD', base .. ':changes', 'MAXLEN', '~', 1, '*', 'at', now) -- "~" keeps some more, at half the time
elseif saw_another_ones and ARGV[1] == '1' then
  -- To wait for the disk means for what this connection wrote: so that it's told what others wrote before, it writes.
  call('SET', base .. ':synced', now)
end
return answers
